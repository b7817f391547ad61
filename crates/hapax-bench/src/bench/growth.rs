//! What a cycle and a replay cost as records pile up: stores of each size, loaded beforehand, taking turns.

use std::sync::Arc;
use std::time::Instant;

use hapax::core::Store;
use hapax::store::Clock;

use super::World;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::measure::{Measured, Turns, drive};
use crate::options::Options;
use crate::place::{Age, Place};
use crate::report::{Figure, Report, Target};
use crate::work::{self, Terms};

const CALLERS: usize = 64;
/// Cost at the largest size : cost at the smallest.
const LIMIT: f64 = 2.5;

type Pick = fn(&Grown) -> &Turns;
const TURNS: [(&str, Pick); 2] = [("cycle", |one| &one.cycles), ("replay", |one| &one.replays)];

/// A store of one size.
struct Grown {
    records: u64,
    place: Place,
    store: Arc<dyn Store>,
    last_position: i64,
    cycles: Turns,
    replays: Turns,
}

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new(options)?;
    for kind in ["SQLite", "PostgreSQL"] {
        let mut all = Vec::new();
        for &records in &options.plan.growth {
            let name = format!("grown_{records}");
            let place = if kind == "SQLite" {
                world.sqlite(&name)
            } else {
                world.postgres(&name)
            };
            all.push(grow(place, records).await?);
        }
        for round in 0..=options.plan.growth_rounds {
            for place in 0..all.len() {
                let at = (place + round) % all.len();
                // The first one warms up.
                all[at].turn(options, round > 0).await?;
            }
        }
        report_on(report, kind, &all)?;
    }
    report.note(format!(
        "{CALLERS} callers; the loaded records were written by SQL; what a round adds is removed after it"
    ));
    Ok(())
}

async fn grow(place: Place, records: u64) -> Result<Grown> {
    let start = Instant::now();
    place.load(records, Age::Kept).await?;
    println!(
        "   {} loaded with {records} records in {:.1} s",
        place.label(),
        start.elapsed().as_secs_f64()
    );
    Ok(Grown {
        records,
        store: place.open(Clock::default()).await?,
        last_position: place.last_position().await?,
        cycles: Turns::new(format!("cycles at {}", short(records))),
        replays: Turns::new(format!("replays at {}", short(records))),
        place,
    })
}

impl Grown {
    async fn turn(&mut self, options: &Options, counts: bool) -> Result<()> {
        let replays = self.replays_of(options).await?;
        let store = Arc::clone(&self.store);
        let cycles = drive(CALLERS, options.plan.growth_round, move || {
            work::cycle(Arc::clone(&store), Terms::default())
        });
        let cycles = cycles.await?;
        // Or the small store would soon be a large one.
        self.place.cut_back(self.last_position).await?;
        if counts {
            self.replays.push(replays);
            self.cycles.push(cycles);
        }
        Ok(())
    }

    async fn replays_of(&self, options: &Options) -> Result<Measured> {
        let (store, records) = (Arc::clone(&self.store), self.records);
        drive(CALLERS, options.plan.growth_round, move || {
            work::replay(Arc::clone(&store), work::loaded_key(work::below(records)))
        })
        .await
    }
}

fn report_on(report: &mut Report, kind: &str, all: &[Grown]) -> Result<()> {
    let Some((first, grown)) = all.split_first() else {
        return Ok(());
    };
    for (what, of) in TURNS {
        for one in grown {
            report.figure(Figure {
                what: format!(
                    "{kind}: cost of a {what}, {} : {}",
                    short(one.records),
                    short(first.records)
                ),
                measured: of(one).shown(),
                beside: of(first).shown(),
                value: of(first).rate() / of(one).rate(),
                unit: "",
                target: Some(Target::AtMost(LIMIT)),
            });
        }
    }
    let chart = Chart {
        kind: Kind::Lines,
        title: format!("{kind}: cost as records pile up, {CALLERS} callers"),
        unit: "µs each".to_owned(),
        axis: "records in the store".to_owned(),
        places: all.iter().map(|one| short(one.records)).collect(),
        series: TURNS
            .iter()
            .map(|(what, of)| Series {
                label: (*what).to_owned(),
                values: all.iter().map(|one| 1e6 / of(one).rate()).collect(),
            })
            .collect(),
    };
    report.chart(&format!("growth-{}", kind.to_lowercase()), &chart)
}

fn short(records: u64) -> String {
    match records {
        millions if millions >= 1_000_000 => format!("{} M", millions / 1_000_000),
        thousands if thousands >= 1_000 => format!("{} k", thousands / 1_000),
        few => few.to_string(),
    }
}
