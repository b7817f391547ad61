//! What SQLite's errors mean for a caller.

use hapax_core::{StoreError, StoreErrorKind};
use rusqlite::{ErrorCode, ffi};

/// An error that can answer a whole batch.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    kind: StoreErrorKind,
    message: String,
    /// Caused by one operation: its neighbours can do without it.
    pub(super) alone: bool,
    /// The connection cannot be trusted any more.
    pub(super) broken: bool,
}

pub(super) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// What the database keeps cannot be.
    pub(super) fn corrupt(message: impl Into<String>) -> Self {
        Self {
            kind: StoreErrorKind::Corrupt,
            message: format!("SQLite store: {}", message.into()),
            alone: true,
            broken: false,
        }
    }

    /// A guarded statement did not find the row that it was decided on.
    pub(super) fn guard(statement: &str) -> Self {
        Self::corrupt(format!(
            "{statement} did not find the row it was decided on; nothing was written"
        ))
    }

    pub(super) fn closed() -> Self {
        Self::unavailable("it is closed")
    }

    pub(super) fn overloaded(waiting: usize) -> Self {
        Self::unavailable(format!("{waiting} requests are waiting for it; try again"))
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self {
            kind: StoreErrorKind::Unavailable,
            message: format!("SQLite store: {}", message.into()),
            alone: false,
            broken: false,
        }
    }

    /// The same, of a connection that is not to be used any more.
    pub(super) fn breaking(self) -> Self {
        Self { broken: true, ..self }
    }

    /// A failure to open the file again, told to all who wait.
    pub(super) fn from_store(error: &StoreError) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
            alone: false,
            broken: true,
        }
    }

    /// There is no room, or the disk is read-only.
    pub(super) fn is_full(&self) -> bool {
        self.kind == StoreErrorKind::Full
    }

    pub(super) fn error(&self) -> StoreError {
        StoreError::new(self.kind, self.message.clone())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let kind = kind(&error);
        let advice = match kind {
            StoreErrorKind::Full => "make room on its disk, or make it writable",
            StoreErrorKind::Unavailable => "try again",
            StoreErrorKind::Schema => "bring its schema up to date with `hapax migrate`",
            StoreErrorKind::Corrupt => "check the file with `PRAGMA integrity_check`, or restore a backup",
            StoreErrorKind::Invalid => "the request breaks a rule of the schema",
        };
        Self {
            kind,
            message: format!("SQLite store: {error}; {advice}"),
            alone: kind == StoreErrorKind::Invalid,
            broken: is_broken(&error),
        }
    }
}

/// Which kind of failure an error of SQLite is.
pub(super) fn kind(error: &rusqlite::Error) -> StoreErrorKind {
    let Some(code) = error.sqlite_error_code() else {
        return match error {
            rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..) => StoreErrorKind::Corrupt,
            _ => StoreErrorKind::Invalid,
        };
    };
    match code {
        ErrorCode::DiskFull | ErrorCode::ReadOnly => StoreErrorKind::Full,
        ErrorCode::SystemIoFailure if is_write_failure(error) => StoreErrorKind::Full,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreErrorKind::Corrupt,
        ErrorCode::ConstraintViolation
        | ErrorCode::TooBig
        | ErrorCode::TypeMismatch
        | ErrorCode::ParameterOutOfRange
        | ErrorCode::ApiMisuse => StoreErrorKind::Invalid,
        // `SQLITE_ERROR`, for instance "no such table": somebody migrated the database under this program.
        ErrorCode::Unknown | ErrorCode::SchemaChanged => StoreErrorKind::Schema,
        _ => StoreErrorKind::Unavailable,
    }
}

fn extended_code(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |error| error.extended_code)
}

/// A read that fails is the machine's trouble; a write, flush or growth that fails is the disk's room.
fn is_write_failure(error: &rusqlite::Error) -> bool {
    matches!(
        extended_code(error),
        ffi::SQLITE_IOERR_WRITE
            | ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_IOERR_TRUNCATE
            | ffi::SQLITE_IOERR_SHMOPEN
            | ffi::SQLITE_IOERR_SHMSIZE
            | ffi::SQLITE_IOERR_SHMMAP
    )
}

/// After a failed flush nobody knows what the kernel still holds, and after other I/O errors what SQLite cached may
/// not be what the file has: only a new connection starts from the file.
fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::InternalMalfunction
                | ErrorCode::SchemaChanged
                | ErrorCode::ReadOnly
        )
    )
}
