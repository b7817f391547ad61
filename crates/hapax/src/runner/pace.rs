//! What waited through an outage comes back at a pace, not all at once, when the breaker has closed.

use std::time::Duration;

use tokio::time::Instant;

/// Starts a second that any destination bears.
const LEAST: f64 = 10.0;
/// How much more than usual is let through at first.
const MORE: f64 = 1.5;
/// How long it stays at that.
const STEADY: Duration = Duration::from_secs(10);
/// From then on it doubles in this time: nobody waits for ever behind a long backlog.
const DOUBLES: Duration = Duration::from_secs(5);
/// The time over which starts are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// How often a destination is called, and how often it may be until its backlog is gone.
#[derive(Debug)]
pub(super) struct Pace {
    /// The window in hand: its start, and what started in it.
    since: Instant,
    starts: u32,
    /// Starts a second in the last whole window.
    usual: f64,
    catching_up: Option<CatchingUp>,
}

#[derive(Debug)]
struct CatchingUp {
    since: Instant,
    usual: f64,
    tokens: f64,
    filled: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            starts: 0,
            usual: 0.0,
            catching_up: None,
        }
    }

    /// Counts a start.
    pub(super) fn started(&mut self, now: Instant) {
        if let Some(pace) = &mut self.catching_up {
            pace.tokens -= 1.0;
            return;
        }
        self.roll(now);
        self.starts += 1;
    }

    /// The breaker has opened: what was usual until now is what it will bear.
    pub(super) fn opened(&mut self, now: Instant) {
        if self.catching_up.take().is_none() {
            self.roll(now);
            let now_rate = f64::from(self.starts) / WINDOW.as_secs_f64();
            self.usual = self.usual.max(now_rate);
        }
    }

    /// The breaker has closed: there may be a backlog.
    pub(super) fn closed(&mut self, now: Instant) {
        self.catching_up = Some(CatchingUp {
            since: now,
            usual: self.usual.max(LEAST),
            tokens: 0.0,
            filled: now,
        });
    }

    /// Nothing is left of the backlog.
    pub(super) fn caught_up(&mut self, now: Instant) {
        self.catching_up = None;
        (self.since, self.starts) = (now, 0);
    }

    /// How many may start now; `None` for as many as there are.
    pub(super) fn allows(&mut self, now: Instant) -> Option<usize> {
        let pace = self.catching_up.as_mut()?;
        let over = (now - pace.since).saturating_sub(STEADY).as_secs_f64() / DOUBLES.as_secs_f64();
        let rate = pace.usual * MORE * over.exp2();
        // No more at once than in a tenth of a second, or one.
        let most = (rate / 10.0).max(1.0);
        pace.tokens = (pace.tokens + rate * (now - pace.filled).as_secs_f64()).min(most);
        pace.filled = now;
        Some(pace.tokens.max(0.0) as usize)
    }

    fn roll(&mut self, now: Instant) {
        let elapsed = now - self.since;
        if elapsed >= WINDOW {
            self.usual = f64::from(self.starts) / elapsed.as_secs_f64();
            (self.since, self.starts) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts in each second while there is always more.
    fn rates(pace: &mut Pace, from: Instant, seconds: u64) -> Vec<usize> {
        let second = |second: u64| {
            let mut sum = 0;
            for milli in (0..1000).step_by(20) {
                let now = from + Duration::from_millis(second * 1000 + milli);
                for _ in 0..pace.allows(now).unwrap() {
                    pace.started(now);
                    sum += 1;
                }
            }
            sum
        };
        (0..seconds).map(second).collect()
    }

    #[test]
    fn a_backlog_comes_back_at_half_more_than_usual_and_then_faster() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..2000 {
            assert_eq!(pace.allows(now), None);
            pace.started(now);
            now += Duration::from_millis(20);
        }
        pace.opened(now);
        now += Duration::from_secs(30);
        pace.closed(now);
        let rates = rates(&mut pace, now, 30);
        assert!(rates[1..10].iter().all(|rate| (72..=78).contains(rate)), "{rates:?}");
        assert!((290..=330).contains(&rates[20]), "{rates:?}");
        pace.caught_up(now);
        assert_eq!(pace.allows(now), None);
    }

    #[test]
    fn where_nothing_was_usual_a_little_is_let_through() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.opened(now);
        pace.closed(now);
        let rates = rates(&mut pace, now, 5);
        assert!(rates[1..].iter().all(|rate| (14..=16).contains(rate)), "{rates:?}");
    }
}
