//! What a compensation is given.

use std::fmt;

use bytes::Bytes;
use hapax_core::{Fence, Operation};

/// A step to be undone.
///
/// It may never have happened, may still be on its way, and may have been undone before. So a compensation asks the
/// other side to undo *whatever it has under* [`step_key`](Self::step_key), and counts "there is nothing" as done; the
/// best ones also make the other side refuse that key from then on.
#[derive(Clone)]
pub struct Undo {
    /// The operation that died.
    pub operation: Operation,
    /// The step.
    pub step: Box<str>,
    /// What the operation was asked with.
    pub input: Bytes,
    /// What the step answered; `None` if it is not known to be done.
    pub answer: Option<Bytes>,
    /// The key that the step's calls carried: [`Call::key`](super::Call::key).
    pub step_key: String,
    /// The key for this compensation's own calls: the same for every try.
    pub key: String,
    /// The fence of this run of the compensation.
    pub fence: Fence,
    /// Starts so far that count, this one included.
    pub tries: u32,
}

/// Neither the input nor the answer: they are the user's.
impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undo")
            .field("operation", &self.operation)
            .field("step", &self.step)
            .field("answered", &self.answer.is_some())
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}
