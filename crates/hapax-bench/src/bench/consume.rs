//! Messages handled with one insert each, beside the same consumer without an inbox: from the same queue in memory, on
//! connections of the same pool.

use std::sync::Arc;
use std::time::Instant;

use deadpool_postgres::{Manager, Object, Pool};
use hapax::atomic::{Atomic, AtomicOptions, PostgresTransaction, TokioPostgres};
use hapax::consume::{Consumer, ConsumerOptions, Delivery, Handled, Identity, MemoryQueue, Message, Source};
use hapax::core::Name;
use hapax::store::postgres::{PostgresOptions, PostgresStore};
use hapax::{Engine, EngineOptions};
use tokio::sync::{Mutex, mpsc};
use tokio_postgres::NoTls;

use super::World;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::measure::Laps;
use crate::options::Options;
use crate::place::Place;
use crate::report::{Figure, Report, Target};
use crate::work;

/// Connections of the pool: more are no faster on a small machine.
const POOL: usize = 32;
const TABLE: &str = "CREATE TABLE points (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, \
                     points bigint NOT NULL)";
const IDENTITIES: &str = "CREATE TABLE inbox (consumer text, identity text, at timestamptz NOT NULL DEFAULT now(), \
                          PRIMARY KEY (consumer, identity))";
const ENTER: &str = "INSERT INTO inbox VALUES ('points', $1) ON CONFLICT DO NOTHING";
const INSERT: &str = "INSERT INTO points (customer, points) VALUES ($1, $2)";
/// Messages in one commit, and commits at a time.
const BATCH: usize = 64;
const BATCHES: usize = 4;
/// Messages in hand of each consumer that commits one by one, for each that it handles at a time.
const AHEAD: usize = 4;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Consumer,
    Plain,
    /// What one would write oneself: a table of identities.
    Inbox,
    Batches,
}

const SUBJECTS: [Subject; 4] = [Subject::Consumer, Subject::Plain, Subject::Inbox, Subject::Batches];

impl Subject {
    fn label(self) -> &'static str {
        match self {
            Self::Consumer => "hapax, a message a commit",
            Self::Plain => "no inbox, a message a commit",
            Self::Inbox => "inbox by hand, a message a commit",
            Self::Batches => "hapax, 64 messages a commit",
        }
    }
}

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new(options)?;
    let mut all = Vec::new();
    for &concurrency in &options.plan.concurrency {
        println!("  {concurrency} messages at a time");
        let mut laps: Vec<Laps> = SUBJECTS.iter().map(|one| Laps::new(one.label(), "/s")).collect();
        for round in 0..options.plan.rounds {
            for turn in 0..SUBJECTS.len() {
                let at = (turn + round) % SUBJECTS.len();
                let Place::Postgres(url) = world.postgres(&format!("points_{concurrency}_{round}_{at}")) else {
                    return Err("not a database of PostgreSQL".into());
                };
                let lap = Lap::new(options, &url, concurrency).await?;
                laps[at].push(lap.run(SUBJECTS[at]).await?);
            }
        }
        let [consumer, plain, inbox, batches] = &laps[..] else {
            continue;
        };
        let what = format!("consumer on PostgreSQL, {concurrency} at a time");
        report.figure(ratio(what.clone(), consumer, plain, Target::AtLeast(0.7)));
        report.figure(figure(format!("{what}: inbox by hand : no inbox"), inbox, plain, None));
        report.figure(figure(format!("{what}: hapax : inbox by hand"), consumer, inbox, None));
        report.figure(ratio(
            format!("{what}: batches"),
            batches,
            consumer,
            Target::AtLeast(3.0),
        ));
        all.push(laps);
    }
    report.note(format!(
        "{} messages of {} bytes in a queue in memory, in a new database each time; {POOL} connections of one pool, \
         statements prepared; {BATCHES} batches at a time",
        options.plan.jobs,
        work::INPUT.len()
    ));
    draw(report, options, &all)
}

fn ratio(what: String, one: &Laps, other: &Laps, target: Target) -> Figure {
    figure(what, one, other, Some(target))
}

pub(super) fn figure(what: String, one: &Laps, other: &Laps, target: Option<Target>) -> Figure {
    Figure {
        what,
        measured: one.shown(),
        beside: other.shown(),
        value: one.median() / other.median(),
        unit: "",
        target,
    }
}

/// One subject, once around.
struct Lap {
    queue: MemoryQueue,
    messages: u64,
    url: String,
    pool: Pool,
    concurrency: usize,
}

impl Lap {
    async fn new(options: &Options, url: &str, concurrency: usize) -> Result<Self> {
        let pool = Pool::builder(Manager::new(url.parse()?, NoTls))
            .max_size(POOL)
            .build()?;
        pool.get()
            .await?
            .batch_execute(&format!("{TABLE}; {IDENTITIES}"))
            .await?;
        let (queue, messages) = (MemoryQueue::new(), options.plan.jobs);
        for number in 0..messages {
            queue.publish(Message::new("orders.paid", work::INPUT).header("Id", format!("order-{number}")));
        }
        Ok(Self {
            queue,
            messages,
            url: url.to_owned(),
            pool,
            concurrency,
        })
    }

