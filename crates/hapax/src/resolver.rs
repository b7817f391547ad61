//! Finding out what became of an unknown outcome.
//!
//! A runner asks the resolvers of an operation's name in their order; the first that knows decides. A resolver does not
//! change anything: the runner does, with what was found and by whom in the audit.

use std::error::Error;
use std::fmt;

use hapax_core::{BoxFuture, Fence, Operation, OperationId, Outcome, Record};

/// Someone who may know whether an operation happened: a receipt, a probe of the upstream.
pub trait Resolver: Send + Sync + 'static {
    /// Its name in the audit, such as `probe`.
    fn name(&self) -> &str;

    /// Looks for the effect of an operation whose outcome is unknown. Must not cause one.
    fn resolve<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>>;
}

/// Someone who can not only look, but make sure: receipts in the backend's own database.
pub trait Sealer: Send + Sync + 'static {
    /// Whether the operation happened; if not, no attempt up to `fence` can happen any more, so that
    /// [`Found::NotFound`] is final. [`Found::CannotSay`] where the lack of a trace proves nothing.
    fn seal(&self, operation: OperationId, fence: Fence) -> BoxFuture<'_, Result<Found, ResolveError>>;

    /// The end of an operation that has happened already, for a store that may have lost its record.
    fn look(&self, operation: OperationId) -> BoxFuture<'_, Result<Option<Found>, ResolveError>>;

    /// An operation was answered as one that happened, so that it should have left its trace. Must not block.
    fn answered(&self, operation: &Operation);
}

/// What a resolver saw. `saw` says it in words, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It happened.
    Done {
        /// What it answered, as far as that can be told.
        outcome: Outcome,
        /// What was seen.
        saw: String,
    },
    /// There is no trace of it. Counts only once the attempt can no longer arrive, `settle` after it was cut off.
    NotFound {
        /// What was seen.
        saw: String,
    },
    /// Neither is certain: the next resolver is asked, or this one again later.
    CannotSay {
        /// What was seen.
        saw: String,
    },
}

/// A resolver could not look. It is asked again later.
#[derive(Debug)]
pub struct ResolveError {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ResolveError {
    /// A failure; `message` says what failed, where, and what to do next.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    /// With the error underneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
