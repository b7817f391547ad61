mod counting;

use std::sync::atomic::AtomicBool;

use hapax_core::policy::FailureClass;
use tokio::time::{sleep, sleep_until};

use super::*;
use crate::retry::{Failed, retry};

const CLIENTS: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);

struct Down;

impl Failed for Down {
    fn class(&self) -> FailureClass {
        FailureClass::Unsent
    }
}

/// The other side: up or down, and when it was asked.
#[derive(Default)]
struct Upstream {
    down: AtomicBool,
    asked: Mutex<Vec<Duration>>,
}

impl Upstream {
    fn ask(&self, at: Duration) -> Result<(), Down> {
        self.asked.lock().unwrap().push(at);
        if self.down.load(Ordering::Relaxed) {
            Err(Down)
        } else {
            Ok(())
        }
    }
}

/// The times of all requests to an upstream that is up for 40 s, down for 60 s, and up again for 40 s, under
/// [`CLIENTS`] that each ask once a second whatever becomes of it.
async fn storm() -> Vec<Duration> {
    let destination = Destination::new(RetryPolicy::default()).unwrap();
    let upstream = Arc::new(Upstream::default());
    let started = Instant::now();
    for client in 0..CLIENTS {
        let (destination, upstream) = (destination.clone(), Arc::clone(&upstream));
        tokio::spawn(async move {
            let mut turn = started + SECOND * client / CLIENTS;
            loop {
                sleep_until(turn).await;
                turn += SECOND;
                let (upstream, destination) = (Arc::clone(&upstream), destination.clone());
                tokio::spawn(async move {
                    let ask = |_| {
                        let answer = upstream.ask(started.elapsed());
                        async { answer }
                    };
                    let _ = retry(&destination, "", ask).await;
                });
            }
        });
    }
    sleep(40 * SECOND).await;
    upstream.down.store(true, Ordering::Relaxed);
    sleep(60 * SECOND).await;
    upstream.down.store(false, Ordering::Relaxed);
    sleep(40 * SECOND).await;
    upstream.asked.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_storm_and_ends_soon() {
    let asked = storm().await;
    let mut seconds = [0u32; 140];
    asked.iter().for_each(|at| seconds[at.as_secs() as usize] += 1);

    let most = seconds[40..100].iter().max().unwrap();
    assert!(*most <= 250, "1.25 × the offered load: {seconds:?}");
    assert!(
        seconds[40..100].iter().any(|count| *count <= 1),
        "the breaker never opened: {seconds:?}"
    );

    let down = asked.iter().filter(|at| (40..110).contains(&at.as_secs()));
    let gap = down
        .clone()
        .zip(down.skip(1))
        .map(|(one, next)| *next - *one)
        .max()
        .unwrap();
    assert!(gap > SECOND && gap <= 10 * SECOND, "probed after {gap:?}");

    let back = asked.iter().find(|at| at.as_secs() >= 100).unwrap().as_secs() as usize;
    assert!(back < 110, "no probe: {seconds:?}");
    let after = &seconds[back..];
    assert!(after[1] < 100, "no ramp: {seconds:?}");
    assert!(after.iter().all(|count| *count <= 300), "a spike: {seconds:?}");
    assert!(
        after[10..].iter().all(|count| count.abs_diff(200) <= 5),
        "not back to normal: {seconds:?}"
    );
}
