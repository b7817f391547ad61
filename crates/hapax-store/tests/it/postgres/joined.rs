//! Steps in callers' own transactions: statements, and what callers' mistakes are told.

use hapax_core::{Finished, StoreErrorKind};
use hapax_store::joined::{Fault, JointError, postgres_statements};
use hapax_testbed::Postgres;
use tokio_postgres::{Client, NoTls};

use super::world::{claim, connect, done, lease};

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn every_statement_for_one_operation_prepares() {
    let database = Postgres::shared().database();
    drop(connect(database.url()).await);
    let client = client(database.url()).await;
    let statements = postgres_statements();
    assert!(statements.len() >= 7);
    for statement in statements {
        let prepared = client.prepare_typed(statement.text(), statement.types()).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{}: {error:?}", statement.name()));
        assert_eq!(prepared.params().len(), statement.types().len(), "{}", statement.name());
    }
}

#[tokio::test]
async fn mistakes_are_told_with_what_to_do() {
    let database = Postgres::shared().database();
    let elsewhere = Postgres::shared().database();
    let joint = connect(database.url()).await.joint();
    let check = |error: JointError, kind, part: &str| {
        assert_eq!((error.fault(), error.kind()), (Fault::Other, kind), "{error}");
        let text = error.to_string();
        assert!(text.contains(part) && text.contains(joint.label()), "{text}");
    };

    let other = client(elsewhere.url()).await;
    other.batch_execute("BEGIN").await.unwrap();
    let error = joint.claim(&mut &other, &claim("k")).await.unwrap_err();
    check(error, StoreErrorKind::Schema, "`hapax migrate`");

    let mut own = client(database.url()).await;
    own.batch_execute("BEGIN READ ONLY").await.unwrap();
    let error = joint.claim(&mut own, &claim("k")).await.unwrap_err();
    check(error, StoreErrorKind::Full, "begin READ WRITE");
    let error = joint.claim(&mut own, &claim("k")).await.unwrap_err();
    check(error, StoreErrorKind::Invalid, "the transaction is aborted");
}

#[tokio::test]
async fn the_drivers_own_transaction_is_joined() {
    let database = Postgres::shared().database();
    let joint = connect(database.url()).await.joint();
    let mut client = client(database.url()).await;
    let mut transaction = client.transaction().await.unwrap();
    let claim = claim("k");
    let lease = lease(joint.claim(&mut transaction, &claim).await.unwrap());
    let finished = joint
        .finish(&mut transaction, claim.operation.id(), lease.fence, &done(10))
        .await;
    assert!(matches!(finished.unwrap(), Finished::Applied { .. }));
    transaction.commit().await.unwrap();
    assert_eq!(database.query("SELECT state FROM hapax_record").trim(), "done");
}
