//! The relays: effects are taken over from the databases of applications, and delivered.

use std::collections::BTreeMap;
use std::sync::Arc;

use hapax::core::{Name, Retention, StoreError};
use hapax::outbox::staging::{self, Staging};
use hapax::outbox::{Move, Mover, MoverOptions, Outbox, OutboxOptions, SinkOptions};
use hapax::retry::Destination;
use hapax::{Engine, Runner, RunnerOptions};

use super::door;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::gateway::listener::Stop;
use crate::observe::Metrics;
use crate::observe::outbox::Staged;

/// Deliveries at a time, at least: most of their time is spent waiting for the receiver.
const CONCURRENCY: usize = 128;

/// Everything that delivers effects, ready to run.
pub(super) struct Relay {
    runner: Runner,
    movers: Vec<Mover>,
    /// For metrics.
    pub(super) destinations: Vec<(String, Destination)>,
    pub(super) staged: Vec<Arc<dyn Staging>>,
}

impl Relay {
    /// `None` if there is nothing to deliver.
    pub(super) async fn new(config: &Config, engine: &Engine, metrics: &Arc<Metrics>) -> Result<Option<Self>, Failure> {
        if config.outboxes.is_empty() {
            return Ok(None);
        }
        let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
        let retention = Retention {
            replay_for: config.replay_for.0,
            remember_for: config.remember_for.0,
        };
        let options = OutboxOptions {
            retention,
            ..OutboxOptions::default()
        };
        let mut outbox = Outbox::open(engine, options).await?;
        let mut destinations = Vec::new();
        let mut databases: BTreeMap<&str, Vec<Name>> = BTreeMap::new();
        for one in &config.outboxes {
            let name = one.name.0.clone();
            let destination = Destination::new(one.policy(config)).map_err(|error| usage(&error))?;
            destinations.push((format!("outbox {name}"), destination.clone()));
            let options = SinkOptions {
                receiver_remembers_for: one.receiver_remembers_for.map(|period| period.0),
                lease: one.lease(config).0,
                ordered: one.ordered,
                retention: Retention {
                    remember_for: one.remember_for(config).0,
                    ..retention
                },
                ..SinkOptions::new(destination)
            };
            let sink = one
                .sink(config)
                .map_err(|(key, problem)| usage(&format!("outbox {name}: {key}: {problem}")))?;
            outbox = outbox.sink(name.clone(), move |delivery| sink.deliver(delivery), options);
            if let Some(database) = &one.database {
                databases.entry(&database.0).or_default().push(name);
            }
        }
        let mut movers = Vec::new();
        let mut staged = Vec::new();
        for (url, names) in databases {
            let staging = staging::connect(url).await?;
            staged.push(Arc::clone(&staging));
            let options = MoverOptions {
                poll: config.runner.poll.0,
                ..MoverOptions::default()
            };
            let metrics = Arc::clone(metrics);
            let label = staging.label().to_owned();
            let mover = Mover::new(&outbox, staging, names, options);
            movers.push(mover.observe(move |round| tell(&metrics, &label, round)));
        }
        let usual = door::runner(config);
        let options = RunnerOptions {
            concurrency: usual.concurrency.max(CONCURRENCY),
            ..usual
        };
        Ok(Some(Self {
            runner: outbox.equip(Runner::new(engine, options)),
            movers,
            destinations,
            staged,
        }))
    }

    /// Takes over and delivers until a stop is asked for, then ends what is under way. Returns how many deliveries were
    /// left.
    pub(super) async fn run(self, stop: Stop) -> usize {
        let movers: Vec<_> = self
            .movers
            .into_iter()
            .map(|mover| {
                let stop = stop.clone();
                tokio::spawn(async move { mover.run(stop.wait()).await })
            })
            .collect();
        let left = self.runner.run(stop.wait()).await;
        for mover in movers {
            // It does not panic; what it had taken over is taken over again by the next start.
            let _ = mover.await;
        }
        left
    }
}

fn tell(metrics: &Metrics, label: &str, round: &Move) {
    match round {
        Move::Done(moved) => {
            metrics.outbox.moved(moved);
            if moved.refused > 0 {
                tracing::warn!(
                    database = label,
                    rows = moved.refused,
                    "effects cannot be taken over: their rows say why (hapax outbox ls)"
                );
            }
        }
        Move::Failed(error) => failed(metrics, label, error),
    }
}

fn failed(metrics: &Metrics, label: &str, error: &StoreError) {
    metrics.outbox.failed();
    tracing::warn!(database = label, %error, "the outbox could not be emptied: it is tried again");
}

/// Counts what is staged, for ever.
pub(super) async fn watch(staged: Vec<Arc<dyn Staging>>, metrics: Arc<Metrics>) {
    let mut clock = tokio::time::interval(crate::observe::census::PAUSE);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let mut sum = Staged::default();
        for staging in &staged {
            // The last count stands while a database is down, which a counter says.
            let Ok(counts) = staging.counts().await else { continue };
            for count in counts {
                sum.waiting += count.waiting;
                sum.refused += count.refused;
                sum.oldest = sum.oldest.max(count.oldest);
            }
        }
        metrics.outbox.staged(sum);
    }
}
