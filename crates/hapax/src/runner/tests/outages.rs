//! What is due waits while its destination is down, and comes back little by little.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hapax_core::policy::{FailureClass, RetryPolicy};
use hapax_core::{StateName, Store};
use tokio::time::sleep;

use super::world::*;
use crate::runner::Attempted;

/// An upstream that can be down; what reaches it is noted.
#[derive(Clone)]
struct Upstream {
    down: Arc<AtomicBool>,
    class: FailureClass,
    starts: Starts,
}

impl Upstream {
    fn new(class: FailureClass) -> Self {
        Self {
            down: Arc::new(AtomicBool::new(true)),
            class,
            starts: Starts::new(),
        }
    }

    fn handler(&self) -> impl Fn(crate::Run, String) -> std::future::Ready<Doing> + use<> {
        let upstream = self.clone();
        move |_, key| {
            upstream.starts.note(&key);
            std::future::ready(Doing::Ends(match upstream.down.load(Ordering::SeqCst) {
                true => failed(upstream.class),
                false => Attempted::Done(outcome("a")),
            }))
        }
    }

    fn between(&self, from: Duration, to: Duration) -> usize {
        self.starts
            .all()
            .iter()
            .filter(|(_, at)| (from..to).contains(at))
            .count()
    }
}

fn sensitive() -> RetryPolicy {
    let mut policy = policy();
    policy.breaker.minimum_calls = 10;
    policy
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_pauses_the_intake_and_nothing_dies() {
    for class in [FailureClass::Unsent, FailureClass::Ambiguous] {
        let (store, upstream) = (memory(), Upstream::new(class));
        let process = Process::start(&store, retrying(sensitive()), upstream.handler());
        for number in 0..500 {
            process.enqueue(&number.to_string()).await;
        }
        sleep(60 * SECOND).await;
        let census = store.census(false).await.unwrap();
        assert_eq!((census.waiting, census.dead, census.unknown), (500, 0, 0), "{class}");
        let (before, during) = (
            upstream.between(Duration::ZERO, 2 * SECOND),
            upstream.between(2 * SECOND, 60 * SECOND),
        );
        assert!(before <= 60, "{class} {before}");
        assert!(
            (5..=20).contains(&during),
            "{class}: probed at least every 10 s: {during}"
        );
        for number in 0..500 {
            let tries = record(&store, &number.to_string()).await.tries;
            assert!(tries <= 1, "{class} {number}: {tries}");
        }

        upstream.down.store(false, Ordering::SeqCst);
        sleep(60 * SECOND).await;
        for number in 0..500 {
            let state = record(&store, &number.to_string()).await.state.name();
            assert_eq!(state, StateName::Done, "{class} {number}");
        }
        assert_eq!(process.log.count("Died"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_one_that_probes_all_the_time_does_not_die_of_it() {
    let (store, upstream) = (memory(), Upstream::new(FailureClass::Ambiguous));
    let mut policy = policy();
    policy.breaker.minimum_calls = 1;
    policy.budget.floor = 0.0;
    let process = Process::start(&store, retrying(policy), upstream.handler());
    process.enqueue("k").await;
    sleep(100 * SECOND).await;
    let probes = upstream.starts.all().len();
    assert!((8..=30).contains(&probes), "{probes}");
    let waits = record(&store, "k").await;
    assert_eq!((waits.state.name(), waits.tries), (StateName::Waiting, 1));
    upstream.down.store(false, Ordering::SeqCst);
    sleep(30 * SECOND).await;
    assert_eq!(record(&store, "k").await.state.name(), StateName::Done);
}

#[tokio::test(start_paused = true)]
async fn while_it_closes_the_traffic_comes_back_little_by_little() {
    let (store, upstream) = (memory(), Upstream::new(FailureClass::Unsent));
    upstream.down.store(false, Ordering::SeqCst);
    let process = Process::start(&store, retrying(sensitive()), upstream.handler());
    // 50 a second, so that the breaker knows what is normal.
    let engine = process.engine.clone();
    let offered = tokio::spawn(async move {
        for number in 0..2750 {
            let input = hapax_core::Input("x".into());
            engine
                .enqueue(arrival(&number.to_string()), input, Duration::ZERO)
                .await
                .unwrap();
            sleep(20 * MILLI).await;
        }
    });
    sleep(20 * SECOND).await;
    upstream.down.store(true, Ordering::SeqCst);
    sleep(20 * SECOND).await;
    upstream.down.store(false, Ordering::SeqCst);
    sleep(15 * SECOND).await;
    let rates: Vec<_> = (40..55)
        .map(|second| upstream.between(second * SECOND, (second + 1) * SECOND))
        .collect();
    let first = rates.iter().position(|rate| *rate > 2).unwrap();
    let ramp = &rates[first..first + 4];
    assert!(ramp.is_sorted() && ramp[3] <= 60, "{rates:?}");
    // The backlog comes at a pace, too.
    assert!(rates[first..].iter().all(|rate| *rate <= 80), "{rates:?}");
    assert!(process.log.count("BreakerChanged open") > 0);
    for state in ["ramping", "closed"] {
        assert_eq!(process.log.count(&format!("BreakerChanged {state}")), 1, "{state}");
    }
    offered.await.unwrap();
    sleep(90 * SECOND).await;
    assert_eq!(store.census(false).await.unwrap().waiting, 0);
    assert_eq!(process.log.count("Died"), 0);
}

#[tokio::test(start_paused = true)]
async fn retries_keep_to_the_budget() {
    let (store, failures) = (memory(), Arc::new(AtomicUsize::new(0)));
    let mut policy = policy();
    policy.limits.tries = 1000;
    policy.breaker.minimum_calls = u32::MAX;
    policy.budget.floor = 10.0;
    let starts = Starts::new();
    let (noted, counted) = (starts.clone(), Arc::clone(&failures));
    let process = Process::start(&store, retrying(policy), move |_, key: String| {
        let before = noted.note(&key);
        counted.fetch_add(1, Ordering::SeqCst);
        let bad = key.starts_with("bad") && before < 50;
        std::future::ready(Doing::Ends(match bad {
            true => failed(FailureClass::Ambiguous),
            false => Attempted::Done(outcome("a")),
        }))
    });
    for number in 0..100 {
        process.enqueue(&format!("bad {number}")).await;
    }
    sleep(SECOND).await;
    for number in 0..100 {
        process.enqueue(&format!("good {number}")).await;
    }
    sleep(100 * MILLI).await;
    let good = starts.all().iter().filter(|(key, _)| key.starts_with("good")).count();
    assert_eq!(good, 100, "first tries do not stand behind retries");
    sleep(98 * SECOND).await;
    let retries = starts.all().len() - 200;
    assert!(
        (700..=1060).contains(&retries),
        "about 10 a second and a fifth of 200: {retries}"
    );
    let tries: u32 = {
        let mut sum = 0;
        for number in 0..100 {
            sum += record(&store, &format!("bad {number}")).await.tries;
        }
        sum
    };
    assert_eq!(tries as usize, retries + 100, "what was put off is no try");
    assert!(process.log.count("PutOff") > 0);
}
