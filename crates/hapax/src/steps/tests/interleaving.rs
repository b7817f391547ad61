//! A paused process wakes up while its operation is being undone: every order of their calls to the store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hapax_core::*;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::world::*;
use crate::engine::{Engine, Run};
use crate::runner::Attempted;
use crate::steps::{Saga, undoing};

type Reading = (Timestamp, Option<Record>);

/// A way to a store on which each call waits for leave, and of which one answer can be old.
#[derive(Clone)]
pub(super) struct Stepped {
    store: Arc<dyn Store>,
    leave: Option<Arc<Semaphore>>,
    /// Read at once whatever is asked: what a step that did not look would believe.
    old: Arc<Mutex<Option<Reading>>>,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Stepped {
    pub(super) fn free(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            leave: None,
            old: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Each call waits until it is let through.
    pub(super) fn held(store: Arc<dyn Store>) -> Self {
        Self {
            leave: Some(Arc::new(Semaphore::new(0))),
            ..Self::free(store)
        }
    }

    /// Lets all calls through, until it is cut.
    pub(super) fn open(&self) {
        self.leave.as_ref().unwrap().add_permits(1 << 20);
    }

    /// No call gets through any more.
    pub(super) fn cut(&self) {
        self.leave.as_ref().unwrap().forget_permits(1 << 20);
    }

    /// Lets one call through, and everything else come to rest.
    async fn one(&self) {
        if let Some(leave) = &self.leave {
            leave.add_permits(1);
        }
        rest().await;
    }

    fn ask<'a, T: Send + 'a>(
        &'a self,
        what: &'static str,
        ask: impl FnOnce(&'a dyn Store) -> BoxFuture<'a, Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            if let Some(leave) = &self.leave {
                leave.acquire().await.unwrap().forget();
            }
            self.asked.lock().unwrap().push(what);
            ask(self.store.as_ref()).await
        })
    }
}

/// Everything that can go on does.
async fn rest() {
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
}

impl Store for Stepped {
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
        let old = self.old.lock().unwrap().clone();
        self.ask("read", move |store| match old {
            Some(old) => Box::pin(std::future::ready(Ok(old))),
            None => store.read(id),
        })
    }
    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.ask("list", move |store| store.list(filter, after, limit))
    }
    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        self.ask("enqueue", |store| store.enqueue(enqueue))
    }
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
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
        self.store.recipe(text)
    }
    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.store.recipe_text(recipe)
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

/// What an order of calls came to.
#[derive(Debug)]
struct Came {
    /// Whether the step that was asked for late had its effect.
    charged: bool,
    /// Whether the operation was done before it could die.
    kept: bool,
    /// Whether the step was undone.
    undone: bool,
}

/// `order` says what is next: true for a call of the process that wakes up; else its operation dies in other hands, and
/// then each call of who looks at it.
async fn play(order: &[bool], looks: bool) -> Came {
    let store: Arc<dyn Store> = Arc::new(memory());
    let (free, other) = (engine(Stepped::free(store.clone())), Other::default());
    let (one, gate) = (other.clone(), Arc::new(Semaphore::new(0)));
    let paused = gate.clone();
    let handler = move |steps: crate::steps::Steps, _| {
        let (other, paused) = (one.clone(), paused.clone());
        async move {
            other.step(&steps, "reserve").await?;
            paused.acquire().await.unwrap().forget();
            other.step(&steps, "charge").await
        }
    };
    // The first step is done; then the process is paused.
    let woken = Stepped::held(store.clone());
    let saga = other.saga(&engine(woken.clone()), handler).await;
    let run = tokio::spawn(async move { run(&saga).await });
    while find(&free, "checkout/reserve")
        .await
        .is_none_or(|record| !record.is_done())
    {
        woken.one().await;
    }
    let started = record(&free, "checkout").await;
    if !looks {
        *woken.old.lock().unwrap() = Some((started.since, Some(started.clone())));
    }
    gate.add_permits(1);
    rest().await;

    let looker = Stepped::held(store.clone());
    let undoes = engine(looker.clone());
    let saga = other.checkout(&undoes).await;
    let mut looking = None;
    // What the order leaves is done by turns.
    for woken_next in order.iter().copied().chain([false, true].into_iter().cycle().take(60)) {
        if run.is_finished() && looking.as_ref().is_some_and(JoinHandle::is_finished) {
            break;
        }
        match (woken_next, &looking) {
            (true, _) => woken.one().await,
            (false, Some(_)) => looker.one().await,
            (false, None) => {
                let died = Finish::Dead {
                    reason: DeadReason::Refused,
                    answer: None,
                    last_error: None,
                };
                store.finish(started.operation.id(), started.fence, died).await.unwrap();
                looking = Some(tokio::spawn(look(undoes.clone(), saga.clone())));
                rest().await;
            }
        }
    }
    looking.unwrap().await.unwrap();
    run.await.unwrap();
    // The compensations that were laid down run to their end.
    let _runner = Running::start(&free, &other.checkout(&free).await);
    let kept = record(&free, "checkout").await.is_done();
    match kept {
        true => becomes(&free, "checkout/undo", StateName::Done).await,
        false => becomes(&free, "checkout/reserve/undo", StateName::Done).await,
    };
    let heard = other.heard();
    let has = |what: &str| heard.iter().any(|one| one == what);
    Came {
        charged: has("charge"),
        kept,
        undone: has("undo charge"),
    }
}

/// One look at the operation, as the runner would have it.
async fn look(engine: Engine, saga: Saga) {
    let record = engine
        .store()
        .read(operation("checkout/undo").id())
        .await
        .unwrap()
        .1
        .unwrap();
    let run = Run {
        operation: record.operation,
        fence: record.fence,
        tries: 1,
    };
    let looked = undoing::look(Arc::clone(&saga.plan), run, record.input.unwrap()).await;
    assert!(matches!(looked, Attempted::Done(_)), "{looked:?}");
}

/// All orders of the calls of the one (claim, reading, finish of the step) and of the other (the operation's death;
/// reading, undo, listing; and two of those that lay down what was listed).
fn orders() -> impl Iterator<Item = Vec<bool>> {
    const WOKEN: u32 = 3;
    const OTHER: u32 = 6;
    let all = 0_u32..1 << (WOKEN + OTHER);
    let some = all.filter(|bits| bits.count_ones() == WOKEN);
    some.map(|bits| (0..WOKEN + OTHER).map(|at| bits & (1 << at) != 0).collect())
}

#[tokio::test(start_paused = true)]
async fn a_step_of_a_process_that_wakes_up_is_undone_or_does_nothing() {
    let (mut undone, mut idle) = (0, 0);
    for order in orders() {
        let came = play(&order, true).await;
        assert!(came.undone != came.kept || !came.charged, "{order:?}: {came:?}");
        undone += usize::from(came.undone);
        idle += usize::from(!came.charged);
    }
    assert!(undone > 5 && idle > 40, "{undone} undone, {idle} idle");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_did_not_look_at_its_operation_would_be_left_out() {
    let mut left_out = 0;
    for order in orders() {
        let came = play(&order, false).await;
        left_out += usize::from(came.charged && !came.kept && !came.undone);
    }
    assert!(left_out > 0, "the test above would not notice");
}
