//! To conclude that something did not happen.

use std::time::Duration;

use hapax::core::StoreErrorKind;
use hapax::receipts::{Body, Sealing};

use super::world::{Kind, World, assert_committed, assert_stale};
use super::{fence, in_each, operation};

in_each!(
    a_seal_shuts_out_all_up_to_its_fence_and_no_later_one,
    a_seal_finds_what_was_committed,
    a_later_seal_stands,
    a_seal_waits_for_a_commit_and_reports_it,
    a_seal_waits_for_a_rollback_and_holds,
    a_seal_does_not_wait_for_ever,
    an_attempt_that_began_before_the_seal_cannot_commit_after_it,
    a_fence_of_zero_is_nobodys,
);

async fn a_seal_shuts_out_all_up_to_its_fence_and_no_later_one(world: &World) {
    let mut backend = world.backend().await;
    assert_eq!(
        world.receipts.seal(operation(1), fence(5)).await.unwrap(),
        Sealing::Sealed
    );
    for stale in [5, 4, 1] {
        let error = backend.attempt(operation(1), stale, "stale").await.unwrap_err();
        assert_stale(world.kind, &error, operation(1), 5, stale);
    }
    assert_eq!(
        world.receipts.seal(operation(1), fence(5)).await.unwrap(),
        Sealing::Sealed,
        "again"
    );
    backend.attempt(operation(1), 6, "later").await.unwrap();
    assert_eq!(world.orders().await, ["later"]);

    let [row] = &world.receipts.find(&[operation(1)]).await.unwrap()[..] else {
        panic!("one row")
    };
    assert_eq!((row.sealed, row.fence, row.status), (false, fence(6), Some(201)));
    assert_eq!(row.body, Body::Bytes(br#"{"id":7}"#[..].into()));
}

async fn a_seal_finds_what_was_committed(world: &World) {
    world.backend().await.attempt(operation(1), 5, "first").await.unwrap();
    for asked in [4, 5, 6] {
        match world.receipts.seal(operation(1), fence(asked)).await.unwrap() {
            Sealing::Committed(receipt) => assert_eq!((receipt.fence, receipt.sealed), (fence(5), false)),
            other => panic!("{other:?}"),
        }
    }
}

async fn a_later_seal_stands(world: &World) {
    let seal = |number| world.receipts.seal(operation(1), fence(number));
    assert_eq!(seal(5).await.unwrap(), Sealing::Sealed);
    assert_eq!(seal(4).await.unwrap(), Sealing::Later(fence(5)));
    assert_eq!(seal(8).await.unwrap(), Sealing::Sealed);
    assert_eq!(seal(5).await.unwrap(), Sealing::Later(fence(8)));
    let error = world
        .backend()
        .await
        .attempt(operation(1), 8, "stale")
        .await
        .unwrap_err();
    assert_stale(world.kind, &error, operation(1), 8, 8);
    assert_eq!(world.receipts.highest_fence().await.unwrap(), Some(fence(8)));
}

/// Seals while an attempt has written its receipt, which then ends as `end` says.
async fn seal_while_open(world: &World, end: &'static str) -> Sealing {
    let mut backend = world.backend().await;
    backend.begin().await;
    backend.order("open").await.unwrap();
    backend.receipt(operation(1), 5).await.unwrap();
    let receipts = std::sync::Arc::clone(&world.receipts);
    let sealing = tokio::spawn(async move { receipts.seal(operation(1), fence(5)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!sealing.is_finished(), "it did not wait");
    backend.execute(end).await.unwrap();
    sealing.await.unwrap().unwrap()
}

async fn a_seal_waits_for_a_commit_and_reports_it(world: &World) {
    match seal_while_open(world, "COMMIT").await {
        Sealing::Committed(receipt) => assert_eq!(receipt.fence, fence(5)),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.orders().await, ["open"]);
}

async fn a_seal_waits_for_a_rollback_and_holds(world: &World) {
    assert_eq!(seal_while_open(world, "ROLLBACK").await, Sealing::Sealed);
    let error = world
        .backend()
        .await
        .attempt(operation(1), 5, "stale")
        .await
        .unwrap_err();
    assert_stale(world.kind, &error, operation(1), 5, 5);
    assert_eq!(world.orders().await, [""; 0]);
}

async fn a_seal_does_not_wait_for_ever(world: &World) {
    let mut backend = world.backend().await;
    backend.begin().await;
    backend.order("open").await.unwrap();
    backend.receipt(operation(1), 5).await.unwrap();
    let error = world.receipts.seal(operation(1), fence(5)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("transaction"), "{error}");
    backend.commit().await.unwrap();
    assert!(matches!(
        world.receipts.seal(operation(1), fence(5)).await.unwrap(),
        Sealing::Committed(_)
    ));
}

async fn an_attempt_that_began_before_the_seal_cannot_commit_after_it(world: &World) {
    let mut backend = world.backend().await;
    if world.kind == Kind::Postgres {
        backend
            .execute("SET default_transaction_isolation = 'repeatable read'")
            .await
            .unwrap();
    }
    backend.begin().await;
    backend.execute("SELECT item FROM orders").await.unwrap();
    assert_eq!(
        world.receipts.seal(operation(1), fence(5)).await.unwrap(),
        Sealing::Sealed
    );
    let done = async {
        backend.order("stale").await?;
        backend.receipt(operation(1), 5).await?;
        backend.commit().await
    };
    let error = done.await.unwrap_err();
    assert!(
        ["is sealed", "40001", "locked"]
            .iter()
            .any(|known| error.contains(known)),
        "{error}"
    );
    backend.rollback().await;
    let error = backend.attempt(operation(1), 5, "stale").await.unwrap_err();
    assert_stale(world.kind, &error, operation(1), 5, 5);
    assert_eq!(world.orders().await, [""; 0]);
    // Only to see that the receipt itself is not what is refused.
    backend.attempt(operation(1), 6, "next").await.unwrap();
    let error = backend.attempt(operation(1), 7, "again").await.unwrap_err();
    assert_committed(world.kind, &error, operation(1), 6);
}

async fn a_fence_of_zero_is_nobodys(world: &World) {
    let error = world.receipts.seal(operation(1), fence(0)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    assert!(world.receipts.list(None, 10).await.unwrap().is_empty());
}
