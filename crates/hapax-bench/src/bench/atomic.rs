//! An order and its record in one transaction, beside the same order without a record: on connections of the same pool,
//! to the same database.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, Object, Pool};
use hapax::atomic::{Atomic, AtomicOptions, Decision, PostgresTransaction, TokioPostgres};
use hapax::core::{Fingerprint, RecipeId};
use hapax::store::postgres::{PostgresOptions, PostgresStore};
use hapax::{Arrival, Engine, EngineOptions, Reply, Run, RunOptions};
use tokio_postgres::{Client, NoTls};

use super::World;
use super::cycles::ratio;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::measure::{Pace, Subject, Turns, alternate, drive};
use crate::options::Options;
use crate::place::Place;
use crate::report::{Figure, Report, Target};
use crate::work;

/// Connections of the pool: more are no faster on a small machine.
const POOL: usize = 32;
const TABLE: &str = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, \
                     quantity bigint NOT NULL)";
const INSERT: &str = "INSERT INTO orders (item, quantity) VALUES ($1, $2)";

/// What is written by hand where there is no hapax: a table of keys with the answers, no more.
const KEYS: &str = "CREATE TABLE keys (key text PRIMARY KEY, fingerprint bytea NOT NULL, status bigint, body bytea)";
const KEY: &str = "INSERT INTO keys (key, fingerprint) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const ANSWER: &str = "UPDATE keys SET status = $2, body = $3 WHERE key = $1";

/// What no protection can do without: the key and its answer, if only at the end.
const LEAST: &str = "INSERT INTO keys (key, fingerprint, status, body) VALUES ($1, $2, $3, $4)";

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Orders = Atomic<TokioPostgres<Object>>;

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new(options)?;
    let Place::Postgres(url) = world.postgres("orders") else {
        return Err("not a database of PostgreSQL".into());
    };
    let manager = Manager::new(url.parse()?, NoTls);
    let pool = Pool::builder(manager).max_size(POOL).build()?;
    pool.get().await?.batch_execute(&format!("{TABLE}; {KEYS}")).await?;
    let atomic = atomic(&url, &pool).await?;
    let callers: Vec<usize> = options
        .plan
        .callers
        .iter()
        .copied()
        .filter(|callers| *callers <= 64)
        .collect();
    let mut all = Vec::new();
    for &callers in &callers {
        println!("  {callers} callers");
        let (atomic, plain, hand, least) = (atomic.clone(), pool.clone(), pool.clone(), pool.clone());
        let subjects = [
            Subject::new("hapax, atomic", move |time| {
                let atomic = atomic.clone();
                drive(callers, time, move || ask(atomic.clone()))
            }),
            Subject::new("BEGIN; INSERT; COMMIT", move |time| {
                let pool = plain.clone();
                drive(callers, time, move || unprotected(pool.clone()))
            }),
            Subject::new("with a table of keys, by hand", move |time| {
                let pool = hand.clone();
                drive(callers, time, move || by_hand(pool.clone()))
            }),
            Subject::new("key and answer in one more INSERT", move |time| {
                let pool = least.clone();
                drive(callers, time, move || the_least(pool.clone()))
            }),
        ];
        let pace = Pace {
            rounds: options.plan.rounds,
            round: options.plan.round,
            warm_up: options.plan.warm_up,
        };
        let turns = alternate(pace, &subjects).await?;
        let what = format!("atomic on PostgreSQL, {callers} callers");
        report.figure(ratio(what.clone(), &turns[0], &turns[1], Some(Target::AtLeast(0.75))));
        report.figure(Figure {
            what: format!("{what}: p50"),
            measured: turns[0].shown(),
            beside: turns[1].shown(),
            value: turns[0].p50() / turns[1].p50(),
            unit: "",
            target: Some(Target::AtMost(1.35)),
        });
        report.figure(ratio(what.clone(), &turns[0], &turns[2], None));
        report.figure(ratio(what, &turns[3], &turns[1], None));
        all.push(turns);
    }
    report.note(format!(
        "over {POOL} connections of one pool, statements prepared; the answer that is kept has {} bytes",
        work::answer_bytes()
    ));
    draw(report, &callers, &all)
}

