//! A request without an answer.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::call::Why;
use crate::http::{Failure, Proof};

/// Why a request got no answer.
#[derive(Debug)]
pub struct RetryError<E> {
    pub(super) kind: RetryErrorKind<E>,
    pub(super) proof: Proof,
    pub(super) attempts: u32,
    pub(super) retry_after: Option<Duration>,
}

/// What the last try came to.
#[derive(Debug)]
pub enum RetryErrorKind<E> {
    /// The inner service failed.
    Inner(E),
    /// No answer came within the policy's `per_try` or `total`.
    TimedOut,
    /// No try was made.
    NotSent(Why),
    /// No key could be drawn for a request without one, so it was not sent.
    NoKey(getrandom::Error),
    /// The last answer says that nothing happened, but an earlier try may have done what was asked.
    InDoubt(StatusCode),
}

impl<E> RetryError<E> {
    /// What the last try came to.
    pub fn kind(&self) -> &RetryErrorKind<E> {
        &self.kind
    }

    /// How many tries were made.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// When to ask again, if anyone said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// What all tries together prove.
impl<E> Failure for RetryError<E> {
    fn proof(&self) -> Proof {
        self.proof
    }
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RetryErrorKind::Inner(error) => write!(f, "try {} failed: {error}", self.attempts),
            RetryErrorKind::TimedOut => write!(f, "try {} timed out", self.attempts),
            RetryErrorKind::NotSent(why) => write!(f, "not sent: {why}"),
            RetryErrorKind::NoKey(error) => write!(f, "not sent, since no idempotency key can be drawn: {error}"),
            RetryErrorKind::InDoubt(status) => {
                write!(f, "try {} was answered {status}, an earlier one not", self.attempts)
            }
        }?;
        f.write_str(match self.proof {
            Proof::Unsent => "; nothing happened: ask again later",
            Proof::TimedOut | Proof::Reset => "; it may have happened: ask again with the same key",
        })
    }
}

impl<E: std::error::Error + 'static> std::error::Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            RetryErrorKind::Inner(error) => Some(error),
            _ => None,
        }
    }
}
