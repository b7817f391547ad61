//! How the program ends.

use std::fmt;
use std::process::ExitCode;

/// Exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A check failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// What was to be used cannot be reached, or nothing could be concluded.
    Unreachable = 3,
    /// A fault of this program.
    Internal = 4,
}

/// Why a command ended without success: what it says on standard error, and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }

    /// The same with a sentence on what is left and how to go on.
    pub(crate) fn and(mut self, more: impl fmt::Display) -> Self {
        if !self.message.is_empty() {
            self.message = format!("{}; {more}", self.message);
        }
        self
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Nobody reads standard output any more: not worth a message.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Failed, "");
        }
        Self::new(Exit::Internal, format!("cannot write to standard output: {error}"))
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<hapax::core::StoreError> for Failure {
    fn from(error: hapax::core::StoreError) -> Self {
        use hapax::core::StoreErrorKind::{Corrupt, Full, Invalid, Schema, Unavailable};
        let exit = match error.kind() {
            Unavailable | Full | Schema => Exit::Unreachable,
            Invalid => Exit::Usage,
            Corrupt => Exit::Internal,
        };
        if error.kind() == Unavailable {
            let help = "see that it runs, that its URL is right, and that no other program has locked it";
            return Self::new(exit, format!("{error}; {help}"));
        }
        Self::new(exit, error)
    }
}
