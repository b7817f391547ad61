//! How fast.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So many a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate(f64);

impl Rate {
    pub(super) const DEFAULT: Self = Self(50.0);
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SLOWEST: f64 = 0.001;
        const FASTEST: f64 = 100_000.0;
        let number = text.trim().strip_suffix("/s").unwrap_or(text.trim());
        number
            .parse::<f64>()
            .ok()
            .filter(|rate| (SLOWEST..=FASTEST).contains(rate))
            .map(Self)
            .ok_or_else(|| {
                format!("{text:?} is no rate; write a number a second from {SLOWEST} to {FASTEST}, such as 50/s")
            })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// Lets one through at a time; time that was lost is not made up for by a burst.
pub(super) struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    /// As fast as the store can if there is no rate.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self {
            every: rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate.0)),
            next: Instant::now(),
        }
    }

    pub(super) async fn turn(&mut self) {
        sleep_until(self.next).await;
        self.next = (self.next + self.every).max(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_a_second() {
        for (text, rate) in [("50/s", 50.0), ("50", 50.0), (" 0.5/s ", 0.5), ("100000/s", 100_000.0)] {
            assert_eq!(text.parse(), Ok(Rate(rate)), "{text}");
        }
        for text in ["", "0", "0/s", "-1/s", "NaN", "inf", "50/m", "fast", "100001"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains("such as 50/s"), "{text}: {error}");
        }
        assert_eq!(Rate::DEFAULT.to_string(), "50/s");
    }
}
