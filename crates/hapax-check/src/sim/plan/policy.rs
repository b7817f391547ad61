//! A retry policy as tight as a world is short.

use std::time::Duration;

use hapax_core::policy::{Backoff, BreakerPolicy, BudgetPolicy, Limits, RetryPolicy};

use crate::dice::Dice;

/// The longest pause of any policy.
pub(crate) const LONGEST_CAP: Duration = Duration::from_secs(5);
/// The longest pause of any breaker, and its ramp.
pub(crate) const LONGEST_OPEN: Duration = Duration::from_secs(4);

pub(super) fn draw(dice: &mut Dice) -> RetryPolicy {
    let open = dice.millis(300, 2_000);
    let open_at_most = (open * dice.between(1, 4) as u32).min(LONGEST_OPEN);
    let elapsed = match dice.chance(300) {
        true => dice.millis(8_000, 30_000),
        false => Duration::from_secs(3_600),
    };
    let per_try = dice.millis(2_000, 5_000);
    RetryPolicy {
        backoff: Backoff {
            base: dice.millis(20, 500),
            throttle_base: dice.millis(100, 1_000),
            cap: dice.millis(1_000, 5_000).min(LONGEST_CAP),
        },
        limits: Limits {
            tries: dice.between(1, 4) as u32,
            elapsed,
            per_try,
            total: per_try,
        },
        budget: BudgetPolicy {
            share: dice.between(0, 50) as f64 / 100.0,
            floor: dice.between(5, 50) as f64 / 10.0,
            window: Duration::from_secs(10),
        },
        breaker: BreakerPolicy {
            failure_rate: 0.5,
            minimum_calls: if dice.chance(600) {
                dice.between(2, 8) as u32
            } else {
                100
            },
            window: Duration::from_secs(10),
            open,
            open_at_most,
            ramp: dice.millis(300, 2_000),
        },
        ..RetryPolicy::default()
    }
}
