//! Effects that wait in an outbox: how many a relay delivers a second to a local HTTP server, beside a hand-written relay
//! and DBOS's queue on the same database server.

mod dbos;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hapax::core::{BoxFuture, Name};
use hapax::outbox::{
    Delivery, Effect, Entered, Mover, MoverOptions, Outbox, OutboxOptions, Sink, SinkOptions, Webhook, WebhookSecret,
    staging,
};
use hapax::store::Clock;
use hapax::{Attempted, Engine, EngineOptions, Runner, RunnerOptions};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::World;
use super::http::Upstream;
use super::runner::Meter;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::hand::relay;
use crate::measure::Laps;
use crate::options::Options;
use crate::place::{self, Place};
use crate::report::{Figure, Report, Target};
use crate::{upstream, work};

/// Loops of the hand-written relay: measured to be its best.
const LOOPS: usize = 4;
/// Callers that enqueue effects beforehand.
const CALLERS: u64 = 128;
/// DBOS enqueues one workflow after the other.
const MOST_WORKFLOWS: u64 = 2_000;

/// Who takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// Effects enqueued by the library, in the store.
    Relay,
    /// Effects enqueued by SQL, taken over first.
    Staged,
    Hand,
    Dbos,
}

impl Subject {
    fn label(self) -> &'static str {
        match self {
            Self::Relay => "hapax relay",
            Self::Staged => "hapax relay, effects enqueued by SQL",
            Self::Hand => "hand-written relay",
            Self::Dbos => "DBOS queue, workflows that do nothing",
        }
    }
}

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut subjects = vec![Subject::Relay, Subject::Staged, Subject::Hand];
    match &options.dbos {
        Some(python) => {
            dbos::check(python)?;
            subjects.push(Subject::Dbos);
        }
        None => report.note("DBOS was left out (--no-rival)"),
    }
    let world = World::new(options)?;
    let upstream = Upstream::start(&world)?;
    let mut all = Vec::new();
    for &concurrency in &options.plan.concurrency {
        println!("  {concurrency} deliveries at a time");
        let mut laps: Vec<Laps> = subjects.iter().map(|one| Laps::new(one.label(), "/s")).collect();
        for round in 0..options.plan.rounds {
            for turn in 0..subjects.len() {
                let at = (turn + round) % subjects.len();
                let name = format!("lap_{concurrency}_{round}_{at}");
                let lap = Lap {
                    options,
                    database: world.postgres(&name),
                    upstream: &upstream,
                    concurrency,
                };
                let rate = lap.run(subjects[at]).await;
                laps[at].push(rate.map_err(|why| format!("{}: {why}", subjects[at].label()))?);
            }
        }
        figures(report, concurrency, &subjects, &laps);
        all.push(laps);
    }
    report.note(format!(
        "{} effects of {} bytes, enqueued before the clock starts, in a new database each time; the receiver is a process of \
         its own and answers with 300 bytes; {LOOPS} loops in the hand-written relay, with the same HTTP client; DBOS sends \
         nothing, and runs {MOST_WORKFLOWS} at most",
        options.plan.jobs,
        work::INPUT.len()
    ));
    draw(report, options, &all)
}

/// One subject, once around.
struct Lap<'a> {
    options: &'a Options,
    database: Place,
    upstream: &'a Upstream,
    concurrency: usize,
}

