//! Why a consumer does not start.

use std::fmt;
use std::time::Duration;

use hapax_core::Name;

/// Why a consumer does not start. Nothing was taken from its broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// Its options make no sense.
    #[error("consumer {name}: {what}")]
    Options {
        /// The consumer.
        name: Name,
        /// What to write instead.
        what: String,
    },
    /// A message could come again after it was forgotten, and would have a second effect.
    #[error(
        "consumer {name}: its broker keeps messages for {} and may deliver them again that late, but they are remembered \
         for {}: raise remember_for, or let the broker keep them for a shorter time",
        Time(*redelivers_for), Time(*remember_for)
    )]
    Retention {
        /// The consumer.
        name: Name,
        /// What the broker can do.
        redelivers_for: Duration,
        /// What the record can.
        remember_for: Duration,
    },
}

/// A time in days, hours, minutes and seconds, as configurations have it: `1d12h`.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_secs();
        if left == 0 {
            return write!(f, "{}ms", self.0.as_millis());
        }
        for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
            if left >= seconds {
                write!(f, "{}{unit}", left / seconds)?;
                left %= seconds;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_the_units_of_a_configuration() {
        for (ms, said) in [
            (0, "0ms"),
            (250, "250ms"),
            (90_500, "1m30s"),
            (129_600_000, "1d12h"),
            (3_456_000_000, "40d"),
        ] {
            assert_eq!(Time(Duration::from_millis(ms)).to_string(), said);
        }
    }
}
