//! Processes on one store, each with a runner, that can be killed, frozen, and cut off from replies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use hapax_core::policy::{Classes, FailureClass, RetryPolicy};
use hapax_core::*;
use hapax_store::{Clock, MemoryStore};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::engine::{Arrival, Engine, EngineOptions, Run, RunOptions};
use crate::event::{Event, Observer};
use crate::retry::Destination;
use crate::runner::{Attempted, Failure, Handling, Runner, RunnerOptions};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MILLI: Duration = Duration::from_millis(1);

pub(super) fn memory() -> MemoryStore {
    leaping(Arc::default())
}

/// A store whose clock is ahead by so many milliseconds.
pub(super) fn leaping(ahead: Arc<AtomicI64>) -> MemoryStore {
    let started = Instant::now();
    let reading = move || {
        let now = time::millis(started.elapsed()) + ahead.load(Ordering::SeqCst);
        (Timestamp::from_millis(now), started.elapsed())
    };
    MemoryStore::new(Clock::made(reading, Duration::MAX), [0; 32])
}

pub(super) fn arrival(key: &str) -> Arrival {
    Arrival {
        group: None,
        input: None,
        operation: operation(key),
        fingerprint: Fingerprint::new(RecipeId::new(1), [1; 32]),
        refingerprint: Arc::new(|_, _| None),
        options: RunOptions::default(),
        wait: Duration::ZERO,
    }
}

pub(super) fn operation(key: &str) -> Operation {
    let (scope, key) = (Scope::new("s").unwrap(), Key::new(key).unwrap());
    Operation::new(scope, Name::new("n").unwrap(), key)
}

pub(super) fn outcome(body: &'static str) -> Outcome {
    Outcome::Answer(answer(200, body))
}

pub(super) fn answer(status: u16, body: &'static str) -> Answer {
    Answer {
        status,
        headers: vec![],
        body: body.into(),
    }
}

pub(super) fn failed(class: FailureClass) -> Attempted {
    Attempted::Failed(Failure::new(class, "planted"))
}

/// Three tries that also follow ambiguous failures.
pub(super) fn policy() -> RetryPolicy {
    RetryPolicy {
        retry: Classes::ALL,
        ..RetryPolicy::default()
    }
}

pub(super) fn handling(policy: RetryPolicy) -> Handling {
    Handling::new(Name::new("n").unwrap(), Destination::new(policy).unwrap())
}

pub(super) fn retrying(policy: RetryPolicy) -> Handling {
    let mut handling = handling(policy);
    handling.run.after_failure = AfterFailure::Retry;
    handling
}

pub(super) async fn record(store: &MemoryStore, key: &str) -> Record {
    store.read(operation(key).id()).await.unwrap().1.unwrap()
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    /// Its calls to the store wait until it thaws; its handlers go on.
    Frozen,
    /// Neither returns.
    Dead,
}

/// A process's way to the store.
#[derive(Clone)]
pub(super) struct Link {
    store: MemoryStore,
    life: watch::Receiver<Life>,
    /// Steps whose next replies are lost.
    pub(super) lose: Arc<Mutex<HashMap<&'static str, usize>>>,
    pub(super) takes: Arc<AtomicUsize>,
    /// How long the replies of steps are on their way.
    pub(super) slow: Arc<Mutex<HashMap<&'static str, Duration>>>,
}

impl Link {
    fn ask<T: Send + 'static>(
        &self,
        step: &'static str,
        ask: impl FnOnce(&MemoryStore) -> BoxFuture<'_, Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let mut link = self.clone();
        Box::pin(async move {
            let alive = link.life.wait_for(|life| *life == Life::Alive).await.is_ok();
            if !alive {
                std::future::pending::<()>().await;
            }
            let reply = ask(&link.store).await;
            let slow = link.slow.lock().unwrap().get(step).copied();
            if let Some(slow) = slow {
                sleep(slow).await;
            }
            let lost = link.lose.lock().unwrap().get_mut(step).is_some_and(|left| {
                let lost = *left > 0;
                *left = left.saturating_sub(1);
                lost
            });
            match lost {
                true => Err(StoreError::new(StoreErrorKind::Unavailable, "the reply is lost")),
                false => reply,
            }
        })
    }
}

impl Store for Link {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        self.ask("claim", |store| store.claim(claim))
    }
    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.ask("renew", move |store| store.renew(id, fence, lease))
    }
    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        self.ask("finish", move |store| store.finish(id, fence, finish))
    }
    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        self.ask("read", move |store| store.read(id))
    }
    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.ask("list", move |store| store.list(filter, after, limit))
    }
    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        self.ask("enqueue", |store| store.enqueue(enqueue))
    }
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        self.takes.fetch_add(1, Ordering::SeqCst);
        self.ask("take", |store| store.take(take))
    }
    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.ask("amend", move |store| store.amend(id, amendment))
    }
    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        self.ask("audit", move |store| store.audit(id, after, limit))
    }
    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        self.ask("census", move |store| store.census(scopes))
    }
    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        self.ask("sweep", move |store| store.sweep(limit))
    }
    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.ask("recipe", |store| store.recipe(text))
    }
    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.ask("recipe_text", move |store| store.recipe_text(recipe))
    }
    fn time(&self, accept: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        self.ask("time", move |store| store.time(accept))
    }
    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ask("raise_fence", move |store| store.raise_fence(at_least))
    }
    fn secret(&self) -> [u8; 32] {
        self.store.secret()
    }
}

