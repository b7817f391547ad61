//! Jobs that do nothing, laid before a runner beforehand: how many it runs a second, beside a hand-written loop and a
//! queue from crates.io on the same database server.

mod rival;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hapax::core::{Input, Name, NotKept, Outcome, RetryPolicy};
use hapax::retry::Destination;
use hapax::store::Clock;
use hapax::store::postgres::PostgresOptions;
use hapax::{Attempted, Engine, EngineOptions, Event, Handling, Observer, Run, Runner, RunnerOptions};
use tokio::sync::Notify;

use super::World;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::hand::queue;
use crate::measure::Laps;
use crate::options::Options;
use crate::place::{self, Place};
use crate::report::{Figure, Report, Target};
use crate::{machine, work};
use rival::How;

/// Who takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Postgres,
    Hand,
    Rival(How),
    Sqlite,
}

impl Subject {
    fn label(self) -> &'static str {
        match self {
            Self::Postgres => "hapax runner, PostgreSQL",
            Self::Hand => "hand-written loop",
            Self::Rival(How::Queue) => "graphile_worker",
            Self::Rival(How::Batched) => "graphile_worker, batched completion",
            Self::Sqlite => "hapax runner, SQLite",
        }
    }

    fn target(self) -> Option<Target> {
        match self {
            Self::Hand => Some(Target::AtLeast(0.7)),
            Self::Rival(How::Queue) => Some(Target::AtLeast(2.0)),
            Self::Rival(How::Batched) | Self::Postgres | Self::Sqlite => None,
        }
    }
}

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut subjects = vec![Subject::Postgres, Subject::Hand, Subject::Sqlite];
    match &options.rival {
        Some(program) => {
            rival::check(program)?;
            subjects.extend([Subject::Rival(How::Queue), Subject::Rival(How::Batched)]);
        }
        None => report.note("graphile_worker was left out (--no-rival)"),
    }
    let world = World::new(options)?;
    let mut all = Vec::new();
    for &concurrency in &options.plan.concurrency {
        println!("  {concurrency} jobs at a time");
        let mut laps: Vec<Laps> = subjects.iter().map(|one| Laps::new(one.label(), "/s")).collect();
        for round in 0..options.plan.rounds {
            for turn in 0..subjects.len() {
                let at = (turn + round) % subjects.len();
                let name = format!("lap_{concurrency}_{round}_{at}");
                let rate = lap(options, &world, &name, (subjects[at], concurrency)).await;
                laps[at].push(rate.map_err(|why| format!("{}: {why}", subjects[at].label()))?);
            }
        }
        figures(report, concurrency, &subjects, &laps);
        all.push(laps);
    }
    report.note(format!(
        "{} jobs with an input of {} bytes, laid down before the clock starts, in a new database each time",
        options.plan.jobs,
        work::INPUT.len()
    ));
    draw(report, options, &all)
}

/// Jobs a second, once around.
async fn lap(options: &Options, world: &World, name: &str, (who, concurrency): (Subject, usize)) -> Result<f64> {
    let jobs = options.plan.jobs;
    if who == Subject::Sqlite {
        return hapax(&world.sqlite(name), jobs, concurrency).await;
    }
    let database = world.postgres(name);
    match (who, &database, &options.rival) {
        (Subject::Postgres, ..) => hapax(&database, jobs, concurrency).await,
        (Subject::Hand, Place::Postgres(url), _) => hand(url, jobs, concurrency).await,
        (Subject::Rival(how), Place::Postgres(url), Some(program)) => {
            rival::run(program, url, (jobs, concurrency), how).await
        }
        _ => Err("not to be run here".into()),
    }
}

/// Processor time of this process and of the database server, from here on.
pub(super) struct Meter {
    server: u32,
    start: [Duration; 2],
}

impl Meter {
    pub(super) async fn start(url: &str) -> Result<Self> {
        let server = place::server_of(url).await?;
        let start = Self::read(server)?;
        Ok(Self { server, start })
    }

    fn read(server: u32) -> Result<[Duration; 2]> {
        Ok([
            machine::processor_time(std::process::id())?,
            machine::family_time(server)?,
        ])
    }

    /// Says what each job, or each delivery, cost.
    pub(super) fn say(&self, jobs: u64) -> Result<()> {
        let now = Self::read(self.server)?;
        let micros = |at: usize| now[at].saturating_sub(self.start[at]).as_secs_f64() * 1e6 / jobs as f64;
        println!(
            "   processor time a job: {:.0} µs, the server {:.0} µs",
            micros(0),
            micros(1)
        );
        Ok(())
    }
}

