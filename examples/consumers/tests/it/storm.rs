//! Messages that come twice, late, and make no sense; consumers that are killed, brokers and a database that die. In the
//! end each message has had its effect once.
//!
//! `HAPAX_STORM_MESSAGES=20000 HAPAX_STORM_KILLS=30 cargo xtask test -p hapax-consumers --profile soak --no-capture` is
//! the long one; `HAPAX_STORM_SEED` repeats one.

#[cfg(feature = "failpoints")]
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hapax_consumers::{CONSUMERS, source};
use hapax_testbed::{Kafka, Nats, Postgres, RabbitMq, Redis};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::plan::{Dice, Plan};
use crate::stage::{Failure, Stage};
use crate::verdict::mistakes;

/// How long nothing may move.
const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds after which a message is given to another that was in the hands of a killed process.
const ABANDONED: &str = "2";

#[test]
fn a_storm_on_nats_leaves_each_message_done_once() {
    Storm::new(Nats::start()).run();
}

#[test]
fn a_storm_on_rabbitmq_leaves_each_message_done_once() {
    Storm::new(RabbitMq::start()).run();
}

#[test]
fn a_storm_on_kafka_leaves_each_message_done_once() {
    let kafka = Kafka::start();
    kafka.create_topic("orders", 4);
    Storm::new(kafka).run();
}

#[test]
fn a_storm_on_redis_leaves_each_message_done_once() {
    Storm::new(Redis::start()).run();
}

/// The same consumers without their memory: the check can fail.
#[test]
fn without_hapax_messages_are_done_twice() {
    let mut storm = Storm::new(Nats::start());
    storm.plan = Plan::new(300, &mut storm.dice);
    storm.publish(&storm.plan.posts);
    let mut process = storm.process(true);
    let all = CONSUMERS.len() * storm.plan.posts.len();
    storm.until("all deliveries are handled", &mut process, |moved, _| moved >= all);
    let wrong = storm.runtime.block_on(async {
        let client = storm.client().await.unwrap();
        mistakes(&client, &storm.plan).await.unwrap()
    });
    for table in ["points", "balances", "stock_log", "letters"] {
        assert!(wrong.iter().any(|line| line.starts_with(table)), "{table}: {wrong:#?}");
    }
}

struct Storm<S> {
    stage: S,
    postgres: Postgres,
    database: String,
    runtime: Runtime,
    dice: Dice,
    seed: u64,
    plan: Plan,
}

/// Each step between taking a message and its acknowledgement: what is not committed is not acknowledged, and what is
/// committed is not done again.
#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_every_step_leaves_each_message_done_once() {
    const STEPS: [&str; 7] = [
        "before-claim",
        "claim-made",
        "handler-ended",
        "before-finish",
        "committed",
        "before-ack",
        "after-ack",
    ];
    let mut storm = Storm::new(Nats::start());
    storm.plan = Plan::new(1200, &mut storm.dice);
    storm.publish(&storm.plan.posts);
    for step in STEPS {
        for count in [1, 20] {
            let mut process = storm.process_at(step, count);
            process.killed(step);
        }
    }
    let mut process = storm.process(false);
    storm.finish(&mut process);
    process.end();
    storm.judge();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    Broker,
    Database,
}

/// The program, which does not outlive its test.
struct Process {
    child: Child,
    command: Command,
    started: usize,
}

impl Process {
    fn new(mut command: Command) -> Self {
        let child = command.spawn().unwrap();
        let started = 1;
        Self {
            child,
            command,
            started,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has been killed.
    #[cfg(feature = "failpoints")]
    fn killed(&mut self, step: &str) {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(since.elapsed() < PATIENCE, "it never came to {step}");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.signal(), Some(9), "{step}: {status:?}");
    }

    /// As who watches over it would: it is started again when it has ended.
    fn attend(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            self.child = self.command.spawn().unwrap();
            self.started += 1;
        }
    }

    fn end(mut self) {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "the consumers did not end well");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => usual,
    }
}

impl<S: Stage> Storm<S> {
    fn new(stage: S) -> Self {
        let seed = number("HAPAX_STORM_SEED", u64::from(std::process::id()));
        let mut dice = Dice(seed);
        let plan = Plan::new(number("HAPAX_STORM_MESSAGES", 600) as usize, &mut dice);
        let postgres = Postgres::start();
        let database = postgres.create_database("shop");
        Self {
            stage,
            postgres,
            database,
            runtime: Runtime::new().unwrap(),
            dice,
            seed,
            plan,
        }
    }

