//! One clock for a store, built from two that cannot be trusted alone.
//!
//! The wall clock is shared between processes but jumps; the monotonic clock never jumps but means nothing to
//! another process. [`StoreClock`] follows the wall clock, never backwards, and refuses to follow a forward jump
//! larger than `max_step`: it goes on at the monotonic clock's pace, so that nothing expires by a mistake of the
//! clock, until someone accepts the jump (or restarts the process: downtime is no jump). After a large jump back it
//! goes on at the monotonic pace too, so that leases still end.

use std::time::Duration;

use crate::time::{Timestamp, millis};

/// The store's time, from readings of the wall and monotonic clocks of one process.
#[derive(Debug, Clone)]
pub struct StoreClock {
    max_step_ms: i64,
    anchor: Option<Anchor>,
    jump_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    now_ms: i64,
    monotonic: Duration,
}

impl Anchor {
    fn expected_ms(self, monotonic: Duration) -> i64 {
        self.now_ms.saturating_add(self.elapsed_ms(monotonic))
    }

    fn elapsed_ms(self, monotonic: Duration) -> i64 {
        millis(monotonic.saturating_sub(self.monotonic))
    }

    /// The anchor moved on at the monotonic pace, by whole milliseconds: the rest counts next time.
    fn at(self, monotonic: Duration) -> Self {
        let elapsed = Duration::from_millis(self.elapsed_ms(monotonic) as u64);
        Self {
            now_ms: self.expected_ms(monotonic),
            monotonic: self.monotonic.saturating_add(elapsed),
        }
    }
}

impl StoreClock {
    /// A clock that follows forward jumps up to `max_step`.
    #[must_use]
    pub fn new(max_step: Duration) -> Self {
        Self {
            max_step_ms: millis(max_step),
            anchor: None,
            jump_ms: 0,
        }
    }

    /// The store's time for a reading of both clocks. `monotonic` counts from any fixed point of this process.
    pub fn read(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        let Some(anchor) = self.anchor else {
            return self.follow(wall.as_millis(), monotonic);
        };
        let expected = anchor.expected_ms(monotonic);
        let ahead = wall.as_millis().saturating_sub(expected);
        // Zero if in step, or back in step as when the jump was undone.
        self.jump_ms = if ahead > self.max_step_ms { ahead } else { 0 };
        if ahead.saturating_abs() > self.max_step_ms {
            // What was given out is noted, so that a wall clock that comes back into step cannot take it back.
            self.anchor = Some(anchor.at(monotonic));
            return Timestamp::from_millis(expected);
        }
        self.follow(wall.as_millis().max(anchor.now_ms), monotonic)
    }

    /// What a reading taken at `monotonic` is checked against: the last time given out, and the time expected if the
    /// wall clock kept step. For stores that apply [`read`](Self::read)'s rule where the wall clock is, in SQL.
    /// `None` before the first reading.
    #[must_use]
    pub fn bounds(&self, monotonic: Duration) -> Option<(Timestamp, Timestamp)> {
        self.anchor.map(|anchor| {
            (
                Timestamp::from_millis(anchor.now_ms),
                Timestamp::from_millis(anchor.expected_ms(monotonic)),
            )
        })
    }

    /// The largest step that is followed.
    #[must_use]
    pub fn max_step(&self) -> Duration {
        Duration::from_millis(self.max_step_ms as u64)
    }

    /// Moves the clock up to a time seen elsewhere (another process on the same store). Never back.
    pub fn advance_to(&mut self, seen: Timestamp) {
        if let Some(anchor) = &mut self.anchor {
            anchor.now_ms = anchor.now_ms.max(seen.as_millis());
        }
    }

    /// How far the wall clock is ahead of the store's time after a jump that was not accepted; `None` if in step.
    #[must_use]
    pub fn jump(&self) -> Option<Duration> {
        (self.jump_ms > 0).then(|| Duration::from_millis(self.jump_ms as u64))
    }

    /// Accepts a jump: the next reading follows the wall clock wherever it is, though never backwards.
    pub fn accept(&mut self) {
        if let Some(anchor) = &mut self.anchor {
            anchor.now_ms = anchor.now_ms.saturating_add(self.jump_ms);
        }
        self.jump_ms = 0;
    }

