//! Why a consumer does not start.

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
        "consumer {name}: its broker keeps messages for {redelivers_for:?} and may deliver them again that late, but they \
         are remembered for {remember_for:?}: raise remember_for, or let the broker keep them for a shorter time"
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
