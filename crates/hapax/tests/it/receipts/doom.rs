//! What becomes of a transaction whose call failed, if the backend swallows the error and goes on.

use super::world::{Kind, World};
use super::{in_each, operation};

in_each!(
    whoever_swallows_the_error_of_the_last_statement_commits_nothing,
    whoever_swallows_the_error_and_writes_on_is_on_its_own,
    a_connection_is_usable_after_the_error,
);

async fn whoever_swallows_the_error_of_the_last_statement_commits_nothing(world: &World) {
    let mut backend = world.backend().await;
    world.receipts.seal(operation(1), super::fence(5)).await.unwrap();
    backend.begin().await;
    backend.order("swallowed").await.unwrap();
    backend.receipt(operation(1), 5).await.unwrap_err();
    let _ = backend.commit().await;
    assert_eq!(world.orders().await, [""; 0]);
}

/// Only PostgreSQL dooms what follows, too: the others have rolled back, and what comes then is a new transaction. This
/// is why the call belongs at the end, and what `hapax receipts verify` finds.
async fn whoever_swallows_the_error_and_writes_on_is_on_its_own(world: &World) {
    let mut backend = world.backend().await;
    world.receipts.seal(operation(1), super::fence(5)).await.unwrap();
    backend.begin().await;
    backend.order("before").await.unwrap();
    backend.receipt(operation(1), 5).await.unwrap_err();
    let went_on = backend.order("after").await;
    let _ = backend.commit().await;
    if world.kind == Kind::Postgres {
        assert!(went_on.unwrap_err().contains("25P02"), "the transaction is aborted");
        assert_eq!(world.orders().await, [""; 0]);
    } else {
        went_on.unwrap();
        assert_eq!(world.orders().await, ["after"]);
    }
}

async fn a_connection_is_usable_after_the_error(world: &World) {
    let mut backend = world.backend().await;
    backend.attempt(operation(1), 5, "first").await.unwrap();
    backend.attempt(operation(1), 5, "again").await.unwrap_err();
    backend.attempt(operation(2), 5, "other").await.unwrap();
    assert_eq!(world.orders().await, ["first", "other"]);
}
