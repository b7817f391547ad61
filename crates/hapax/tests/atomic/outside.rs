//! What other transactions and servers do to a run on PostgreSQL.

use std::time::Duration;

use hapax::Reply;
use hapax::atomic::{AtomicError, AtomicOptions, Decision};
use hapax::core::Refusal;
use hapax_testbed::{PgBouncer, Postgres};
use tokio_postgres::types::Type;

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
async fn what_always_fails_to_serialize_is_given_up_and_leaves_nothing() {
    let world = TokioPostgresWorld::start().await;
    let atomic = world.atomic(AtomicOptions::default());
    const FAILS: &str = "DO $$ BEGIN RAISE EXCEPTION 'serialization' USING ERRCODE = '40001'; END $$";
    let always = atomic.run(arrival("a", LONG), |connection, _| {
        Box::pin(async move {
            TokioPostgresWorld::order(connection, "a").await?;
            connection.batch_execute(FAILS).await?;
            Ok::<_, BoxError>(Decision::done(answer(201), ()))
        })
    });
    let error = always.await.unwrap_err();
    assert!(matches!(error, AtomicError::RolledBack(_)), "{error}");
    assert_eq!(world.orders("a").await, 0);
    let (_, record) = world.engine().store().read(operation("a").id()).await.unwrap();
    assert!(record.is_none(), "{record:?}");
}

/// In transaction mode each transaction may get another session of the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_may_stand_between() {
    let server = Postgres::start();
    let database = server.create_database("shop");
    let world = TokioPostgresWorld::on(&database).await;
    let pooler = PgBouncer::start(&server.url(), 3);
    let atomic = world.through(&pooler.url("shop"));
    let mut all = tokio::task::JoinSet::new();
    for number in 0..60 {
        let atomic = atomic.clone();
        all.spawn(async move {
            let key = (number / 3).to_string();
            let ran = atomic.run(arrival(&key, LONG), |connection, run| {
                Box::pin(async move {
                    // Typed, so that nothing is prepared.
                    let key = run.operation.key().as_str();
                    let insert = "INSERT INTO orders (key) VALUES ($1)";
                    connection.execute_typed(insert, &[(&key, Type::TEXT)]).await?;
                    Ok::<_, BoxError>(Decision::done(answer(201), ()))
                })
            });
            ran.await.unwrap()
        });
    }
    let replies = all.join_all().await;
    let ran = replies.iter().filter(|reply| matches!(reply, Reply::Ran(()))).count();
    assert_eq!(ran, 20, "{replies:?}");
    assert_eq!(world.query_one("SELECT count(DISTINCT key)::int FROM orders").await, 20);
    assert_eq!(world.query_one("SELECT count(*)::int FROM orders").await, 20);
}
