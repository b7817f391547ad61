//! A backlog of expired records is swept while traffic goes on: what a request feels of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hapax::core::Store;
use hapax::store::Clock;

use super::{CALLERS, Sweeping, Tally};
use crate::bench::cycles::ratio;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::measure::{Measured, Turns, drive};
use crate::options::Options;
use crate::place::{Age, Place};
use crate::report::{Figure, Report, Target};
use crate::work::{self, Terms};

/// The longest that a request may be held up, in milliseconds.
const LONGEST_STALL: f64 = 100.0;
/// Far more than the sweep can take; ends a run whose sweeper does nothing.
const MOST_ROUNDS: usize = 400;

pub(super) async fn run(options: &Options, report: &mut Report, place: &Place) -> Result<()> {
    let backlog = options.plan.backlog;
    place.load(backlog, Age::Expired).await?;
    let last = place.last_position().await?;
    let store = place.open(Clock::default()).await?;
    let tally = Arc::new(Tally::default());
    let (mut with, mut without) = (Turns::new("with the sweep"), Turns::new("without it"));
    println!("  {}: {backlog} expired records", place.label());
    traffic(&store, options.plan.warm_up).await?;
    let mut sweeping_for = Duration::ZERO;
    let (mut rounds, mut left) = (0, i64::try_from(backlog)?);
    while left > 0 {
        rounds += 1;
        if rounds > MOST_ROUNDS {
            return Err(format!("{left} of {backlog} records are still there").into());
        }
        without.push(traffic(&store, options.plan.round).await?);
        let start = Instant::now();
        let sweeping = Sweeping::start(&store, &tally);
        with.push(traffic(&store, options.plan.round).await?);
        drop(sweeping);
        sweeping_for += start.elapsed();
        tally.check()?;
        // Not from the tally: a step that was broken off at the end of a round is not in it.
        left = place.count_to(last).await?;
        println!("   {left} of {backlog} left");
    }
    let label = place.label();
    report.figure(Figure {
        what: format!("{label}: worst stall while {backlog} records are swept"),
        measured: stall(&with),
        beside: stall(&without),
        value: with.worst(),
        unit: "ms",
        target: Some(Target::AtMost(LONGEST_STALL)),
    });
    report.figure(ratio(
        format!("{label}: throughput while a backlog is swept"),
        &with,
        &without,
        None,
    ));
    report.note(format!(
        "{label}: {backlog} records were forgotten in {:.0} s of sweeping",
        sweeping_for.as_secs_f64()
    ));
    if without.worst() > LONGEST_STALL {
        report.note(format!(
            "{label}: without a sweep the worst stall was {:.0} ms: the machine was too busy to judge",
            without.worst()
        ));
    }
    draw(report, place, &with, &without)
}

async fn traffic(store: &Arc<dyn Store>, time: Duration) -> Result<Measured> {
    let store = Arc::clone(store);
    drive(CALLERS, time, move || work::cycle(Arc::clone(&store), Terms::default())).await
}

fn stall(turns: &Turns) -> String {
    format!(
        "{}: worst {:.1} ms, p99.9 {:.1} ms",
        turns.label,
        turns.worst(),
        turns.p999()
    )
}

fn draw(report: &Report, place: &Place, with: &Turns, without: &Turns) -> Result<()> {
    let series = |turns: &Turns| Series {
        label: turns.label.clone(),
        values: vec![turns.p50(), turns.p99(), turns.p999(), turns.worst()],
    };
    let chart = Chart {
        kind: Kind::Bars,
        title: format!("{}: a cycle while a backlog is swept, {CALLERS} callers", place.label()),
        unit: "ms".to_owned(),
        axis: "latency".to_owned(),
        places: ["p50", "p99", "p99.9", "worst"].map(str::to_owned).to_vec(),
        series: vec![series(without), series(with)],
    };
    report.chart(&format!("sweep-{}", place.label().to_lowercase()), &chart)
}