async fn dead(lives: &mut watch::Receiver<Life>) {
    let gone = lives.wait_for(|life| *life == Life::Dead).await.is_err();
    if gone {
        std::future::pending().await
    }
}

/// The events of a process, in words.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        let text = format!("{event:?}");
        let name = text.split([' ', '(']).next().unwrap_or_default();
        self.0.lock().unwrap().push(match event {
            Event::Died { reason, .. } => format!("{name} {reason}"),
            Event::BreakerChanged { state, .. } => format!("{name} {}", state.as_str()),
            Event::Resolved { by, state, .. } => format!("{name} {by} {state}"),
            Event::Unresolved { saw, .. } => format!("{name} {saw}"),
            _ => name.to_owned(),
        });
    }
}

impl Log {
    pub(super) fn count(&self, name: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|text| text.starts_with(name))
            .count()
    }
}

/// A process with an engine and a runner.
pub(super) struct Process {
    pub(super) engine: Engine,
    pub(super) link: Link,
    pub(super) log: Log,
    life: Arc<watch::Sender<Life>>,
    shutdown: Option<oneshot::Sender<()>>,
    runner: Option<JoinHandle<usize>>,
}

impl Process {
    /// Starts one whose runner runs operations of the name `n` by `work`. `work` may end its own process.
    pub(super) fn start<F>(
        store: &MemoryStore,
        handling: Handling,
        work: impl Fn(Run, String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Doing> + Send + 'static,
    {
        Self::with(store, handling, RunnerOptions::default(), work)
    }

    pub(super) fn with<F>(
        store: &MemoryStore,
        handling: Handling,
        options: RunnerOptions,
        work: impl Fn(Run, String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Doing> + Send + 'static,
    {
        let (life, lives) = watch::channel(Life::Alive);
        let life = Arc::new(life);
        let log = Log::default();
        let link = Link {
            store: store.clone(),
            life: lives.clone(),
            lose: Arc::default(),
            takes: Arc::default(),
            slow: Arc::default(),
        };
        let engine = Engine::new(link.clone(), EngineOptions::default(), log.clone());
        let killer = Arc::clone(&life);
        let runner = Runner::new(&engine, options).handle(handling, move |run, input: Input| {
            let work = work(run, String::from_utf8(input.0.to_vec()).unwrap());
            let (mut lives, killer) = (lives.clone(), Arc::clone(&killer));
            async move {
                let doing = tokio::select! {
                    biased;
                    // A dead process does nothing more.
                    () = dead(&mut lives) => std::future::pending().await,
                    doing = work => doing,
                };
                match doing {
                    Doing::Ends(attempted) => attempted,
                    Doing::Kills => {
                        killer.send_replace(Life::Dead);
                        std::future::pending().await
                    }
                }
            }
        });
        let (shutdown, told) = oneshot::channel();
        let runner = tokio::spawn(runner.run(told.map(drop)));
        Self {
            engine,
            link,
            log,
            life,
            shutdown: Some(shutdown),
            runner: Some(runner),
        }
    }

    pub(super) async fn enqueue(&self, key: &str) -> Enqueued {
        self.enqueue_in(key, Duration::ZERO).await
    }

    pub(super) async fn enqueue_in(&self, key: &str, delay: Duration) -> Enqueued {
        let input = Input(key.to_owned().into());
        self.engine.enqueue(arrival(key), input, delay).await.unwrap()
    }

    pub(super) fn live(&self, life: Life) {
        self.life.send_replace(life);
    }

    pub(super) async fn died(&self) {
        let mut lives = self.life.subscribe();
        lives.wait_for(|life| *life == Life::Dead).await.unwrap();
    }

    /// Tells the runner to stop; how many runs it left.
    pub(super) async fn stop(&mut self) -> usize {
        drop(self.shutdown.take());
        self.runner.take().unwrap().await.unwrap()
    }
}

/// What a handler does in the end.
pub(super) enum Doing {
    Ends(Attempted),
    Kills,
}

/// When each run of each key began.
#[derive(Clone)]
pub(super) struct Starts {
    origin: Instant,
    times: Arc<Mutex<Vec<(String, Duration)>>>,
}

impl Starts {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            times: Arc::default(),
        }
    }

    /// Notes a start; how many the key has had before.
    pub(super) fn note(&self, key: &str) -> usize {
        let before = self.of(key).len();
        self.times.lock().unwrap().push((key.to_owned(), self.origin.elapsed()));
        before
    }

    pub(super) fn of(&self, key: &str) -> Vec<Duration> {
        let times = self.times.lock().unwrap();
        times.iter().filter(|(of, _)| of == key).map(|(_, at)| *at).collect()
    }

    pub(super) fn all(&self) -> Vec<(String, Duration)> {
        self.times.lock().unwrap().clone()
    }
}
