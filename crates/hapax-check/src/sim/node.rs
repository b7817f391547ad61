//! One gateway: an engine on a runtime of its own, whose time passes only when the world says so.

use std::sync::Arc;
use std::time::Duration;

use hapax::retry::Destination;
use hapax::{Engine, EngineOptions, Sweeper};
use hapax_core::{Amendment, Operation, Store};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{advance, sleep};

use super::Canary;
use super::attend::runner;
use super::breaking::Breaking;
use super::door::{Request, serve};
use super::plan::Plan;
use super::post::Post;
use super::tally::Tally;
use crate::faulty::Faulty;

/// Duplicates that may wait in one gateway.
pub(super) const WAITERS: usize = 4;

pub(super) struct Node {
    runtime: Runtime,
    engine: Engine,
    destination: Destination,
    pub(super) store: Faulty,
    canary: Canary,
    post: Post,
    /// Time that it missed while it was paused; `None` if it is not.
    missed: Option<Duration>,
}

impl Node {
    /// Starts a gateway, its sweeper and its runner included. `seed` is for the jitter of its retries.
    pub(super) fn start(store: Faulty, tally: Arc<Tally>, canary: Canary, post: Post, plan: &Plan, seed: u64) -> Self {
        let built = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime for a simulated gateway: {error}"),
        };
        let options = EngineOptions {
            waiters: WAITERS,
            waiters_per_operation: WAITERS - 1,
            cache_age: Duration::from_secs(10),
            store_patience: Duration::from_secs(2),
            ..EngineOptions::default()
        };
        let made = runtime.block_on(async { Destination::seeded(plan.policy.clone(), seed) });
        let destination = match made {
            Ok(destination) => destination,
            Err(error) => panic!("a simulated policy makes no sense: {error}"),
        };
        let shared: Arc<dyn Store> = match canary {
            Canary::OpenBreakerKills | Canary::TakenTwice => {
                Arc::new(Breaking::new(store.clone(), canary, destination.clone()))
            }
            _ => Arc::new(store.clone()),
        };
        let engine = runtime.block_on(async { Engine::shared(Arc::clone(&shared), options, tally) });
        let sweeper = Sweeper {
            chunk: 4,
            ..Sweeper::default()
        };
        runtime.spawn(sweeper.run(shared, Arc::new(())));
        if plan.runners {
            runtime.spawn(runner(&engine, &destination, plan, &post).run(std::future::pending()));
        }
        Self {
            runtime,
            engine,
            destination,
            store,
            canary,
            post,
            missed: None,
        }
    }

    /// Takes a request in.
    pub(super) fn take(&self, request: Request) {
        let (engine, canary, post) = (self.engine.clone(), self.canary, self.post.clone());
        self.runtime.spawn(serve(engine, canary, post, request));
    }

    /// A person corrects a record, and tries again if that fails.
    pub(super) fn correct(&self, operation: Operation, amendment: Amendment) {
        let engine = self.engine.clone();
        self.runtime.spawn(async move {
            for _ in 0..3 {
                if engine.amend(&operation, amendment.clone()).await.is_ok() {
                    return;
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
    }

    /// Probes that its breaker has sent.
    pub(super) fn probes(&self) -> u64 {
        self.runtime.block_on(async { self.destination.snapshot().probes })
    }

    /// Lets time pass, unless it is paused.
    pub(super) fn step(&mut self, tick: Duration) {
        match &mut self.missed {
            Some(missed) => *missed += tick,
            None => self.runtime.block_on(async { sleep(tick).await }),
        }
    }

    pub(super) fn pause(&mut self) {
        self.missed.get_or_insert(Duration::ZERO);
    }

    /// Goes on: all timers that should have fired meanwhile do so at once.
    pub(super) fn resume(&mut self) {
        if let Some(missed) = self.missed.take() {
            self.runtime.block_on(async { advance(missed).await });
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.engine.waiting()
    }
}
