//! Processor time of a gateway that has nothing to do, while many records wait for a time to come.

use std::time::{Duration, Instant};

use hapax::store::Clock;

use super::World;
use super::http::{Gateway, Upstream};
use crate::error::Result;
use crate::options::Options;
use crate::place::{Place, server_of};
use crate::report::{Figure, Report, Target};
use crate::work;
use crate::{client, machine, upstream};

/// Percent of one core.
const LIMIT: f64 = 1.0;
/// When the records are due: long after.
const DUE_IN: Duration = Duration::from_secs(24 * 3_600);
/// For an accepted request to be run.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what a start leaves to be done.
const REST: Duration = Duration::from_secs(2);

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let records = options.plan.idle.records;
    let empty = shares(options, "empty", 0).await?;
    let full = shares(options, "full", records).await?;
    let time = options.plan.idle.time.as_secs();
    for (full, empty) in full.into_iter().zip(empty) {
        report.figure(Figure {
            what: format!("{} while {records} records wait", full.whose),
            measured: format!("{:.2} % of a core over {time} s", full.percent),
            beside: format!("no records: {:.2} %", empty.percent),
            value: full.percent,
            unit: "%",
            target: Some(Target::AtMost(LIMIT)),
        });
    }
    Ok(())
}

/// Part of a core that somebody used.
struct Share {
    whose: &'static str,
    percent: f64,
}

async fn shares(options: &Options, name: &str, records: u64) -> Result<[Share; 3]> {
    let world = World::new(options)?;
    let places = world.places(name);
    for place in &places {
        let store = place.open(Clock::default()).await?;
        work::lay(&store, records, DUE_IN).await?;
        place.settle().await?;
    }
    let upstream = Upstream::start(&world)?;
    let [sqlite, postgres] = &places;
    let Place::Postgres(url) = postgres else {
        return Err("not a database of PostgreSQL".into());
    };
    let server = server_of(url).await?;
    let sqlite = gateway(options, &world, &upstream, sqlite).await?;
    let postgres = gateway(options, &world, &upstream, postgres).await?;
    tokio::time::sleep(REST.min(options.plan.idle.time)).await;
    let used = || -> Result<[Duration; 3]> {
        Ok([
            machine::processor_time(sqlite.process())?,
            machine::processor_time(postgres.process())?,
            machine::family_time(server)?,
        ])
    };
    let (before, start) = (used()?, Instant::now());
    tokio::time::sleep(options.plan.idle.time).await;
    let (after, took) = (used()?, start.elapsed());
    let percent = |at: usize| 100.0 * after[at].saturating_sub(before[at]).as_secs_f64() / took.as_secs_f64();
    let whose = ["gateway on SQLite", "gateway on PostgreSQL", "PostgreSQL's server"];
    let shares = std::array::from_fn(|at| Share {
        whose: whose[at],
        percent: percent(at),
    });
    for Share { whose, percent } in &shares {
        println!(
            "   {whose:<34} {records} records: {percent:.2} %  ({})",
            machine::load()
        );
    }
    Ok(shares)
}

/// A gateway whose runner is awake: it has just run something.
async fn gateway(options: &Options, world: &World, upstream: &Upstream, place: &Place) -> Result<Gateway> {
    let config = world.files.path().join("idle.toml");
    std::fs::write(&config, "respond_async = true\n")?;
    let arguments = ["--config", &config.display().to_string()];
    let gateway = Gateway::before(options, world, upstream.address(), place, &arguments).await?;
    let (before, start) = (upstream::count(upstream.address())?, Instant::now());
    let request = client::post(&work::fresh_key(), "Prefer: respond-async\r\n");
    let answer = client::ask(gateway.address(), &request).await?;
    if client::status(&answer)? != 202 {
        return Err(format!("a request was not accepted for later: {answer}").into());
    }
    while upstream::count(upstream.address())? == before {
        if start.elapsed() > PATIENCE {
            return Err("an accepted request was not run: the gateway's runner is not on".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(gateway)
}
