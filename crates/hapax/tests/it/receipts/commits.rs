//! A second commit is impossible.

use std::time::Duration;

use super::world::{Backend, Kind, World, assert_committed};
use super::{in_each, operation};

in_each!(
    a_second_commit_is_refused_whatever_its_fence,
    of_two_at_once_one_commits,
    of_two_at_once_the_second_commits_if_the_first_rolls_back,
    an_attempt_that_began_before_the_commit_cannot_commit_after_it,
    twice_in_one_transaction_is_refused,
    a_hundred_attempts_at_once_have_one_effect,
);

async fn a_second_commit_is_refused_whatever_its_fence(world: &World) {
    let mut backend = world.backend().await;
    backend.attempt(operation(1), 7, "first").await.unwrap();
    for fence in [7, 6, 8, i64::MAX] {
        let error = backend.attempt(operation(1), fence, "again").await.unwrap_err();
        assert_committed(world.kind, &error, operation(1), 7);
    }
    assert_eq!(world.orders().await, ["first"]);
    backend.attempt(operation(2), 1, "other").await.unwrap();
    assert_eq!(world.orders().await, ["first", "other"]);
}

/// The isolation levels of a database, as its backends set them before they begin.
fn levels(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Postgres => &[
            "SET default_transaction_isolation = 'read committed'",
            "SET default_transaction_isolation = 'repeatable read'",
            "SET default_transaction_isolation = 'serializable'",
        ],
        Kind::MariaDb => &[
            "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        ],
        Kind::Sqlite => &["PRAGMA busy_timeout = 5000", "PRAGMA busy_timeout = 0"],
    }
}

/// A second attempt that is made while the first has written its receipt and not yet ended.
async fn while_open(world: &World, number: u8, level: &str, end: &str) -> (Backend, Result<(), String>) {
    let (mut first, mut second) = (world.backend().await, world.backend().await);
    first.execute(level).await.unwrap();
    second.execute(level).await.unwrap();
    first.begin().await;
    first.order("first").await.unwrap();
    first.receipt(operation(number), 3).await.unwrap();
    let ended = async {
        // The second is blocked, or will be: a little later or earlier, the outcome is the same.
        tokio::time::sleep(Duration::from_millis(50)).await;
        first.execute(end).await.unwrap();
    };
    let (done, ()) = tokio::join!(
        async {
            tokio::task::spawn(async move { (second.attempt(operation(number), 4, "second").await, second) }).await
        },
        ended
    );
    let (done, second) = done.unwrap();
    (second, done)
}

async fn of_two_at_once_one_commits(world: &World) {
    for (number, level) in (1..).zip(levels(world.kind)) {
        let (mut second, done) = while_open(world, number, level, "COMMIT").await;
        let error = done.expect_err(level);
        let by_isolation = error.contains("40001") || error.contains("locked") || error.contains("Record has changed");
        if !by_isolation {
            assert_committed(world.kind, &error, operation(number), 3);
        }
        let error = second.attempt(operation(number), 5, "again").await.unwrap_err();
        assert_committed(world.kind, &error, operation(number), 3);
    }
    assert_eq!(world.orders().await, vec!["first"; levels(world.kind).len()]);
}

async fn of_two_at_once_the_second_commits_if_the_first_rolls_back(world: &World) {
    for (number, level) in (1..).zip(levels(world.kind)) {
        let (mut second, done) = while_open(world, number, level, "ROLLBACK").await;
        if let Err(error) = done {
            assert!(error.contains("locked") || error.contains("40001"), "{level}: {error}");
            second.attempt(operation(number), 4, "second").await.unwrap();
        }
    }
    assert_eq!(world.orders().await, vec!["second"; levels(world.kind).len()]);
}

/// The snapshot of the second does not show what the first committed; its commit must fail all the same.
async fn an_attempt_that_began_before_the_commit_cannot_commit_after_it(world: &World) {
    for (number, level) in (1..).zip(levels(world.kind)) {
        let (mut first, mut second) = (world.backend().await, world.backend().await);
        second.execute(level).await.unwrap();
        second.begin().await;
        // A snapshot begins with the first look, here at what nobody else locks.
        second
            .execute("SELECT version FROM hapax_receipt_version")
            .await
            .unwrap();
        first.attempt(operation(number), 3, "first").await.unwrap();

        let done = async {
            second.order("second").await?;
            second.receipt(operation(number), 4).await?;
            second.commit().await
        };
        let error = done.await.expect_err(level);
        assert!(
            ["hapax: ", "40001", "locked", "changed since"]
                .iter()
                .any(|known| error.contains(known)),
            "{level}: {error}"
        );
    }
    assert_eq!(world.orders().await, vec!["first"; levels(world.kind).len()]);
}

async fn twice_in_one_transaction_is_refused(world: &World) {
    let mut backend = world.backend().await;
    backend.begin().await;
    backend.order("twice").await.unwrap();
    backend.receipt(operation(1), 3).await.unwrap();
    let error = backend.receipt(operation(1), 3).await.unwrap_err();
    assert_committed(world.kind, &error, operation(1), 3);
    backend.rollback().await;
    assert_eq!(world.orders().await, [""; 0]);
}

async fn a_hundred_attempts_at_once_have_one_effect(world: &World) {
    let mut attempts = tokio::task::JoinSet::new();
    for fence in 1..=100 {
        let mut backend = world.backend().await;
        attempts.spawn(async move { backend.attempt(operation(9), fence, "once").await });
    }
    let done = attempts.join_all().await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
    assert_eq!(world.orders().await, ["once"]);
}
