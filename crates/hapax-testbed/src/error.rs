//! What can go wrong while a test server is started or talked to.

use std::fmt;
use std::io;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a test server is not there. None of these goes away by trying again.
#[derive(thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error("{program} is not installed ({searched}). Next: {install}")]
    Missing {
        /// The program that was looked for.
        program: String,
        /// Where it was looked for.
        searched: String,
        /// What to run to get it.
        install: String,
    },
    /// The operating system refused something.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended with an error, or earlier than it should.
    #[error("{what} failed ({status}). It said:\n{output}")]
    Failed {
        /// What was run.
        what: String,
        /// How it ended.
        status: String,
        /// The end of its output or log.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {limit_s} s. The log says:\n{output}")]
    Late {
        /// What was waited for.
        what: String,
        /// For how many seconds.
        limit_s: u64,
        /// The end of the log.
        output: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }
}

/// Tests show errors with `{:?}`: they get the sentence, not the structure.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value, or a panic with the whole error at the caller's line.
#[track_caller]
pub(crate) fn or_panic<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
