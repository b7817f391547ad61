//! Steps in callers' own transactions: statements, plain functions, and what callers' mistakes are told.

use hapax_core::{Finish, Finished, NotKept, Outcome, Ruling, StoreErrorKind};
use hapax_store::joined::{Fault, sqlite_statements};
use hapax_store::sqlite::{SqliteOptions, SqliteStore};
use rusqlite::{Connection, TransactionBehavior};

use super::claim;

#[test]
fn every_statement_prepares() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let _store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let connection = Connection::open(&path).unwrap();
    let statements = sqlite_statements();
    assert!(statements.len() >= 10);
    for statement in statements {
        let prepared = connection.prepare(statement.text());
        prepared.unwrap_or_else(|error| panic!("{}: {error}", statement.name()));
    }
}

#[test]
fn plain_functions_join_a_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let joint = SqliteStore::open(&path, SqliteOptions::default()).unwrap().joint();
    let mut connection = Connection::open(&path).unwrap();
    let mut transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let claim = claim("k");
    let id = claim.operation.id();
    let Ruling::Won(lease) = joint.claim_now(&mut transaction, &claim).unwrap().ruling else {
        panic!("not won");
    };
    let finish = Finish::Done(Outcome::NotKept(NotKept::TooLarge));
    let finished = joint.finish_now(&mut transaction, id, lease.fence, &finish).unwrap();
    assert!(matches!(finished, Finished::Applied { .. }));
    transaction.commit().unwrap();
    let state: String = connection
        .query_row("SELECT state FROM hapax_record", [], |row| row.get(0))
        .unwrap();
    assert_eq!(state, "done");
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let joint = SqliteStore::open(&path, SqliteOptions::default()).unwrap().joint();

    let mut connection = Connection::open(&path).unwrap();
    let error = joint.claim_now(&mut connection, &claim("k")).unwrap_err();
    assert_eq!((error.fault(), error.kind()), (Fault::Other, StoreErrorKind::Invalid));
    assert!(error.to_string().contains("BEGIN IMMEDIATE"), "{error}");

    let mut elsewhere = Connection::open_in_memory().unwrap();
    elsewhere.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = joint.claim_now(&mut elsewhere, &claim("k")).unwrap_err();
    assert_eq!((error.fault(), error.kind()), (Fault::Other, StoreErrorKind::Schema));
    assert!(error.to_string().contains("`hapax migrate`"), "{error}");

    // Began by reading, while another wrote.
    connection
        .execute_batch("BEGIN; SELECT count(*) FROM hapax_record")
        .unwrap();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("UPDATE hapax_meta SET last_now = last_now + 1")
        .unwrap();
    let error = joint.claim_now(&mut connection, &claim("k")).unwrap_err();
    assert_eq!(error.fault(), Fault::Conflict, "{error}");
    assert!(error.to_string().contains("BEGIN IMMEDIATE"), "{error}");
}
