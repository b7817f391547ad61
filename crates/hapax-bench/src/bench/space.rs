//! Bytes on disk beyond the stored answer, and anonymous memory of the gateway with all these records behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use hapax::EngineOptions;
use hapax::core::Store;
use hapax::store::{Clock, SqliteOptions};

use super::World;
use super::http::{Gateway, Mode, Upstream, Wrk};
use crate::error::Result;
use crate::machine;
use crate::options::Options;
use crate::place::Place;
use crate::report::{Figure, Report, Target};
use crate::work::{self, Terms};

/// Bytes of a record beyond its answer.
const MOST_BYTES: f64 = 1_200.0;
/// Anonymous memory of the gateway, in MB.
const MOST_MEMORY: f64 = 150.0;
/// Enough callers for full batches.
const CALLERS: usize = 400;
const CONNECTIONS: usize = 256;

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new(options)?;
    let places = world.places("space");
    for place in &places {
        disk(options, report, place).await?;
    }
    let upstream = Upstream::start(&world)?;
    for place in &places {
        memory(options, report, (&world, place), &upstream).await?;
    }
    let (sqlite, engine) = (SqliteOptions::default(), EngineOptions::default());
    report.note(format!(
        "caches of the gateway: answers {} MiB; of SQLite's writer {} MiB and of each of its {} readers 4 MiB",
        engine.cache_bytes >> 20,
        sqlite.cache_bytes >> 20,
        sqlite.readers + 1
    ));
    Ok(())
}

/// Records that came as they always come, by claim and finish.
async fn disk(options: &Options, report: &mut Report, place: &Place) -> Result<()> {
    let records = options.plan.space;
    let start = Instant::now();
    let store = place.open(Clock::default()).await?;
    fill(&store, records).await?;
    drop(store);
    println!(
        "   {} filled with {records} records in {:.1} s",
        place.label(),
        start.elapsed().as_secs_f64()
    );
    let (count, bytes) = place.weigh().await?;
    if count != i64::try_from(records)? {
        return Err(format!("{count} records instead of {records}").into());
    }
    let each = bytes as f64 / count as f64;
    report.figure(Figure {
        what: format!("{}: bytes a record beyond the answer, {count} records", place.label()),
        measured: format!("{bytes} bytes in all, {each:.0} a record, indexes included"),
        beside: format!("answer of {} bytes", work::answer_bytes()),
        value: each - work::answer_bytes() as f64,
        unit: "B",
        target: Some(Target::AtMost(MOST_BYTES)),
    });
    Ok(())
}

async fn fill(store: &Arc<dyn Store>, records: u64) -> Result<()> {
    let left = Arc::new(AtomicI64::new(i64::try_from(records)?));
    let mut tasks = Vec::new();
    for _ in 0..CALLERS {
        let (store, left) = (Arc::clone(store), Arc::clone(&left));
        tasks.push(tokio::spawn(async move {
            while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                work::cycle(Arc::clone(&store), Terms::default()).await?;
            }
            Result::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// The most that was seen while first requests, replays and requests without a key came in.
async fn memory(
    options: &Options,
    report: &mut Report,
    (world, place): (&World, &Place),
    upstream: &Upstream,
) -> Result<()> {
    let gateway = Gateway::start(options, world, upstream, place).await?;
    let wrk = Wrk::new(&options.out, CONNECTIONS)?;
    let time = options.plan.round;
    let mut most = 0;
    let before = machine::anonymous_bytes(gateway.process())?;
    for (name, mode) in [
        ("first requests", Mode::first("memory")),
        ("replays", Mode::replay("memory", 100)),
        ("no key", Mode::Plain),
    ] {
        let load = wrk.run(gateway.address(), &mode, time);
        tokio::pin!(load);
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
        let measured = loop {
            tokio::select! {
                done = &mut load => break done?,
                _ = ticks.tick() => most = most.max(machine::anonymous_bytes(gateway.process())?),
            }
        };
        println!(
            "   {}: {name} {:.0}/s, anonymous memory {} MB",
            place.label(),
            measured.rate,
            most / 1_000_000
        );
    }
    let records = options.plan.space;
    report.figure(Figure {
        what: format!("gateway on {}: anonymous memory, {records} records", place.label()),
        measured: format!("the most during traffic over {CONNECTIONS} connections"),
        beside: format!("{:.1} MB before it", before as f64 / 1e6),
        value: most as f64 / 1e6,
        unit: "MB",
        target: Some(Target::AtMost(MOST_MEMORY)),
    });
    Ok(())
}