/// How the runner asks for work.
#[derive(Default)]
struct Takes {
    takes: AtomicU64,
    micros: AtomicU64,
}

impl Observer for Takes {
    fn event(&self, event: &Event<'_>) {
        if let Event::Taken { took, .. } = event {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.takes.fetch_add(1, Ordering::Relaxed);
            self.micros.fetch_add(micros, Ordering::Relaxed);
        }
    }
}

async fn hapax(place: &Place, jobs: u64, concurrency: usize) -> Result<f64> {
    let store = place.open(Clock::default()).await?;
    work::lay(&store, jobs, Duration::ZERO).await?;
    place.settle().await?;
    let takes = Arc::new(Takes::default());
    let engine = Engine::shared(store, EngineOptions::default(), Arc::clone(&takes) as _);
    let runner_options = RunnerOptions {
        concurrency,
        ..RunnerOptions::default()
    };
    let handling = Handling::new(Name::new(work::NAME)?, Destination::new(RetryPolicy::default())?);
    let (ran, all) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let told = Arc::clone(&all);
    let runner = Runner::new(&engine, runner_options).handle(handling, move |_: Run, _: Input| {
        if ran.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
            told.notify_one();
        }
        async { Attempted::Done(Outcome::NotKept(NotKept::Discarded)) }
    });
    let meter = match place {
        Place::Postgres(url) => Some(Meter::start(url).await?),
        Place::Sqlite(_) => None,
    };
    let start = Instant::now();
    // Told to stop, it waits for what is in hand: then all is durable.
    let left = runner.run(async move { all.notified().await }).await;
    let took = start.elapsed();
    if let Some(meter) = meter {
        meter.say(jobs)?;
    }
    let asked = takes.takes.load(Ordering::Relaxed).max(1) as f64;
    println!(
        "   {}: {:.1} jobs and {:.2} ms a take",
        place.label(),
        jobs as f64 / asked,
        takes.micros.load(Ordering::Relaxed) as f64 / asked / 1e3
    );
    let done = place.count_done().await?;
    if left > 0 || u64::try_from(done)? != jobs {
        return Err(format!("{done} jobs are done instead of {jobs}").into());
    }
    Ok(jobs as f64 / took.as_secs_f64())
}

async fn hand(url: &str, jobs: u64, concurrency: usize) -> Result<f64> {
    queue::create(url, jobs).await?;
    place::settle(url).await?;
    let loops = queue::Loops::open(url, PostgresOptions::default().connections, concurrency).await?;
    let meter = Meter::start(url).await?;
    let start = Instant::now();
    let ran = loops.run().await?;
    let took = start.elapsed();
    meter.say(jobs)?;
    if ran != jobs {
        return Err(format!("{ran} jobs ran instead of {jobs}").into());
    }
    Ok(jobs as f64 / took.as_secs_f64())
}

fn figures(report: &mut Report, concurrency: usize, subjects: &[Subject], laps: &[Laps]) {
    for (subject, theirs) in subjects.iter().zip(laps).skip(1) {
        // SQLite's is a figure of its own, for whoever chooses.
        let (ours, theirs) = match subject {
            Subject::Sqlite => (theirs, &laps[0]),
            _ => (&laps[0], theirs),
        };
        let (left, right) = (&ours.label, &theirs.label);
        report.figure(Figure {
            what: format!("{left} : {right}, {concurrency} at a time"),
            measured: ours.shown(),
            beside: theirs.shown(),
            value: ours.median() / theirs.median(),
            unit: "",
            target: subject.target(),
        });
    }
}

fn draw(report: &Report, options: &Options, all: &[Vec<Laps>]) -> Result<()> {
    let subjects = all.first().map_or(0, Vec::len);
    let series = (0..subjects).map(|at| Series {
        label: all[0][at].label.clone(),
        values: all.iter().map(|laps| laps[at].median()).collect(),
    });
    let chart = Chart {
        kind: Kind::Bars,
        title: "Jobs that do nothing".to_owned(),
        unit: "jobs a second".to_owned(),
        axis: "jobs at a time".to_owned(),
        places: options.plan.concurrency.iter().map(usize::to_string).collect(),
        series: series.collect(),
    };
    report.chart("runner", &chart)
}
