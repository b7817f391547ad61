//! What can go wrong in an operation with steps.

use std::fmt;
use std::time::Duration;

use hapax_core::policy::{FailureClass, PolicyError};
use hapax_core::{Answer, DeadReason, LastError, StoreError, WordError};

use crate::runner::{Attempted, Failure};

/// Why there is no saga.
#[derive(Debug, thiserror::Error)]
pub enum SagaError {
    /// A name breaks a rule.
    #[error("the name of {what}, {text:?}: {error} (with the saga's name before it and /undo behind it)")]
    Word {
        /// `the saga` or `a step`.
        what: &'static str,
        /// The name.
        text: String,
        /// The rule.
        error: WordError,
    },
    /// A name has a slash.
    #[error(
        "the name of {what}, {text:?}, has a slash, which divides an operation's name from its step's: leave it out"
    )]
    Slash {
        /// `the saga` or `a step`.
        what: &'static str,
        /// The name.
        text: String,
    },
    /// A step has the name of what undoes.
    #[error("a step cannot be called undo, which is the name of what begins the compensation: give it another name")]
    Reserved,
    /// Two steps have one name.
    #[error("two steps are called {0:?}: give each a name of its own")]
    Twice(String),
    /// The retry policy of the operation makes no sense.
    #[error("the operation's {0}")]
    Policy(#[from] PolicyError),
    /// What is done would be forgotten while the operation may still run.
    #[error(
        "{what} can be under way for {longest:?}, and what it has done is remembered for {remember_for:?}: an operation \
         must end within half of that, so lower its policy's elapsed or raise remember_for to {:?}",
        *.longest * 2
    )]
    Forgets {
        /// The operation, or which step.
        what: String,
        /// Its longest schedule.
        longest: Duration,
        /// What is configured.
        remember_for: Duration,
    },
    /// The store failed.
    #[error("the store could not be asked: {0}")]
    Store(#[from] StoreError),
}

/// Why a step has no answer, and why a handler ends without one.
///
/// A handler gives it on with `?`. Only [`Dead`](Self::Dead) leaves it another way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// The step is a dead letter: no retry will mend it. Given on, it makes the operation dead.
    Dead {
        /// Which step.
        step: Box<str>,
        /// Why.
        reason: DeadReason,
        /// The last failure's answer, if there was one.
        answer: Option<Answer>,
        /// What went wrong.
        last_error: Option<LastError>,
    },
    /// The operation cannot go on now: it waits for the step, or another run has taken over, or the step was asked for
    /// wrongly. Whatever the handler makes of it, this run ends as is said here.
    Halted(Halt),
    /// The handler's own failure, judged by the operation's policy.
    Failed(Failure),
}

/// Why a run cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    pub(super) kind: HaltKind,
    pub(super) why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HaltKind {
    /// The operation is to be run again after this time.
    Later(Duration),
    /// Another run has taken over, or the operation has ended.
    Fenced,
    /// Running it again cannot mend it.
    Wrong,
}

impl StepError {
    pub(super) fn attempted(self) -> Attempted {
        match self {
            Self::Failed(failure) => Attempted::Failed(failure),
            Self::Halted(halt) => halt.attempted(),
            Self::Dead { ref answer, .. } => Attempted::Failed(Failure {
                answer: answer.clone(),
                ..Failure::new(FailureClass::Final, &self.to_string())
            }),
        }
    }
}

impl Halt {
    pub(super) fn later(after: Duration, why: impl Into<String>) -> Self {
        let kind = HaltKind::Later(after);
        Self { kind, why: why.into() }
    }

    pub(super) fn fenced() -> Self {
        let why = "another run has taken over, or the operation has ended: this one does nothing more".to_owned();
        let kind = HaltKind::Fenced;
        Self { kind, why }
    }

    pub(super) fn wrong(why: impl Into<String>) -> Self {
        let kind = HaltKind::Wrong;
        Self { kind, why: why.into() }
    }

    pub(super) fn attempted(self) -> Attempted {
        match self.kind {
            HaltKind::Later(after) => Attempted::Later {
                after,
                why: Some(LastError::new(&self.why)),
            },
            // The store refuses whatever this run says of its end.
            HaltKind::Fenced => Attempted::Later {
                after: Duration::ZERO,
                why: Some(LastError::new(&self.why)),
            },
            HaltKind::Wrong => Attempted::Failed(Failure::new(FailureClass::Final, &self.why)),
        }
    }
}

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead {
                step,
                reason,
                last_error,
                ..
            } => {
                write!(f, "step {step} is dead ({reason})")?;
                last_error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
            }
            Self::Halted(halt) => f.write_str(&halt.why),
            Self::Failed(failure) => failure.last_error.fmt(f),
        }
    }
}

impl std::error::Error for StepError {}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
