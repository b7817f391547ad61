//! One gateway: an engine on a runtime of its own, whose time passes only when the world says so.

use std::sync::Arc;
use std::time::Duration;

use hapax::{Engine, EngineOptions, Sweeper};
use hapax_core::Store;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{advance, sleep};

use super::Canary;
use super::door::{Post, Request, serve};
use crate::faulty::Faulty;

/// Duplicates that may wait in one gateway.
pub(super) const WAITERS: usize = 4;

pub(super) struct Node {
    runtime: Runtime,
    engine: Engine,
    pub(super) store: Faulty,
    canary: Canary,
    post: Post,
    /// Time that it missed while it was paused; `None` if it is not.
    missed: Option<Duration>,
}

impl Node {
    /// Starts a gateway, its sweeper included.
    pub(super) fn start(store: Faulty, canary: Canary, post: Post) -> Self {
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
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let engine = runtime.block_on(async { Engine::shared(Arc::clone(&shared), options, Arc::new(())) });
        let sweeper = Sweeper {
            chunk: 4,
            ..Sweeper::default()
        };
        runtime.spawn(sweeper.run(shared, Arc::new(())));
        Self {
            runtime,
            engine,
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
