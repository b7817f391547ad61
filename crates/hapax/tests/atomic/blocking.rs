//! Handlers that block a thread.

use std::time::Duration;

use hapax::Reply;
use hapax::atomic::{AtomicError, AtomicOptions, Bounds, Decision};

use crate::world::{BoxError, RusqliteWorld, World, answer, arrival};

const LONG: Duration = Duration::from_secs(20);

/// The thread cannot be stopped; what it did is rolled back when it ends, and the connection is whole again.
#[tokio::test(flavor = "multi_thread")]
async fn what_blocks_for_too_long_is_rolled_back() {
    let world = RusqliteWorld::start().await;
    let bounds = Bounds {
        longest: Duration::from_millis(300),
        ..Bounds::default()
    };
    let atomic = world.atomic(AtomicOptions {
        bounds,
        ..AtomicOptions::default()
    });
    let slow = |work: Duration| {
        atomic.run_blocking(arrival("k", LONG), move |connection, run| {
            connection.execute("INSERT INTO orders (key) VALUES (?)", [run.operation.key().as_str()])?;
            std::thread::sleep(work);
            Ok::<_, BoxError>(Decision::done(answer(201), ()))
        })
    };
    let error = slow(Duration::from_millis(600)).await.unwrap_err();
    assert!(matches!(error, AtomicError::TimedOut), "{error}");
    assert_eq!(world.orders("k").await, 0);
    let reply = slow(Duration::ZERO).await.unwrap();
    assert!(matches!(reply, Reply::Ran(())), "{reply:?}");
    assert_eq!(world.orders("k").await, 1);
}
