//! A handler split into named steps: recovery skips those that are done, and what was done can be undone.
//!
//! ```text
//! checkout          the operation: its handler asks for steps, one after the other or side by side
//! checkout/charge   a step: an operation of its own, of the same scope and key, in the operation's group
//! checkout/undo     looks at the operation until it has ended; if it is dead, begins its compensation
//! checkout/charge/undo   a compensation: undoes the step, once those of later steps are done
//! ```
//!
//! All of them are records, run by the engine and a [`Runner`]: retries, dead letters, redrives, metrics and graceful
//! stops are theirs. A client chooses keys and not names, so that none of its operations can be taken for a step.
//!
//! # Why no step is left out of a compensation
//!
//! A process that was paused may wake up at any time, and believe that the operation is still its own. So a step first
//! makes its claim durable, *then* reads the operation's record, and runs its effect only if that is still running under
//! the fence of this run. Compensation first makes durable that the operation is being undone ([`Amend::Undo`], which
//! only a dead record allows, and after which it never runs again), *then* lists the group. Both write before they
//! read, in one linearizable store: if the step's reading came before the writing of the compensation, then so did the
//! step's claim, and the list has it; if it came after, the step sees that its operation is dead, and does nothing.
//!
//! What it does not do: stop an effect that is already on its way in a process that was paused. It is waited for; where
//! it can be repeated, no longer than its lease and [`Step::settle`]. The receiver knows its key, and the compensation
//! is told it: see [`Undo::step_key`].
//!
//! [`Amend::Undo`]: hapax_core::Amend::Undo
//! [`Runner`]: crate::Runner

mod course;
mod error;
mod identity;
mod saga;
mod step;
mod undo;
mod undoing;

pub use course::{Call, Steps};
pub use error::{SagaError, StepError};
pub use saga::{Came, Saga, SagaOptions};
pub use step::Step;
pub use undo::Undo;

#[cfg(test)]
mod tests;
