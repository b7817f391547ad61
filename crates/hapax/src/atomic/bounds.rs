//! What ends a transaction whose holder does not.

use std::fmt;
use std::time::Duration;

use hapax_store::joined::TimeOuts;

/// The bounds of a transaction, set when it begins. Every field has a default.
///
/// On PostgreSQL `synchronous_commit` is raised to `on` where the session has it off. What the server cannot bound by
/// itself (a handler that goes on and on, on SQLite any holder in a process that is paused) is bounded by
/// [`longest`](Self::longest) in this process alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// How long the claim waits, holding a connection, for another transaction that has the operation; then it goes on
    /// waiting without one (50 ms). PostgreSQL: `lock_timeout` during the claim. SQLite: the busy time-out of `BEGIN`.
    pub claim: Duration,
    /// How long a statement of the handler waits for a lock (5 s). PostgreSQL: `lock_timeout`. SQLite has one lock, which
    /// the transaction holds.
    pub lock: Duration,
    /// How long the holder may leave the transaction without a statement (10 s): one that was paused or unplugged lets go
    /// after that. PostgreSQL: `idle_in_transaction_session_timeout`. SQLite: none.
    pub idle: Duration,
    /// The longest that a handler may take (30 s); then its transaction is rolled back. On [`Rusqlite`](super::Rusqlite)
    /// also the longest that one waits for the connection.
    pub longest: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            claim: Duration::from_millis(50),
            lock: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            longest: Duration::from_secs(30),
        }
    }
}

/// Bounds that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundsError(String);

impl fmt::Display for BoundsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BoundsError {}

impl Bounds {
    /// What a transaction is bound by that enters what it does. A copy that another process has in hand keeps one
    /// connection waiting, since of one process only one gets so far.
    pub(super) fn of_entry(&self) -> TimeOuts {
        TimeOuts {
            lock: self.lock,
            idle: self.idle,
            statement: self.longest,
        }
    }

    /// Whether they make sense together.
    ///
    /// # Errors
    /// [`BoundsError`] says which do not, and what to write instead.
    pub fn check(&self) -> Result<(), BoundsError> {
        for (name, bound) in [
            ("claim", self.claim),
            ("lock", self.lock),
            ("idle", self.idle),
            ("longest", self.longest),
        ] {
            // The databases count in milliseconds, and take zero for no bound at all.
            let millis = bound.as_millis();
            if !(1..=86_400_000).contains(&millis) {
                let message = format!("bounds: {name} is {bound:?}: write between 1 ms and 24 h");
                return Err(BoundsError(message));
            }
        }
        if self.claim > self.idle {
            let (claim, idle) = (self.claim, self.idle);
            let message = format!(
                "bounds: claim ({claim:?}) is longer than idle ({idle:?}): a duplicate must not hold a connection longer \
                 than a paused holder does"
            );
            return Err(BoundsError(message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_with_both_numbers() {
        assert_eq!(Bounds::default().check(), Ok(()));
        let none = Bounds {
            idle: Duration::ZERO,
            ..Bounds::default()
        };
        assert!(none.check().unwrap_err().to_string().contains("idle is 0ns"));
        let patient = Bounds {
            claim: Duration::from_secs(11),
            ..Bounds::default()
        };
        let message = patient.check().unwrap_err().to_string();
        assert!(message.contains("11s") && message.contains("10s"), "{message}");
    }
}