impl Lap<'_> {
    /// Deliveries a second.
    async fn run(&self, who: Subject) -> Result<f64> {
        let jobs = self.options.plan.jobs;
        if let (Subject::Dbos, Some(python)) = (who, &self.options.dbos) {
            let work = (jobs.min(MOST_WORKFLOWS), self.concurrency);
            return dbos::run(python, &self.database.url(), work).await;
        }
        let before = upstream::count(self.upstream.address())?;
        let took = match who {
            Subject::Hand => self.hand().await?,
            _ => self.hapax(who == Subject::Staged).await?,
        };
        let heard = upstream::count(self.upstream.address())? - before;
        if heard != jobs {
            return Err(format!("the receiver heard {heard} deliveries instead of {jobs}").into());
        }
        Ok(jobs as f64 / took.as_secs_f64())
    }

    fn webhook(&self) -> Result<Webhook> {
        let webhook = Webhook::new(&format!("http://{}/hooks", self.upstream.address()))?;
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
        Ok(webhook.secret(secret))
    }

    async fn hand(&self) -> Result<Duration> {
        let (url, jobs) = (self.database.url(), self.options.plan.jobs);
        relay::create(&url, jobs).await?;
        place::settle(&url).await?;
        let loops = (LOOPS, self.concurrency);
        let relay = relay::Relay::open(&url, Arc::new(self.webhook()?), loops).await?;
        let meter = Meter::start(&url).await?;
        let start = Instant::now();
        let sent = relay.run().await?;
        let took = start.elapsed();
        meter.say(jobs)?;
        if sent != jobs {
            return Err(format!("{sent} effects were delivered instead of {jobs}").into());
        }
        Ok(took)
    }

    async fn hapax(&self, staged: bool) -> Result<Duration> {
        let (url, jobs) = (self.database.url(), self.options.plan.jobs);
        let engine = Engine::shared(
            self.database.open(Clock::default()).await?,
            EngineOptions::default(),
            Arc::new(()),
        );
        let all = Arc::new(Notify::new());
        let sink = Counted {
            webhook: self.webhook()?,
            left: Arc::new(AtomicU64::new(jobs)),
            all: Arc::clone(&all),
        };
        let name = Name::new(work::EFFECT)?;
        let outbox = Outbox::open(&engine, OutboxOptions::default()).await?;
        let outbox = outbox.sink(name.clone(), sink, SinkOptions::default());
        let mover = if staged {
            staging::install(&url).await?;
            stage(&url, jobs).await?;
            Some(Mover::new(
                &outbox,
                staging::connect(&url).await?,
                vec![name],
                MoverOptions::default(),
            ))
        } else {
            lay(&outbox, jobs).await?;
            None
        };
        place::settle(&url).await?;
        let options = RunnerOptions {
            concurrency: self.concurrency,
            ..RunnerOptions::default()
        };
        let relay = outbox.equip(Runner::new(&engine, options));
        let stop = Arc::new(Notify::new());
        let meter = Meter::start(&url).await?;
        let start = Instant::now();
        let mover = mover.map(|mover| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move { mover.run(stop.notified()).await })
        });
        // Told to stop, it waits for what is in hand: then all is durable.
        let left = relay.run(async move { all.notified().await }).await;
        stop.notify_one();
        if let Some(mover) = mover {
            mover.await?;
        }
        let took = start.elapsed();
        meter.say(jobs)?;
        let done = self.database.count_done().await?;
        if left > 0 || u64::try_from(done)? != jobs {
            return Err(format!("{done} effects are done instead of {jobs}").into());
        }
        Ok(took)
    }
}

/// Says when all have been delivered.
#[derive(Clone)]
struct Counted {
    webhook: Webhook,
    left: Arc<AtomicU64>,
    all: Arc<Notify>,
}

impl Sink for Counted {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted> {
        let this = self.clone();
        Box::pin(async move {
            let attempted = this.webhook.deliver(delivery).await;
            if matches!(attempted, Attempted::Done(_)) && this.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                this.all.notify_one();
            }
            attempted
        })
    }
}

/// Enqueues by the library.
async fn lay(outbox: &Outbox, jobs: u64) -> Result<()> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let outbox = outbox.clone();
        callers.spawn(async move {
            for _ in (caller..jobs).step_by(CALLERS as usize) {
                let effect = Effect::new(work::EFFECT, &work::fresh_key(), work::INPUT)?;
                if outbox.enqueue_now(&effect).await? != Entered::New {
                    return Err("a new effect was not enqueued".into());
                }
            }
            Result::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Enqueues by SQL.
async fn stage(url: &str, jobs: u64) -> Result<()> {
    let client = place::connect(url).await?;
    let sql = "SELECT hapax_enqueue($1::text, gen_random_uuid()::text, $2::bytea) FROM generate_series(1, $3::bigint)";
    client
        .query(sql, &[&work::EFFECT, &work::INPUT, &i64::try_from(jobs)?])
        .await?;
    Ok(())
}

fn figures(report: &mut Report, concurrency: usize, subjects: &[Subject], laps: &[Laps]) {
    let of = |who: Subject| subjects.iter().position(|subject| *subject == who).map(|at| &laps[at]);
    for who in [Subject::Relay, Subject::Staged] {
        let Some(ours) = of(who) else { continue };
        report.figure(Figure {
            what: format!("{}, {concurrency} at a time", ours.label),
            measured: ours.shown(),
            beside: String::new(),
            value: ours.median(),
            unit: "/s",
            target: None,
        });
        for (beside, target) in [(Subject::Hand, Some(Target::AtLeast(0.6))), (Subject::Dbos, None)] {
            let Some(theirs) = of(beside) else { continue };
            report.figure(Figure {
                what: format!("{} : {}, {concurrency} at a time", ours.label, theirs.label),
                measured: ours.shown(),
                beside: theirs.shown(),
                value: ours.median() / theirs.median(),
                unit: "",
                target: target.filter(|_| who == Subject::Relay),
            });
        }
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
        title: "Effects delivered by HTTP".to_owned(),
        unit: "deliveries a second".to_owned(),
        axis: "deliveries at a time".to_owned(),
        places: options.plan.concurrency.iter().map(usize::to_string).collect(),
        series: series.collect(),
    };
    report.chart("outbox", &chart)
}
