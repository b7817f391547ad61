//! tokio-postgres: a [`Client`] in a transaction that the caller began, or a [`Transaction`].

use std::error::Error;

use bytes::{BufMut, Bytes, BytesMut};
use hapax_core::BoxFuture;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Transaction};

use super::Connection;
use super::fault::{Fault, JointError};
use super::statement::Statement;
use super::value::{Cell, Row, Value};

/// Makes the same function for both, which have no trait in common that could be named here.
macro_rules! connection {
    ($type:ty) => {
        impl Connection for $type {
            fn run<'a>(
                &'a mut self,
                statement: &'static Statement,
                values: &'a [Value<'a>],
                _keep: bool,
            ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
                Box::pin(async move {
                    let typed: Vec<(&(dyn ToSql + Sync), Type)> = values
                        .iter()
                        .zip(statement.types())
                        .map(|(value, r#type)| (value as &(dyn ToSql + Sync), r#type.clone()))
                        .collect();
                    let rows = self.query_typed(statement.text(), &typed).await;
                    rows.map_err(explain)?.iter().map(row).collect()
                })
            }
        }
    };
}

connection!(Client);
connection!(&Client);
connection!(Transaction<'_>);
connection!(&Transaction<'_>);

fn row(row: &tokio_postgres::Row) -> Result<Row, JointError> {
    let cells: Result<Vec<Cell>, _> = (0..row.len()).map(|column| row.try_get(column)).collect();
    cells.map(Row).map_err(explain)
}

impl ToSql for Value<'_> {
    fn to_sql(&self, r#type: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Int(Some(number)) => out.put_i64(*number),
            Self::Text(Some(text)) => out.put_slice(text.as_bytes()),
            Self::Bytes(Some(bytes)) => out.put_slice(bytes),
            Self::Bool(truth) => out.put_u8(u8::from(*truth)),
            Self::Int(None) | Self::Text(None) | Self::Bytes(None) => return Ok(IsNull::Yes),
        }
        let _ = r#type;
        Ok(IsNull::No)
    }

    fn accepts(r#type: &Type) -> bool {
        matches!(*r#type, Type::INT8 | Type::TEXT | Type::BYTEA | Type::BOOL)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(r#type: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *r#type {
            Type::INT8 => Self::Int(i64::from_sql(r#type, raw)?),
            Type::INT4 => Self::Int(i32::from_sql(r#type, raw)?.into()),
            Type::BOOL => Self::Int(bool::from_sql(r#type, raw)?.into()),
            Type::TEXT => Self::Text(<&str>::from_sql(r#type, raw)?.into()),
            _ => Self::Bytes(Bytes::copy_from_slice(raw)),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(r#type: &Type) -> bool {
        matches!(*r#type, Type::INT8 | Type::INT4 | Type::BOOL | Type::TEXT | Type::BYTEA)
    }
}

/// What an error means for the transaction.
pub(super) fn fault(error: &tokio_postgres::Error) -> Fault {
    match error.code() {
        Some(code) => Fault::of_sqlstate(code.code()),
        None if is_io(error) => Fault::Lost,
        None => Fault::Other,
    }
}

/// The driver tells a closed connection and an I/O error by their sources or words alone.
fn is_io(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>())
}

fn explain(error: tokio_postgres::Error) -> JointError {
    let explained = match error.as_db_error() {
        Some(db) => JointError::of_sqlstate(db.code().code(), db.message()),
        None if is_io(&error) => JointError::lost(&error.to_string()),
        None => JointError::new(
            Fault::Other,
            hapax_core::StoreErrorKind::Invalid,
            format!("the driver says: {error}"),
        ),
    };
    explained.caused_by(error)
}
