//! Wakes this process's runner when there is something for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Due times that are kept; what comes beyond is found by the runner's own looks.
const MOST: usize = 1024;

/// When a runner should look, as far as this process knows.
#[derive(Default)]
pub(crate) struct Alarm {
    changed: Notify,
    due: Mutex<BinaryHeap<Reverse<Instant>>>,
}

impl Alarm {
    /// Something is due after this time; zero for at once.
    pub(crate) fn set(&self, after: Duration) {
        let at = Instant::now() + after;
        let mut due = self.due();
        let first = due.peek().is_none_or(|Reverse(first)| at < *first);
        if first || due.len() < MOST {
            due.push(Reverse(at));
        }
        drop(due);
        if first {
            self.changed.notify_one();
        }
    }

    /// Returns when something is due, or `latest` has come.
    pub(crate) async fn rung(&self, latest: Instant) {
        loop {
            let next = self.due().peek().map_or(latest, |Reverse(at)| latest.min(*at));
            tokio::select! {
                biased;
                () = sleep_until(next) => return,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Forgets what was due: somebody looks.
    pub(crate) fn quiet(&self) {
        let (mut due, now) = (self.due(), Instant::now());
        while due.peek().is_some_and(|Reverse(at)| *at <= now) {
            due.pop();
        }
    }

    fn due(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Instant>>> {
        // A heap of times is whole after any panic.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_when_the_first_is_due_and_at_the_latest_when_told() {
        const SECOND: Duration = Duration::from_secs(1);
        let (alarm, started) = (Alarm::default(), Instant::now());
        alarm.rung(started + SECOND).await;
        assert_eq!(started.elapsed(), SECOND);
        alarm.set(5 * SECOND);
        alarm.set(3 * SECOND);
        alarm.rung(started + 100 * SECOND).await;
        assert_eq!(started.elapsed(), 4 * SECOND);
        alarm.quiet();
        alarm.set(Duration::ZERO);
        alarm.rung(started + 100 * SECOND).await;
        assert_eq!(started.elapsed(), 4 * SECOND);
        alarm.quiet();
        let meanwhile = async {
            tokio::time::sleep(SECOND).await;
            alarm.set(Duration::ZERO);
        };
        tokio::join!(alarm.rung(started + 100 * SECOND), meanwhile);
        assert_eq!(started.elapsed(), 5 * SECOND);
    }

    #[test]
    fn keeps_only_so_many() {
        let alarm = Alarm::default();
        for after in 0..2 * MOST as u64 {
            alarm.set(Duration::from_secs(after));
        }
        assert_eq!(alarm.due().len(), MOST);
    }
}
