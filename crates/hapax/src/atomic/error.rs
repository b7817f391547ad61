//! Why an arrival got no reply.

use std::fmt;
use std::sync::Arc;

use hapax_core::{StoreError, StoreErrorKind};
use hapax_store::joined::{Fault, JointError};

/// Why an arrival got no reply. Nothing happened, except where the case says otherwise.
#[derive(Debug)]
pub enum AtomicError<E = Box<dyn std::error::Error + Send + Sync>> {
    /// The database failed before the operation was claimed: the handler did not run.
    NotClaimed(Arc<StoreError>),
    /// The handler failed. Everything is rolled back, and the failure is counted.
    Failed(E),
    /// The handler panicked. Everything is rolled back, and the failure is counted.
    Panicked,
    /// The handler took longer than [`Bounds::longest`](super::Bounds::longest). Everything is rolled back, and the
    /// failure is counted.
    TimedOut,
    /// The handler did not give its transaction back. It is rolled back when it is let go, and the failure is counted.
    Kept,
    /// Its tries are spent, the last ones by crashes of whoever ran it: it is dead.
    Exhausted,
    /// The database rolled the transaction back each time that it was tried, or refused to commit it.
    RolledBack(Arc<JointError>),
    /// The answer to the commit was lost, and the record could not be asked in time. It may have happened: ask again with
    /// the same key.
    Unknown(Arc<JointError>),
    /// The run was cut off, as when its runtime ends. It may have happened: ask again with the same key.
    Lost,
}

impl<E> AtomicError<E> {
    pub(crate) fn not_claimed(error: impl Into<StoreError>) -> Self {
        Self::NotClaimed(Arc::new(error.into()))
    }

    /// Whether it is known that nothing happened.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        !matches!(self, Self::Unknown(_) | Self::Lost)
    }

    pub(crate) fn map<F>(self, failed: impl FnOnce(E) -> F) -> AtomicError<F> {
        match self {
            Self::NotClaimed(error) => AtomicError::NotClaimed(error),
            Self::Failed(error) => AtomicError::Failed(failed(error)),
            Self::Panicked => AtomicError::Panicked,
            Self::TimedOut => AtomicError::TimedOut,
            Self::Kept => AtomicError::Kept,
            Self::Exhausted => AtomicError::Exhausted,
            Self::RolledBack(error) => AtomicError::RolledBack(error),
            Self::Unknown(error) => AtomicError::Unknown(error),
            Self::Lost => AtomicError::Lost,
        }
    }
}

impl<E: fmt::Display> fmt::Display for AtomicError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotClaimed(error) => write!(f, "the operation could not be claimed; nothing ran: {error}"),
            Self::Failed(error) => write!(f, "the handler failed and was rolled back: {error}"),
            Self::Panicked => f.write_str("the handler panicked and was rolled back"),
            Self::TimedOut => f.write_str(
                "the handler took longer than bounds.longest and was rolled back: make it shorter, or raise the bound",
            ),
            Self::Kept => f.write_str(
                "the handler did not give its transaction back, so it was rolled back: finish all work with it before \
                 answering",
            ),
            Self::Exhausted => f.write_str("its tries are spent by crashes: it is a dead letter now"),
            Self::RolledBack(error) => write!(f, "the database rolled the transaction back: {error}"),
            Self::Unknown(error) => write!(
                f,
                "the answer to the commit was lost, and whether it happened could not be asked: ask again with the same \
                 key: {error}"
            ),
            Self::Lost => f.write_str("the run was cut off: ask again with the same key to learn what became of it"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for AtomicError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotClaimed(error) => Some(error.as_ref()),
            Self::RolledBack(error) | Self::Unknown(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// What a driver's error comes to that was met while beginning or ending a transaction.
pub(super) fn trouble(doing: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> JointError {
    let error = error.into();
    let fault = Fault::of(error.as_ref());
    let kind = match fault {
        Fault::Busy | Fault::Conflict | Fault::Lost => StoreErrorKind::Unavailable,
        Fault::Other => StoreErrorKind::Invalid,
    };
    JointError::new(fault, kind, format!("cannot {doing}: {}", chain(error.as_ref()))).caused_by(error)
}

/// What a pool that gives no connection comes to.
#[cfg(any(feature = "tokio-postgres", feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
pub(super) fn no_connection(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> JointError {
    let error = error.into();
    let said = chain(error.as_ref());
    let message = format!("the pool gave no connection: {said}: is the database up, and the pool large enough?");
    JointError::new(Fault::Lost, StoreErrorKind::Unavailable, message).caused_by(error)
}

/// An error with the errors underneath.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
