//! rusqlite: a connection in a transaction that the caller began, or a transaction or savepoint. Never pends, so that
//! callers without a runtime have the same steps as plain functions.

use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hapax_core::{
    BoxFuture, Claim, Claimed, Enqueue, Enqueued, Fence, Finish, Finished, OperationId, Outcome, Record,
    StoreErrorKind, Timestamp,
};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection as Sqlite, Savepoint, Statement as Prepared, ToSql, Transaction};

use super::fault::{Fault, JointError};
use super::statement::Statement;
use super::value::{Cell, Row, Value};
use super::{Connection, Held, Immediate, Joint, TimeOuts};

macro_rules! connection {
    ($($type:ty),+) => {
        $(impl Connection for $type {
            fn run<'a>(
                &'a mut self,
                statement: &'static Statement,
                values: &'a [Value<'a>],
                keep: bool,
            ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
                Box::pin(ready(run(self, statement, values, keep)))
            }
        }

        impl Immediate for $type {})+
    };
}

connection!(Sqlite, &Sqlite, Transaction<'_>, &Transaction<'_>, Savepoint<'_>);

fn run(sqlite: &Sqlite, statement: &Statement, values: &[Value<'_>], keep: bool) -> Result<Vec<Row>, JointError> {
    if sqlite.is_autocommit() {
        let message = "no transaction is open on this connection: begin with BEGIN IMMEDIATE";
        return Err(JointError::new(Fault::Other, StoreErrorKind::Invalid, message));
    }
    let rows = if keep {
        sqlite
            .prepare_cached(statement.text())
            .and_then(|mut prepared| rows(&mut prepared, values))
    } else {
        sqlite
            .prepare(statement.text())
            .and_then(|mut prepared| rows(&mut prepared, values))
    };
    rows.map_err(explain)
}

fn rows(prepared: &mut Prepared<'_>, values: &[Value<'_>]) -> rusqlite::Result<Vec<Row>> {
    for (index, value) in values.iter().enumerate() {
        prepared.raw_bind_parameter(index + 1, value)?;
    }
    let columns = prepared.column_count();
    let mut raw = prepared.raw_query();
    let mut rows = Vec::new();
    while let Some(row) = raw.next()? {
        let cells: rusqlite::Result<Vec<Cell>> = (0..columns).map(|column| row.get_ref(column).map(cell)).collect();
        rows.push(Row(cells?));
    }
    Ok(rows)
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into()),
        ValueRef::Blob(bytes) => Cell::Bytes(Bytes::copy_from_slice(bytes)),
        // None of our columns holds such a number.
        ValueRef::Null | ValueRef::Real(_) => Cell::Null,
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(Some(number)) => ValueRef::Integer(*number),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Bool(truth) => ValueRef::Integer((*truth).into()),
            Self::Int(None) | Self::Text(None) | Self::Bytes(None) => ValueRef::Null,
        }))
    }
}

/// What an error means for the transaction.
pub(super) fn fault(error: &rusqlite::Error) -> Fault {
    error
        .sqlite_error()
        .map_or(Fault::Other, |error| Fault::of_sqlite(error.extended_code))
}

fn explain(error: rusqlite::Error) -> JointError {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    JointError::of_sqlite(code, &error.to_string()).caused_by(error)
}

/// The answer of a future that never pends.
fn at_once<T>(future: impl Future<Output = Result<T, JointError>>) -> Result<T, JointError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => Err(JointError::new(
            Fault::Other,
            StoreErrorKind::Invalid,
            "this connection keeps its callers waiting, though it says that it does not",
        )),
    }
}

/// The same steps for callers without a runtime.
impl Joint {
    /// As [`claim`](Self::claim).
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub fn claim_now<C: Immediate + ?Sized>(&self, connection: &mut C, claim: &Claim) -> Result<Claimed, JointError> {
        at_once(self.claim(connection, claim))
    }

    /// As [`enter`](Self::enter).
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub fn enter_now<C: Immediate + ?Sized>(
        &self,
        connection: &mut C,
        claims: &[Claim],
        outcome: &Outcome,
        time_outs: &TimeOuts,
    ) -> Result<(Option<Timestamp>, Vec<bool>), JointError> {
        at_once(self.enter(connection, claims, outcome, time_outs))
    }

    /// As [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub fn finish_now<C: Immediate + ?Sized>(
        &self,
        connection: &mut C,
        id: OperationId,
        fence: Fence,
        finish: &Finish,
    ) -> Result<Finished, JointError> {
        at_once(self.finish(connection, id, fence, finish))
    }

    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub fn enqueue_now<C: Immediate + ?Sized>(
        &self,
        connection: &mut C,
        enqueue: &Enqueue,
    ) -> Result<Enqueued, JointError> {
        at_once(self.enqueue(connection, enqueue))
    }

    /// As [`read`](Self::read).
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub fn read_now<C: Immediate + ?Sized>(
        &self,
        connection: &mut C,
        id: OperationId,
    ) -> Result<(Timestamp, Option<Record>), JointError> {
        at_once(self.read(connection, id))
    }

    /// As [`hold`](Self::hold).
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub fn hold_now<C: Immediate + ?Sized>(
        &self,
        connection: &mut C,
        id: OperationId,
        fence: Fence,
    ) -> Result<Held, JointError> {
        at_once(self.hold(connection, id, fence))
    }
}
