//! What each driver is examined for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hapax::atomic::{AtomicError, AtomicOptions, Bounds, Database, Decision};
use hapax::core::policy::{Limits, RetryPolicy};
use hapax::core::{DeadReason, Outcome, Record, Refusal, State};
use hapax::{Reply, Run};

use crate::world::{BoxError, World, answer, arrival, operation};

const LONG: Duration = Duration::from_secs(20);

type Connection<W> = <<W as World>::Database as Database>::Connection;
type Decided<'t> = BoxFuture<'t, Result<Decision<()>, BoxError>>;

fn ordering<'t, W: World>(connection: &'t mut Connection<W>, run: &'t Run) -> Decided<'t> {
    Box::pin(async move {
        W::order(connection, run.operation.key().as_str()).await?;
        Ok(Decision::done(answer(201), ()))
    })
}

fn rejecting<'t, W: World>(connection: &'t mut Connection<W>, run: &'t Run) -> Decided<'t> {
    Box::pin(async move {
        W::order(connection, run.operation.key().as_str()).await?;
        Ok(Decision::rejected(answer(409), ()))
    })
}

fn failing<'t, W: World>(connection: &'t mut Connection<W>, run: &'t Run) -> Decided<'t> {
    Box::pin(async move {
        W::order(connection, run.operation.key().as_str()).await?;
        Err("no stock".into())
    })
}

fn panicking<'t, W: World>(connection: &'t mut Connection<W>, run: &'t Run) -> Decided<'t> {
    Box::pin(async move {
        W::order(connection, run.operation.key().as_str()).await?;
        panic!("on purpose")
    })
}

fn endless<'t, W: World>(connection: &'t mut Connection<W>, run: &'t Run) -> Decided<'t> {
    Box::pin(async move {
        W::order(connection, run.operation.key().as_str()).await?;
        std::future::pending().await
    })
}

/// Takes longer than its duplicates need to arrive.
fn slow<'t, W: World>(connection: &'t mut Connection<W>, run: &'t Run, runs: &AtomicUsize) -> Decided<'t> {
    runs.fetch_add(1, Ordering::Relaxed);
    Box::pin(async move {
        W::order(connection, run.operation.key().as_str()).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Decision::done(answer(201), ()))
    })
}

async fn record<W: World>(world: &W, key: &str) -> Option<Record> {
    world.engine().store().read(operation(key).id()).await.unwrap().1
}

pub(crate) async fn runs_once_and_replays<W: World>(world: W) {
    let atomic = world.atomic(AtomicOptions::default());
    let first = atomic.run(arrival("k", LONG), ordering::<W>).await.unwrap();
    assert!(matches!(first, Reply::Ran(_)), "{first:?}");
    // Another process would not have it in its cache.
    for again in [atomic, world.atomic(AtomicOptions::default())] {
        let reply = again.run(arrival("k", LONG), ordering::<W>).await.unwrap();
        let Reply::Refused(Refusal::Done {
            outcome: Outcome::Answer(replayed),
            ..
        }) = reply
        else {
            panic!("{reply:?}")
        };
        assert_eq!(replayed, answer(201));
    }
    assert_eq!(world.orders("k").await, 1);
}

pub(crate) async fn a_rejected_run_leaves_its_answer_and_nothing_else<W: World>(world: W) {
    let atomic = world.atomic(AtomicOptions::default());
    let first = atomic.run(arrival("k", LONG), rejecting::<W>).await.unwrap();
    assert!(matches!(first, Reply::Ran(())), "{first:?}");
    assert_eq!(world.orders("k").await, 0);
    let reply = atomic.run(arrival("k", LONG), ordering::<W>).await.unwrap();
    assert!(matches!(reply, Reply::Refused(Refusal::Done { .. })), "{reply:?}");
    assert_eq!(world.orders("k").await, 0);
}

pub(crate) async fn a_failure_rolls_back_and_is_counted<W: World>(world: W) {
    let failures = RetryPolicy {
        limits: Limits {
            tries: 2,
            ..Limits::default()
        },
        ..RetryPolicy::default()
    };
    let atomic = world.atomic(AtomicOptions {
        failures: Some(failures),
        ..AtomicOptions::default()
    });
    let error = atomic.run(arrival("k", LONG), failing::<W>).await.unwrap_err();
    assert!(
        matches!(&error, AtomicError::Failed(error) if error.to_string() == "no stock"),
        "{error}"
    );
    assert_eq!(world.orders("k").await, 0);
    let kept = record(&world, "k").await.unwrap();
    assert_eq!(kept.tries, 1);
    assert_eq!(kept.last_error.unwrap().as_str(), "no stock");
    let State::Waiting { due } = kept.state else {
        panic!("{:?}", kept.state)
    };
    let now = world.engine().store().time(false).await.unwrap().0;
    tokio::time::sleep(due.since(now) + Duration::from_millis(2)).await;
    let error = atomic.run(arrival("k", LONG), failing::<W>).await.unwrap_err();
    assert!(error.is_rolled_back());
    let kept = record(&world, "k").await.unwrap();
    assert!(
        matches!(
            kept.state,
            State::Dead {
                reason: DeadReason::Exhausted,
                ..
            }
        ),
        "{:?}",
        kept.state
    );
    assert_eq!(world.orders("k").await, 0);
}

