//! All that can happen in the engine. Logs, metrics and the console derive from it.

use std::time::Duration;

use hapax_core::{Fence, Operation, Refusal, StateName, StoreError, Swept};

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A claim won: the handler starts.
    Started {
        /// What runs.
        operation: &'a Operation,
        /// Its fence.
        fence: Fence,
    },
    /// A run ended and its finish is durable.
    Finished {
        /// What ran.
        operation: &'a Operation,
        /// What the record became.
        state: StateName,
        /// From claim to finish.
        took: Duration,
    },
    /// A run ended, but its fence was lost: the record says something else.
    Fenced {
        /// What ran.
        operation: &'a Operation,
        /// The fence that was lost.
        fence: Fence,
    },
    /// A duplicate was told what the record says.
    Refused {
        /// What was asked for.
        operation: &'a Operation,
        /// What it was told.
        refusal: &'a Refusal,
        /// Whether the answer came from the cache of done records.
        cached: bool,
    },
    /// A duplicate could not wait: too many do.
    TooManyWaiters {
        /// What was asked for.
        operation: &'a Operation,
    },
    /// A lease was extended.
    Renewed {
        /// What runs.
        operation: &'a Operation,
    },
    /// A lease cannot be extended any more, though its handler still runs.
    LeaseLost {
        /// What runs.
        operation: &'a Operation,
        /// Its fence.
        fence: Fence,
    },
    /// A handler panicked.
    Panicked {
        /// What ran.
        operation: &'a Operation,
    },
    /// The store failed; the step is repeated, or its caller is refused.
    StoreFailed {
        /// Which step: `claim`, `renew`, `finish`, `read`, `sweep`.
        step: &'static str,
        /// The failure.
        error: &'a StoreError,
    },
    /// The sweeper did some work.
    Swept(Swept),
}

/// Someone who wants to know.
pub trait Observer: Send + Sync + 'static {
    /// Takes an event. Called on the hot path: be quick, never block.
    fn event(&self, event: &Event<'_>);
}

/// Nobody wants to know.
impl Observer for () {
    fn event(&self, _: &Event<'_>) {}
}
