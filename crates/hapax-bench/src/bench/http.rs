//! The gateway beside the bare upstream and nginx: requests without a key, first requests, replays.

mod servers;
mod wrk;

use std::net::SocketAddr;
use std::sync::Arc;

use hapax_testbed::Nginx;

pub(super) use servers::{Gateway, Upstream};
pub(super) use wrk::{Mode, Wrk};

use super::World;
use super::cycles::ratio;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::measure::{Pace, Subject, Turns, alternate};
use crate::options::Options;
use crate::report::{Report, Target};
use crate::work;

/// Keys that are replayed from memory.
const HOT_KEYS: u64 = 100;

/// Everything that takes part, up for the whole benchmark.
struct Stage {
    upstream: Upstream,
    nginx: Nginx,
    sqlite: Gateway,
    postgres: Gateway,
    _world: World,
}

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new(options)?;
    let upstream = Upstream::start(&world)?;
    let stage = Stage {
        nginx: Nginx::try_start(upstream.address())?,
        sqlite: Gateway::start(options, &world, &upstream, &world.sqlite("gateway")).await?,
        postgres: Gateway::start(options, &world, &upstream, &world.postgres("gateway")).await?,
        upstream,
        _world: world,
    };
    let mut all = Vec::new();
    for &connections in &options.plan.connections {
        println!("  {connections} connections");
        let turns = alternate(pace(options), &subjects(options, &stage, connections)?).await?;
        figures(report, connections, &turns);
        all.push(turns);
    }
    report.note("POST of 500 bytes of JSON, answer of 300; wrk with one thread; logs of warnings only".to_owned());
    report.note("the upstream counts: each first request came through once, no replay did".to_owned());
    draw(report, options, &all)
}

/// wrk counts whole seconds.
fn pace(options: &Options) -> Pace {
    Pace {
        rounds: options.plan.rounds,
        round: options.plan.round,
        warm_up: options.plan.warm_up,
    }
}

const BARE: usize = 0;
const NGINX: usize = 1;
const PASS: usize = 2;
const FIRST_SQLITE: usize = 3;
const FIRST_POSTGRES: usize = 4;
const REPLAY: usize = 5;

/// In the order of the numbers above.
fn subjects(options: &Options, stage: &Stage, connections: usize) -> Result<Vec<Subject>> {
    let wrk = Arc::new(Wrk::new(&options.out, connections)?);
    let upstream = stage.upstream.address();
    let plain = |label: &str, address: SocketAddr| {
        let wrk = Arc::clone(&wrk);
        Subject::new(label, move |time| {
            let wrk = Arc::clone(&wrk);
            async move { wrk.counted(address, upstream, &Mode::Plain, time).await }
        })
    };
    let first = |label: &str, address: SocketAddr| {
        let wrk = Arc::clone(&wrk);
        Subject::new(label, move |time| {
            let wrk = Arc::clone(&wrk);
            async move {
                wrk.counted(address, upstream, &Mode::first(&work::fresh_key()), time)
                    .await
            }
        })
    };
    let replay = |label: &str, address: SocketAddr| {
        let (wrk, prefix) = (Arc::clone(&wrk), work::fresh_key());
        // The first turn, which warms up, runs the operations; the others find them done.
        let begun = Arc::new(std::sync::atomic::AtomicBool::new(false));
        Subject::new(label, move |time| {
            let (wrk, prefix) = (Arc::clone(&wrk), prefix.clone());
            let again = begun.swap(true, std::sync::atomic::Ordering::Relaxed);
            async move {
                let mode = Mode::replay(&prefix, HOT_KEYS);
                if again {
                    wrk.counted(address, upstream, &mode, time).await
                } else {
                    wrk.run(address, &mode, time).await
                }
            }
        })
    };
    Ok(vec![
        plain("bare upstream", upstream),
        plain("nginx", stage.nginx.address()),
        plain("pass-through", stage.sqlite.address()),
        first("first request, SQLite", stage.sqlite.address()),
        first("first request, PostgreSQL", stage.postgres.address()),
        replay("replay", stage.sqlite.address()),
    ])
}

fn figures(report: &mut Report, connections: usize, turns: &[Turns]) {
    let at_64 = |limit: f64| (connections == 64).then_some(Target::AtLeast(limit));
    let first = match connections {
        64 => Some(Target::AtLeast(0.35)),
        256 => Some(Target::AtLeast(0.4)),
        _ => None,
    };
    for (what, ours, theirs, target) in [
        ("pass-through : nginx", PASS, NGINX, at_64(0.9)),
        ("replay : pass-through", REPLAY, PASS, Some(Target::AtLeast(1.1))),
        ("first request on SQLite : pass-through", FIRST_SQLITE, PASS, first),
        ("first request on PostgreSQL : pass-through", FIRST_POSTGRES, PASS, None),
        ("nginx : bare upstream", NGINX, BARE, None),
        ("pass-through : bare upstream", PASS, BARE, None),
    ] {
        report.figure(ratio(
            format!("{what}, {connections} connections"),
            &turns[ours],
            &turns[theirs],
            target,
        ));
    }
}

fn draw(report: &Report, options: &Options, all: &[Vec<Turns>]) -> Result<()> {
    let labels: Vec<&str> = all
        .first()
        .map_or(Vec::new(), |turns| turns.iter().map(|one| one.label.as_str()).collect());
    let series = labels.iter().enumerate().map(|(at, label)| Series {
        label: (*label).to_owned(),
        values: all.iter().map(|turns| turns[at].rate()).collect(),
    });
    let chart = Chart {
        kind: Kind::Bars,
        title: "HTTP, 500-byte POST".to_owned(),
        unit: "requests a second".to_owned(),
        axis: "connections".to_owned(),
        places: options.plan.connections.iter().map(usize::to_string).collect(),
        series: series.collect(),
    };
    report.chart("http", &chart)
}