    /// Messages a second.
    async fn run(self, who: Subject) -> Result<f64> {
        // Connections and statements are there before the clock starts.
        let consumer = match who {
            Subject::Consumer => Some(self.consumer(1, self.concurrency).await?),
            Subject::Batches => Some(self.consumer(BATCH, BATCHES).await?),
            Subject::Plain | Subject::Inbox => None,
        };
        let start = Instant::now();
        let took = match consumer {
            Some(consumer) => {
                let (queue, mut took) = (self.queue.clone(), None);
                let emptied = async {
                    queue.empty().await;
                    took = Some(start.elapsed());
                };
                consumer.run(emptied).await?;
                took.ok_or("the consumer ended before the queue was empty")?
            }
            None => {
                self.plain(who == Subject::Inbox).await?;
                start.elapsed()
            }
        };
        let rows: i64 = self
            .pool
            .get()
            .await?
            .query_one("SELECT count(*) FROM points", &[])
            .await?
            .get(0);
        if rows != self.messages as i64 {
            return Err(format!("{rows} rows of {} messages", self.messages).into());
        }
        Ok(self.messages as f64 / took.as_secs_f64())
    }

    async fn consumer(&self, batch: usize, concurrency: usize) -> Result<Consumer> {
        let store = PostgresStore::connect(&self.url, PostgresOptions::default()).await?;
        let joint = store.joint().prepared(true);
        let engine = Engine::new(store, EngineOptions::default(), ());
        let pool = self.pool.clone();
        let database = TokioPostgres::new(
            move || {
                let pool = pool.clone();
                async move { pool.get().await }
            },
            |client: &Object| client,
        );
        let database = database.prepared(|client, text, types| Box::pin(client.prepare_typed_cached(text, types)));
        let atomic = Atomic::new(&engine, joint, database, AtomicOptions::default())?;
        let options = ConsumerOptions {
            concurrency,
            batch,
            prefetch: AHEAD * concurrency * batch,
            ..ConsumerOptions::default()
        };
        let consumer = Consumer::atomic(
            Name::new("points")?,
            self.queue.source(),
            Identity::Header("Id".into()),
            &atomic,
            options,
            |transaction: &mut PostgresTransaction<Object>, message: &Message| {
                Box::pin(async move {
                    let insert = transaction.pooled().prepare_cached(INSERT).await?;
                    let customer = message.text("Id").unwrap_or_default();
                    transaction.execute(&insert, &[&customer, &7_i64]).await?;
                    Ok::<_, BoxError>(Handled::Done)
                })
            },
        )?;
        Ok(consumer)
    }

    /// What is written by hand where messages come once.
    async fn plain(&self, inbox: bool) -> Result<()> {
        let (sender, receiver) = mpsc::channel::<Delivery>(AHEAD * self.concurrency);
        let receiver = Arc::new(Mutex::new(receiver));
        let (mut source, queue) = (self.queue.source(), self.queue.clone());
        let taking = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = queue.empty() => return Result::Ok(()),
                    received = source.receive(64) => for delivery in received? {
                        sender.send(delivery).await?;
                    },
                }
            }
        });
        let mut workers = Vec::new();
        for _ in 0..self.concurrency {
            workers.push(tokio::spawn(work_off(Arc::clone(&receiver), self.pool.clone(), inbox)));
        }
        for worker in workers {
            worker.await??;
        }
        taking.await?
    }
}

async fn work_off(receiver: Arc<Mutex<mpsc::Receiver<Delivery>>>, pool: Pool, inbox: bool) -> Result<()> {
    loop {
        let Some(delivery) = receiver.lock().await.recv().await else {
            return Ok(());
        };
        let mut client = pool.get().await?;
        let insert = client.prepare_cached(INSERT).await?;
        let enter = client.prepare_cached(ENTER).await?;
        let transaction = client.transaction().await?;
        let customer = delivery.message.text("Id").unwrap_or_default();
        if inbox && transaction.execute(&enter, &[&customer]).await? == 0 {
            return Err("a message came twice".into());
        }
        transaction.execute(&insert, &[&customer, &7_i64]).await?;
        transaction.commit().await?;
        delivery.settle.ack().await?;
    }
}

fn draw(report: &Report, options: &Options, all: &[Vec<Laps>]) -> Result<()> {
    let series = SUBJECTS.iter().enumerate().map(|(at, subject)| Series {
        label: subject.label().to_owned(),
        values: all.iter().map(|laps| laps[at].median()).collect(),
    });
    let chart = Chart {
        kind: Kind::Bars,
        title: "Messages with one insert each".to_owned(),
        unit: "messages a second".to_owned(),
        axis: "messages at a time".to_owned(),
        places: options.plan.concurrency.iter().map(usize::to_string).collect(),
        series: series.collect(),
    };
    report.chart("consume", &chart)
}