    fn run(mut self) {
        let start = Instant::now();
        self.publish(&self.plan.posts);
        let published = start.elapsed();
        let mut process = self.process(false);
        let all = CONSUMERS.len() * self.plan.records();
        let blows = self.blows();
        for (number, blow) in blows.iter().enumerate() {
            let from = all * (number + 1) / (blows.len() + 1);
            self.until("some more is handled", &mut process, |moved, _| moved >= from);
            match blow {
                Blow::Kill => process.kill(),
                Blow::Broker => self.stage.restart(),
                Blow::Database => {
                    self.postgres.kill();
                    self.postgres.restart();
                }
            }
        }
        self.finish(&mut process);
        let started = process.started;
        process.end();
        self.judge();
        let plan = &self.plan;
        println!(
            "{}: {} messages ({} copies, {} late, {} impostors, {} other poison) for {} consumers; {} kills, {} broker \
             and {} database restarts, {started} starts; published in {:.1} s, all in {:.1} s; seed {}",
            self.stage.url(),
            plan.posts.len() + plan.impostors.len(),
            plan.copies,
            plan.late,
            plan.impostors.len(),
            plan.dead.values().sum::<usize>() - plan.impostors.len(),
            CONSUMERS.len(),
            blows.iter().filter(|blow| **blow == Blow::Kill).count(),
            blows.iter().filter(|blow| **blow == Blow::Broker).count(),
            blows.iter().filter(|blow| **blow == Blow::Database).count(),
            published.as_secs_f64(),
            start.elapsed().as_secs_f64(),
            self.seed
        );
    }

    /// Until all is handled, and other payloads under used identities are found out.
    fn finish(&self, process: &mut Process) {
        let all = CONSUMERS.len() * self.plan.records();
        self.until("all is handled", process, |moved, open| moved >= all && open == 0);
        let with_impostors = all + CONSUMERS.len() * self.plan.impostors.len();
        self.publish(&self.plan.impostors);
        self.until("other payloads are found out", process, |moved, open| {
            moved >= with_impostors && open == 0
        });
        self.until_nothing_is_left(process);
    }

    fn judge(&self) {
        let wrong = self.runtime.block_on(async {
            let client = self.client().await.unwrap();
            mistakes(&client, &self.plan).await.unwrap()
        });
        assert!(wrong.is_empty(), "seed {}: {wrong:#?}", self.seed);
    }

    /// What happens, in a random order: a broker restart for each ten kills, a database restart for each fifteen, at
    /// least one of each.
    fn blows(&mut self) -> Vec<Blow> {
        let kills = number("HAPAX_STORM_KILLS", 4) as usize;
        let mut blows = vec![Blow::Kill; kills];
        for (blow, count) in [
            (Blow::Broker, (kills / 10).max(1)),
            (Blow::Database, (kills / 15).max(1)),
        ] {
            for _ in 0..count {
                let at = self.dice.below(blows.len() + 1);
                blows.insert(at, blow);
            }
        }
        blows
    }

    fn publish(&self, posts: &[crate::plan::Post]) {
        self.runtime.block_on(self.stage.publish(posts)).unwrap();
    }

    fn process(&self, forget: bool) -> Process {
        let mut command = self.command();
        if forget {
            command.arg("--forget");
        }
        Process::new(command)
    }

    /// One that is killed when it has come to a step so many times.
    #[cfg(feature = "failpoints")]
    fn process_at(&self, step: &str, times: u32) -> Process {
        let mut command = self.command();
        command.env("HAPAX_FAILPOINT", format!("{step}:{times}"));
        Process::new(command)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consumers"));
        command.args(["--broker", &self.stage.url(), "--database", &self.database]);
        command.args(["--abandoned", ABANDONED]).stdout(Stdio::null());
        command
    }

    async fn client(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.database, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// How many messages have come to an end, and how many are open; nothing while the database is away.
    async fn progress(&self) -> Result<(usize, usize), tokio_postgres::Error> {
        let count = "SELECT count(*) FILTER (WHERE state IN ('done', 'dead')), \
                     count(*) FILTER (WHERE state NOT IN ('done', 'dead')) FROM hapax_record WHERE scope = 'messages'";
        let row = self.client().await?.query_one(count, &[]).await?;
        Ok((row.get::<_, i64>(0) as usize, row.get::<_, i64>(1) as usize))
    }

    fn until(&self, what: &str, process: &mut Process, reached: impl Fn(usize, usize) -> bool) {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            process.attend();
            let now = self.runtime.block_on(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.progress().await.ok()
            });
            if now.is_some_and(|(moved, open)| reached(moved, open)) {
                return;
            }
            if now.is_some() && now != last {
                (last, since) = (now, Instant::now());
            }
            assert!(
                since.elapsed() < PATIENCE,
                "seed {}: waited until {what}; (ended, open) is {now:?}, of {} distinct messages",
                self.seed,
                self.plan.distinct
            );
        }
    }

    fn until_nothing_is_left(&self, process: &mut Process) {
        let since = Instant::now();
        loop {
            process.attend();
            let left = self.runtime.block_on(self.left());
            match left {
                Ok(0) => return,
                left => assert!(
                    since.elapsed() < PATIENCE,
                    "seed {}: the broker still has messages: {left:?}",
                    self.seed
                ),
            }
        }
    }

    /// Messages that the broker still has for a consumer.
    async fn left(&self) -> Result<u64, Failure> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut left = 0;
        for consumer in CONSUMERS {
            let mut source = source(&self.stage.url(), consumer, Duration::from_secs(2))?;
            left += source.lag().await?.messages;
            source.close().await;
        }
        Ok(left)
    }
}
