//! What other transactions and servers do to a run on PostgreSQL.

use std::time::Duration;

use hapax::Reply;
use hapax::atomic::{AtomicError, AtomicOptions, Bounds, Decision};
use hapax::core::{Refusal, State};

use crate::world::{BoxError, TokioPostgresWorld, World, answer, arrival, operation};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_in_another_process_waits_and_replays() {
    let world = TokioPostgresWorld::start().await;
    let (here, there) = (
        world.atomic(AtomicOptions::default()),
        TokioPostgresWorld::join(world.at())
            .await
            .atomic(AtomicOptions::default()),
    );
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go, may_go) = tokio::sync::oneshot::channel::<()>();
    let mut once = Some((begun, may_go));
    let first = tokio::spawn(async move {
        here.run(arrival("k", LONG), move |connection, _| {
            let (begun, may_go) = once.take().unwrap();
            Box::pin(async move {
                TokioPostgresWorld::order(connection, "k").await?;
                begun.send(()).unwrap();
                may_go.await?;
                Ok::<_, BoxError>(Decision::done(answer(201), ()))
            })
        })
        .await
    });
    has_begun.await.unwrap();
    let reply = there.run(arrival("k", Duration::ZERO), never).await.unwrap();
    assert!(matches!(reply, Reply::Refused(Refusal::InProgress { .. })), "{reply:?}");
    let waiting = tokio::spawn(async move { there.run(arrival("k", LONG), never).await.unwrap() });
    go.send(()).unwrap();
    assert!(matches!(first.await.unwrap().unwrap(), Reply::Ran(())));
    let reply = waiting.await.unwrap();
    assert!(matches!(reply, Reply::Refused(Refusal::Done { .. })), "{reply:?}");
    assert_eq!(world.orders("k").await, 1);
}

fn never<'t, C>(
    _: &'t mut C,
    _: &'t hapax::Run,
) -> futures_util::future::BoxFuture<'t, Result<Decision<()>, BoxError>> {
    panic!("a duplicate ran")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_connection_dies_is_run_again_and_counts_for_nothing() {
    let world = TokioPostgresWorld::start().await;
    let atomic = world.atomic(AtomicOptions::default());
    let mut runs = 0;
    let reply = atomic.run(arrival("k", LONG), move |connection, _| {
        runs += 1;
        let dies = runs == 1;
        Box::pin(async move {
            TokioPostgresWorld::order(connection, "k").await?;
            if dies {
                connection
                    .execute("SELECT pg_terminate_backend(pg_backend_pid())", &[])
                    .await?;
            }
            Ok::<_, BoxError>(Decision::done(answer(201), runs))
        })
    });
    assert!(matches!(reply.await.unwrap(), Reply::Ran(2)));
    assert_eq!(world.orders("k").await, 1);
    let record = world
        .engine()
        .store()
        .read(operation("k").id())
        .await
        .unwrap()
        .1
        .unwrap();
    assert_eq!(record.tries, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serialization_failure_is_run_again_and_gives_up_in_the_end() {
    let world = TokioPostgresWorld::start().await;
    let atomic = world.atomic(AtomicOptions::default());
    const FAILS: &str = "DO $$ BEGIN RAISE EXCEPTION 'serialization' USING ERRCODE = '40001'; END $$";
    let mut runs = 0;
    let reply = atomic.run(arrival("k", LONG), move |connection, _| {
        runs += 1;
        let fails = runs < 3;
        Box::pin(async move {
            TokioPostgresWorld::order(connection, "k").await?;
            if fails {
                connection.batch_execute(FAILS).await?;
            }
            Ok::<_, BoxError>(Decision::done(answer(201), runs))
        })
    });
    assert!(matches!(reply.await.unwrap(), Reply::Ran(3)));
    assert_eq!(world.orders("k").await, 1);
    let always = atomic.run(arrival("a", LONG), |connection, _| {
        Box::pin(async move {
            connection.batch_execute(FAILS).await?;
            Ok::<_, BoxError>(Decision::done(answer(201), ()))
        })
    });
    let error = always.await.unwrap_err();
    assert!(matches!(error, AtomicError::RolledBack(_)), "{error}");
    assert!(
        world
            .engine()
            .store()
            .read(operation("a").id())
            .await
            .unwrap()
            .1
            .is_none()
    );
}
