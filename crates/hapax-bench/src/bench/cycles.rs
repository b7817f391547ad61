//! Claim + finish of records of about 700 bytes: each store beside hand-written loops on the same database.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hapax::core::Store;
use hapax::store::Clock;
use hapax::store::postgres::PostgresOptions;

use super::World;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::hand;
use crate::measure::{Pace, Subject, Turns, alternate, drive};
use crate::options::Options;
use crate::place::Place;
use crate::report::{Figure, Report, Target};
use crate::work::{self, Terms};

/// Connections of the loop that commits each statement: more are no faster on a small machine.
const POOL: usize = 32;

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new(options)?;
    // Each just before its store: what the disk allows changes while others use it.
    flushes(options, report, "SQLite", &options.out)?;
    sqlite(options, report, &world).await?;
    flushes(options, report, "PostgreSQL", &std::env::temp_dir())?;
    postgres(options, report, &world).await
}

async fn sqlite(options: &Options, report: &mut Report, world: &World) -> Result<()> {
    let store = world.sqlite("store").open(Clock::default()).await?;
    let hand = Arc::new(hand::sqlite::Hand::open(&world.files.path().join("hand.db"))?);
    let mut all = Vec::new();
    for &callers in &options.plan.callers {
        println!("  SQLite, {callers} callers");
        let hand = Arc::clone(&hand);
        let subjects = [
            store_subject(&store, callers),
            Subject::new("hand-written loop", move |time| {
                let hand = Arc::clone(&hand);
                drive(callers, time, move || {
                    let hand = Arc::clone(&hand);
                    async move { hand.cycle().await }
                })
            }),
        ];
        let turns = alternate(pace(options), &subjects).await?;
        let what = format!("SQLite cycles, {callers} callers");
        report.figure(ratio(what, &turns[0], &turns[1], Some(Target::AtLeast(0.8))));
        all.push(turns);
    }
    draw(report, options, "SQLite", "cycles-sqlite", &all)
}

async fn postgres(options: &Options, report: &mut Report, world: &World) -> Result<()> {
    let place = world.postgres("store");
    let store = place.open(Clock::default()).await?;
    // Each loop has a table of its own, as the store has.
    let (Place::Postgres(batched), Place::Postgres(single)) = (world.postgres("batched"), world.postgres("single"))
    else {
        return Err("not a database of PostgreSQL".into());
    };
    hand::postgres::create(&batched).await?;
    hand::postgres::create(&single).await?;
    let batched = Arc::new(hand::postgres::Batched::open(&batched, PostgresOptions::default().connections).await?);
    let single = Arc::new(hand::postgres::Single::open(&single, POOL).await?);

    let mut all = Vec::new();
    for &callers in &options.plan.callers {
        println!("  PostgreSQL, {callers} callers");
        let (batched, single) = (Arc::clone(&batched), Arc::clone(&single));
        let subjects = [
            store_subject(&store, callers),
            Subject::new("hand-written loop, batched", move |time| {
                let batched = Arc::clone(&batched);
                drive(callers, time, move || {
                    let batched = Arc::clone(&batched);
                    async move { batched.cycle().await }
                })
            }),
            Subject::new("one statement a commit", move |time| {
                let single = Arc::clone(&single);
                drive(callers, time, move || {
                    let single = Arc::clone(&single);
                    async move { single.cycle().await }
                })
            }),
        ];
        let turns = alternate(pace(options), &subjects).await?;
        let what = format!("PostgreSQL cycles, {callers} callers");
        report.figure(ratio(what.clone(), &turns[0], &turns[1], Some(Target::AtLeast(0.8))));
        let target = match callers {
            64 => Some(Target::AtLeast(2.5)),
            256 => Some(Target::AtLeast(4.0)),
            _ => None,
        };
        report.figure(ratio(what, &turns[0], &turns[2], target));
        all.push(turns);
    }
    report.note(format!("one statement a commit: over at most {POOL} connections"));
    draw(report, options, "PostgreSQL", "cycles-postgres", &all)
}

fn store_subject(store: &Arc<dyn Store>, callers: usize) -> Subject {
    let store = Arc::clone(store);
    Subject::new("hapax store", move |time| {
        let store = Arc::clone(&store);
        drive(callers, time, move || work::cycle(Arc::clone(&store), Terms::default()))
    })
}

fn pace(options: &Options) -> Pace {
    Pace {
        rounds: options.plan.rounds,
        round: options.plan.round,
        warm_up: options.plan.warm_up,
    }
}

/// A ratio of two rates.
pub(super) fn ratio(what: String, ours: &Turns, theirs: &Turns, target: Option<Target>) -> Figure {
    Figure {
        what,
        measured: ours.shown(),
        beside: theirs.shown(),
        value: ours.rate() / theirs.rate(),
        unit: "",
        target,
    }
}

fn draw(report: &Report, options: &Options, store: &str, file: &str, all: &[Vec<Turns>]) -> Result<()> {
    let subjects = all.first().map_or(0, Vec::len);
    let series = (0..subjects).map(|at| Series {
        label: all[0][at].label.clone(),
        values: all.iter().map(|turns| turns[at].rate()).collect(),
    });
    let chart = Chart {
        kind: Kind::Lines,
        title: format!("{store}: claim + finish"),
        unit: "cycles a second".to_owned(),
        axis: "concurrent callers".to_owned(),
        places: options.plan.callers.iter().map(usize::to_string).collect(),
        series: series.collect(),
    };
    report.chart(file, &chart)
}

/// What the disk allows: flushes of a file that grows by a record, and by 64 of them.
fn flushes(options: &Options, report: &mut Report, place: &str, directory: &Path) -> Result<()> {
    let one = flushes_a_second(directory, 1, options.plan.round)?;
    let many = flushes_a_second(directory, 64, options.plan.round)?;
    report.note(format!(
        "limit where the files of {place} are: {one:.0} flushes/s of one record appended to a file; {many:.0} flushes/s \
         of 64 records, that is {:.0} records/s (a cycle needs two)",
        many * 64.0
    ));
    Ok(())
}

fn flushes_a_second(directory: &Path, records: usize, time: Duration) -> Result<f64> {
    let mut file: File = tempfile::tempfile_in(directory)?;
    let bytes = vec![b'x'; 700 * records];
    let (start, mut flushes) = (Instant::now(), 0);
    while start.elapsed() < time {
        file.write_all(&bytes)?;
        file.sync_data()?;
        flushes += 1;
    }
    Ok(f64::from(flushes) / start.elapsed().as_secs_f64())
}
