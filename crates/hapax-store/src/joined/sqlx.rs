//! sqlx: a connection in a transaction that the caller began, or a [`Transaction`](sqlx::Transaction).
//!
//! Two round trips a statement on PostgreSQL, unless statements may stay prepared ([`Joint::prepared`]): sqlx asks what
//! the columns are before it binds.
//!
//! [`Joint::prepared`]: super::Joint::prepared

use hapax_core::{BoxFuture, StoreErrorKind};
use sqlx::{Error, TypeInfo, ValueRef};

use super::Connection;
use super::fault::{Fault, JointError};
use super::statement::Statement;
use super::value::{Cell, Row, Value};

/// Makes the same function for a database's connection and transaction.
macro_rules! connection {
    ($database:ident, $connection:ident) => {
        impl Connection for sqlx::$connection {
            fn run<'a>(
                &'a mut self,
                statement: &'static Statement,
                values: &'a [Value<'a>],
                keep: bool,
            ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
                Box::pin(async move {
                    let mut query = sqlx::query::<sqlx::$database>(statement.text()).persistent(keep);
                    for value in values {
                        query = match *value {
                            Value::Int(number) => query.bind(number),
                            Value::Text(text) => query.bind(text),
                            Value::Bytes(bytes) => query.bind(bytes),
                            Value::Bool(truth) => query.bind(truth),
                        };
                    }
                    let rows = query.fetch_all(self).await.map_err(explain)?;
                    rows.iter().map(row).collect()
                })
            }
        }

        impl Connection for sqlx::Transaction<'_, sqlx::$database> {
            fn run<'a>(
                &'a mut self,
                statement: &'static Statement,
                values: &'a [Value<'a>],
                keep: bool,
            ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
                (**self).run(statement, values, keep)
            }
        }
    };
}

#[cfg(feature = "sqlx-postgres")]
connection!(Postgres, PgConnection);
#[cfg(feature = "sqlx-sqlite")]
connection!(Sqlite, SqliteConnection);

fn row<R: sqlx::Row>(row: &R) -> Result<Row, JointError>
where
    usize: sqlx::ColumnIndex<R>,
    for<'r> Cell: sqlx::Decode<'r, R::Database>,
{
    let cells: Result<Vec<Cell>, Error> = (0..row.len()).map(|column| row.try_get_unchecked(column)).collect();
    cells.map(Row).map_err(explain)
}

/// By the type that the value has, not the one that its column has.
macro_rules! decode {
    ($database:ident) => {
        impl<'r> sqlx::Decode<'r, sqlx::$database> for Cell {
            fn decode(
                value: <sqlx::$database as sqlx::Database>::ValueRef<'r>,
            ) -> Result<Self, sqlx::error::BoxDynError> {
                use sqlx::Decode;
                if value.is_null() {
                    return Ok(Self::Null);
                }
                let name = value.type_info().name().to_owned();
                Ok(match name.as_str() {
                    "INT8" | "INTEGER" => Self::Int(<i64 as Decode<'r, sqlx::$database>>::decode(value)?),
                    "INT4" => Self::Int(<i32 as Decode<'r, sqlx::$database>>::decode(value)?.into()),
                    "BOOL" | "BOOLEAN" => Self::Int(<bool as Decode<'r, sqlx::$database>>::decode(value)?.into()),
                    "TEXT" => Self::Text(<&str as Decode<'r, sqlx::$database>>::decode(value)?.into()),
                    _ => {
                        let bytes = <&[u8] as Decode<'r, sqlx::$database>>::decode(value)?;
                        Self::Bytes(bytes::Bytes::copy_from_slice(bytes))
                    }
                })
            }
        }

        impl sqlx::Type<sqlx::$database> for Cell {
            fn type_info() -> <sqlx::$database as sqlx::Database>::TypeInfo {
                <i64 as sqlx::Type<sqlx::$database>>::type_info()
            }

            fn compatible(_: &<sqlx::$database as sqlx::Database>::TypeInfo) -> bool {
                true
            }
        }
    };
}

#[cfg(feature = "sqlx-postgres")]
decode!(Postgres);
#[cfg(feature = "sqlx-sqlite")]
decode!(Sqlite);

/// What an error means for the transaction.
pub(super) fn fault(error: &Error) -> Fault {
    match error {
        Error::Database(database) => match database.code() {
            Some(code) => of_code(&code),
            None => Fault::Other,
        },
        Error::Io(_) | Error::WorkerCrashed | Error::PoolClosed => Fault::Lost,
        Error::PoolTimedOut => Fault::Busy,
        _ => Fault::Other,
    }
}

/// A SQLSTATE has five characters, an extended result code of SQLite at most four digits.
fn of_code(code: &str) -> Fault {
    match sqlite_code(code) {
        Some(code) => Fault::of_sqlite(code),
        None => Fault::of_sqlstate(code),
    }
}

fn sqlite_code(code: &str) -> Option<i32> {
    (code.len() < 5).then(|| code.parse().ok()).flatten()
}

fn explain(error: Error) -> JointError {
    let explained = match &error {
        Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            match sqlite_code(&code) {
                Some(number) => JointError::of_sqlite(number, database.message()),
                None => JointError::of_sqlstate(&code, database.message()),
            }
        }
        _ => match fault(&error) {
            Fault::Lost => JointError::lost(&error.to_string()),
            fault => JointError::new(fault, StoreErrorKind::Invalid, format!("sqlx says: {error}")),
        },
    };
    explained.caused_by(error)
}