async fn atomic(url: &str, pool: &Pool) -> Result<Orders> {
    let store = PostgresStore::connect(url, PostgresOptions::default()).await?;
    let joint = store.joint().prepared(true);
    let engine = Engine::new(store, EngineOptions::default(), ());
    let pool = pool.clone();
    let database = TokioPostgres::new(
        move || {
            let pool = pool.clone();
            async move { pool.get().await }
        },
        |client: &Object| client,
    );
    let database = database.prepared(|client, text, types| Box::pin(client.prepare_typed_cached(text, types)));
    Ok(Atomic::new(&engine, joint, database, AtomicOptions::default())?)
}

/// The handler of all of them.
async fn order(client: &Client, insert: &tokio_postgres::Statement) -> Result<()> {
    client.execute(insert, &[&"tea", &2_i64]).await?;
    Ok(())
}

async fn ask(atomic: Orders) -> Result<()> {
    let arrival = Arrival {
        operation: work::operation(work::fresh_key())?,
        fingerprint: Fingerprint::new(RecipeId::new(1), work::FINGERPRINT),
        refingerprint: Arc::new(|_, _| None),
        options: RunOptions::default(),
        wait: Duration::from_secs(5),
        group: None,
        input: None,
    };
    let reply = atomic.run(arrival, |transaction: &mut PostgresTransaction<Object>, _: &Run| {
        Box::pin(async move {
            let insert = transaction.pooled().prepare_cached(INSERT).await?;
            order(transaction, &insert).await?;
            Ok::<_, BoxError>(Decision::done(work::answer(), ()))
        })
    });
    match reply.await? {
        Reply::Ran(()) => Ok(()),
        Reply::Refused(refusal) => Err(format!("a new order was refused: {refusal:?}").into()),
    }
}

async fn unprotected(pool: Pool) -> Result<()> {
    let mut client = pool.get().await?;
    let insert = client.prepare_cached(INSERT).await?;
    let transaction = client.transaction().await?;
    order(transaction.client(), &insert).await?;
    transaction.commit().await?;
    Ok(())
}

async fn by_hand(pool: Pool) -> Result<()> {
    let mut client = pool.get().await?;
    let [insert, claim, keep] = [
        client.prepare_cached(INSERT).await?,
        client.prepare_cached(KEY).await?,
        client.prepare_cached(ANSWER).await?,
    ];
    let key = work::fresh_key();
    let transaction = client.transaction().await?;
    let claimed = transaction
        .execute(&claim, &[&key, &work::FINGERPRINT.as_slice()])
        .await?;
    if claimed != 1 {
        return Err("a new key was there already".into());
    }
    order(transaction.client(), &insert).await?;
    transaction
        .execute(&keep, &[&key, &i64::from(work::STATUS), &work::BODY])
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Protects nothing, since nobody looks before it runs: the bound for whoever does.
async fn the_least(pool: Pool) -> Result<()> {
    let mut client = pool.get().await?;
    let [insert, keep] = [
        client.prepare_cached(INSERT).await?,
        client.prepare_cached(LEAST).await?,
    ];
    let (key, status) = (work::fresh_key(), i64::from(work::STATUS));
    let transaction = client.transaction().await?;
    order(transaction.client(), &insert).await?;
    transaction
        .execute(&keep, &[&key, &work::FINGERPRINT.as_slice(), &status, &work::BODY])
        .await?;
    transaction.commit().await?;
    Ok(())
}

fn draw(report: &Report, callers: &[usize], all: &[Vec<Turns>]) -> Result<()> {
    let subjects = all.first().map_or(0, Vec::len);
    let series = (0..subjects).map(|at| Series {
        label: all[0][at].label.clone(),
        values: all.iter().map(|turns| turns[at].rate()).collect(),
    });
    let chart = Chart {
        kind: Kind::Bars,
        title: "Orders with their records in one transaction".to_owned(),
        unit: "orders a second".to_owned(),
        axis: "callers".to_owned(),
        places: callers.iter().map(usize::to_string).collect(),
        series: series.collect(),
    };
    report.chart("atomic", &chart)
}