    fn follow(&mut self, now_ms: i64, monotonic: Duration) -> Timestamp {
        self.anchor = Some(Anchor { now_ms, monotonic });
        Timestamp::from_millis(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(300);

    fn at(clock: &mut StoreClock, wall_ms: i64, monotonic_ms: u64) -> i64 {
        clock
            .read(Timestamp::from_millis(wall_ms), Duration::from_millis(monotonic_ms))
            .as_millis()
    }

    #[test]
    fn follows_the_wall_clock_but_never_back() {
        let mut clock = StoreClock::new(STEP);
        assert_eq!(at(&mut clock, 1_000, 0), 1_000);
        assert_eq!(at(&mut clock, 1_500, 400), 1_500);
        assert_eq!(at(&mut clock, 900, 500), 1_500);
        assert_eq!(at(&mut clock, 1_600, 600), 1_600);
        assert_eq!(clock.jump(), None);
    }

    #[test]
    fn a_jump_of_exactly_the_limit_is_followed() {
        let mut clock = StoreClock::new(STEP);
        at(&mut clock, 0, 0);
        assert_eq!(at(&mut clock, 300_010, 10), 300_010);
        assert_eq!(clock.jump(), None);
        assert_eq!(at(&mut clock, 600_011, 10), 300_010, "one more millisecond is not");
        assert_eq!(clock.jump(), Some(Duration::from_millis(300_001)));
    }

    #[test]
    fn a_larger_jump_is_not_followed_until_accepted() {
        let mut clock = StoreClock::new(STEP);
        at(&mut clock, 1_000, 0);
        assert_eq!(at(&mut clock, 3_601_000, 10), 1_010);
        assert_eq!(at(&mut clock, 3_602_000, 1_010), 2_010);
        assert_eq!(clock.jump(), Some(Duration::from_millis(3_599_990)));
        clock.accept();
        assert_eq!(clock.jump(), None);
        assert_eq!(at(&mut clock, 3_602_100, 1_110), 3_602_100);
    }

    #[test]
    fn goes_on_at_the_monotonic_pace_after_a_large_jump_back() {
        let mut clock = StoreClock::new(STEP);
        assert_eq!(at(&mut clock, 1_000_000, 0), 1_000_000);
        assert_eq!(
            at(&mut clock, 700_010, 10),
            1_000_000,
            "exactly the limit: stands still"
        );
        assert_eq!(at(&mut clock, 100_000, 2_010), 1_002_000);
        assert_eq!(at(&mut clock, 101_000, 3_010), 1_003_000);
        assert_eq!(clock.jump(), None);
    }

    #[test]
    fn coming_back_into_step_takes_no_time_back() {
        for jump in [-400_000, 400_000] {
            let mut clock = StoreClock::new(STEP);
            at(&mut clock, 1_000_000, 0);
            assert_eq!(at(&mut clock, 1_000_000 + jump, 50_000), 1_050_000);
            assert_eq!(
                at(&mut clock, 1_010_000, 60_000),
                1_050_000,
                "stands still, but not back"
            );
            assert_eq!(at(&mut clock, 1_051_000, 61_000), 1_051_000);
        }
    }

    #[test]
    fn the_monotonic_pace_loses_no_fraction_of_a_millisecond() {
        let mut clock = StoreClock::new(STEP);
        let mut read = |wall, nanos| {
            let now = clock.read(Timestamp::from_millis(wall), Duration::from_nanos(nanos));
            now.as_millis()
        };
        assert_eq!(read(1_000_000, 0), 1_000_000);
        let last = (1..=10_000).map(|tick| read(0, tick * 300_000)).last();
        assert_eq!(last, Some(1_003_000));
    }

    #[test]
    fn never_runs_backwards_whatever_the_wall_clock_shows() {
        let mut clock = StoreClock::new(STEP);
        let (mut random, mut wall, mut monotonic) = (1_u64, 1_000_000_i64, 0);
        let mut last = at(&mut clock, wall, monotonic);
        for round in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let passed = (random >> 50) as i64;
            monotonic += passed as u64;
            wall += passed;
            if (random >> 40) % 4 == 0 {
                wall += (random >> 43) as i64 % 900_000 - 450_000;
            }
            let now = at(&mut clock, wall, monotonic);
            assert!(now >= last, "round {round}: {now} after {last}");
            last = now;
        }
    }

    #[test]
    fn bounds_are_the_last_time_and_the_expected_one() {
        let mut clock = StoreClock::new(STEP);
        assert_eq!(clock.max_step(), STEP);
        assert_eq!(clock.bounds(Duration::ZERO), None);
        at(&mut clock, 1_000, 10);
        let bounds = (Timestamp::from_millis(1_000), Timestamp::from_millis(1_025));
        assert_eq!(clock.bounds(Duration::from_millis(35)), Some(bounds));
    }

    #[test]
    fn an_undone_jump_needs_no_acceptance() {
        let mut clock = StoreClock::new(STEP);
        at(&mut clock, 1_000, 0);
        at(&mut clock, 9_000_000, 10);
        assert_eq!(at(&mut clock, 1_030, 30), 1_030);
        assert_eq!(clock.jump(), None);
    }

    #[test]
    fn idle_time_is_no_jump() {
        let mut clock = StoreClock::new(STEP);
        at(&mut clock, 0, 0);
        assert_eq!(at(&mut clock, 86_400_000, 86_400_000), 86_400_000);
    }

    #[test]
    fn another_process_may_be_ahead() {
        let mut clock = StoreClock::new(STEP);
        clock.advance_to(Timestamp::from_millis(50));
        assert_eq!(at(&mut clock, 0, 0), 0, "nothing to move before the first reading");
        clock.advance_to(Timestamp::from_millis(50));
        assert_eq!(at(&mut clock, 10, 10), 50);
        clock.advance_to(Timestamp::from_millis(20));
        assert_eq!(at(&mut clock, 20, 20), 50);
        clock.accept();
        assert_eq!(at(&mut clock, 21, 21), 50);
    }
}