pub(crate) async fn a_panic_rolls_back<W: World>(world: W) {
    let atomic = world.atomic(AtomicOptions::default());
    let error = atomic.run(arrival("k", LONG), panicking::<W>).await.unwrap_err();
    assert!(matches!(error, AtomicError::Panicked), "{error}");
    assert_eq!(world.orders("k").await, 0);
    // The connection is whole again, and the operation free.
    let reply = atomic.run(arrival("k", LONG), ordering::<W>).await.unwrap();
    assert!(matches!(reply, Reply::Ran(_)), "{reply:?}");
    assert_eq!(world.orders("k").await, 1);
}

pub(crate) async fn a_hundred_duplicates_have_one_effect<W: World>(world: W) {
    let atomic = world.atomic(AtomicOptions::default());
    let runs = Arc::new(AtomicUsize::new(0));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (atomic, runs) = (atomic.clone(), Arc::clone(&runs));
        all.spawn(async move {
            let ran = atomic.run(arrival("k", LONG), move |connection, run| {
                slow::<W>(connection, run, &runs)
            });
            ran.await.unwrap()
        });
    }
    // Traffic that has nothing to do with them.
    for _ in 0..20 {
        let counted = tokio::time::timeout(Duration::from_secs(2), world.orders("other"));
        assert_eq!(counted.await.expect("unrelated traffic goes on"), 0);
    }
    let replies = all.join_all().await;
    let ran = replies.iter().filter(|reply| matches!(reply, Reply::Ran(()))).count();
    let replayed = replies
        .iter()
        .filter(|reply| matches!(reply, Reply::Refused(Refusal::Done { .. })))
        .count();
    assert_eq!((ran, replayed), (1, 99));
    assert_eq!((runs.load(Ordering::Relaxed), world.orders("k").await), (1, 1));
}

pub(crate) async fn counts_a_claim_before_the_handler<W: World>(world: W) {
    let atomic = world.atomic(AtomicOptions {
        count_crashes: true,
        ..AtomicOptions::default()
    });
    let reply = atomic.run(arrival("k", LONG), ordering::<W>).await.unwrap();
    assert!(matches!(reply, Reply::Ran(_)), "{reply:?}");
    assert_eq!(world.orders("k").await, 1);
    let kept = record(&world, "k").await.unwrap();
    assert_eq!(kept.tries, 1);
    assert!(matches!(kept.state, State::Done(_)), "{:?}", kept.state);
    let reply = atomic.run(arrival("k", LONG), ordering::<W>).await.unwrap();
    assert!(matches!(reply, Reply::Refused(Refusal::Done { .. })), "{reply:?}");
    let error = atomic.run(arrival("f", LONG), failing::<W>).await.unwrap_err();
    assert!(matches!(error, AtomicError::Failed(_)), "{error}");
    assert_eq!(world.orders("f").await, 0);
    assert_eq!(record(&world, "f").await.unwrap().tries, 1);
}

pub(crate) async fn a_run_outlives_its_caller<W: World>(world: W) {
    let atomic = world.atomic(AtomicOptions::default());
    let runs = AtomicUsize::new(0);
    let left = atomic.run(arrival("k", LONG), move |connection, run| {
        slow::<W>(connection, run, &runs)
    });
    tokio::time::timeout(Duration::from_millis(50), left)
        .await
        .expect_err("the run takes longer");
    let reply = atomic.run(arrival("k", LONG), ordering::<W>).await.unwrap();
    assert!(matches!(reply, Reply::Refused(Refusal::Done { .. })), "{reply:?}");
    assert_eq!(world.orders("k").await, 1);
}

pub(crate) async fn what_takes_too_long_is_rolled_back<W: World>(world: W) {
    let bounds = Bounds {
        longest: Duration::from_millis(300),
        ..Bounds::default()
    };
    let atomic = world.atomic(AtomicOptions {
        bounds,
        ..AtomicOptions::default()
    });
    let error = atomic.run(arrival("k", LONG), endless::<W>).await.unwrap_err();
    assert!(matches!(error, AtomicError::TimedOut), "{error}");
    assert_eq!(world.orders("k").await, 0);
    let reply = atomic.run(arrival("k", LONG), ordering::<W>).await.unwrap();
    assert!(matches!(reply, Reply::Ran(_)), "{reply:?}");
}
