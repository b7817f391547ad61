//! Policies that make no sense.

use std::fmt;
use std::time::Duration;

use super::{Classes, RetryPolicy};

/// Why a policy makes no sense, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    field: &'static str,
    problem: String,
    write: String,
}

impl PolicyError {
    pub(super) fn new(field: &'static str, problem: impl Into<String>, write: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
            write: write.into(),
        }
    }

    /// The field, as configuration spells it.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// What is wrong with it, such as `is 0`.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to write instead.
    #[must_use]
    pub fn write(&self) -> &str {
        &self.write
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "retry policy: {} {}: {}", self.field, self.problem, self.write)
    }
}

impl std::error::Error for PolicyError {}

type Checked = Result<(), PolicyError>;

/// Nothing takes longer, and clocks can add it to their time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A window has ten buckets of at least ten milliseconds.
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);

const SHORTEST: Duration = Duration::from_millis(1);

/// More is a slip of the finger.
const MOST_TRIES: u32 = 1000;
const HIGHEST_FLOOR: f64 = 1_000_000.0;

impl RetryPolicy {
    /// Checks that the policy makes sense.
    ///
    /// # Errors
    /// [`PolicyError`] names the first field that does not, and what to write instead.
    pub fn check(&self) -> Checked {
        self.check_limits()?;
        self.check_backoff()?;
        self.check_budget()?;
        self.check_breaker()
    }

    fn check_limits(&self) -> Checked {
        let limits = &self.limits;
        if limits.tries == 0 {
            let write = "write at least 1; 1 means no retries";
            return Err(PolicyError::new("tries", "is 0", write));
        }
        if limits.tries > MOST_TRIES {
            let write = format!("write at most {MOST_TRIES}");
            return Err(PolicyError::new("tries", format!("is {}", limits.tries), write));
        }
        if limits.tries > 1 && self.retry == Classes::NONE {
            let write = "name what is retried, such as \"unsent\", or write tries = 1";
            return Err(PolicyError::new("classes", "is empty", write));
        }
        duration("per_try", limits.per_try, SHORTEST)?;
        duration("total", limits.total, SHORTEST)?;
        duration("elapsed", limits.elapsed, SHORTEST)?;
        not_over(("per_try", limits.per_try), ("total", limits.total))?;
        not_over(("total", limits.total), ("elapsed", limits.elapsed))
    }

    fn check_backoff(&self) -> Checked {
        let backoff = &self.backoff;
        duration("base", backoff.base, SHORTEST)?;
        duration("throttle_base", backoff.throttle_base, SHORTEST)?;
        duration("cap", backoff.cap, SHORTEST)?;
        not_over(("base", backoff.base), ("cap", backoff.cap))?;
        not_over(("throttle_base", backoff.throttle_base), ("cap", backoff.cap))
    }

    fn check_budget(&self) -> Checked {
        let budget = &self.budget;
        if !(0.0..=1.0).contains(&budget.share) {
            let write = "write a share from 0 to 1; 0.2 is one retry for five calls";
            return Err(PolicyError::new("budget_share", format!("is {}", budget.share), write));
        }
        if !(0.0..=HIGHEST_FLOOR).contains(&budget.floor) {
            let write = format!("write retries a second from 0 to {HIGHEST_FLOOR}");
            return Err(PolicyError::new("budget_floor", format!("is {}", budget.floor), write));
        }
        duration("budget_window", budget.window, SHORTEST_WINDOW)
    }

    fn check_breaker(&self) -> Checked {
        let breaker = &self.breaker;
        let rate = breaker.failure_rate;
        // Written so that no number fails too.
        if !(rate > 0.0 && rate <= 1.0) {
            let write = "write a share above 0, at most 1; 0.5 opens when half of the calls fail";
            return Err(PolicyError::new("breaker_failure_rate", format!("is {rate}"), write));
        }
        if breaker.minimum_calls == 0 {
            let write = "write at least 1: a rate of no calls says nothing";
            return Err(PolicyError::new("breaker_minimum_calls", "is 0", write));
        }
        duration("breaker_window", breaker.window, SHORTEST_WINDOW)?;
        duration("breaker_open", breaker.open, SHORTEST)?;
        duration("breaker_open_at_most", breaker.open_at_most, SHORTEST)?;
        // Zero is a ramp of no time.
        duration("breaker_ramp", breaker.ramp, Duration::ZERO)?;
        not_over(
            ("breaker_open", breaker.open),
            ("breaker_open_at_most", breaker.open_at_most),
        )
    }
}

fn duration(field: &'static str, given: Duration, least: Duration) -> Checked {
    let write = if given < least {
        format!("write at least {least:?}")
    } else if given > LONGEST {
        format!("write at most {LONGEST:?}, a year")
    } else {
        return Ok(());
    };
    Err(PolicyError::new(field, format!("is {given:?}"), write))
}

fn not_over(small: (&'static str, Duration), large: (&'static str, Duration)) -> Checked {
    if small.1 <= large.1 {
        return Ok(());
    }
    let problem = format!("is {:?}, longer than {} ({:?})", small.1, large.0, large.1);
    let write = format!("write at most {:?}, or raise {}", large.1, large.0);
    Err(PolicyError::new(small.0, problem, write))
}

#[cfg(test)]
mod tests;
