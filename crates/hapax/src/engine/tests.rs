//! The engine on the model, in virtual time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hapax_core::{
    Amend, Audit, AuditEntry, BoxFuture, Cause, Census, Claimed, Cursor, Enqueue, Enqueued, Filter, Finished, Key,
    Name, OperationId, Outcome, Page, RecipeId, Record, Renewed, Scope, State, StoreErrorKind, Swept, Take, Taken,
};
use hapax_store::{Clock, MemoryStore};
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn memory() -> MemoryStore {
    let started = Instant::now();
    let clock = Clock::made(
        move || {
            (
                Timestamp::from_millis(hapax_core::time::millis(started.elapsed())),
                started.elapsed(),
            )
        },
        Duration::MAX,
    );
    MemoryStore::new(clock, [0; 32])
}

fn engine(store: impl Store) -> Engine {
    Engine::new(store, EngineOptions::default(), ())
}

fn arrival(key: &str, wait: Duration) -> Arrival {
    Arrival {
        group: None,
        input: None,
        operation: Operation::new(
            Scope::new("s").unwrap(),
            Name::new("n").unwrap(),
            Key::new(key).unwrap(),
        ),
        fingerprint: Fingerprint::new(RecipeId::new(1), [1; 32]),
        refingerprint: Arc::new(|_, _| None),
        options: RunOptions::default(),
        wait,
    }
}

fn done(body: &'static str) -> Finish {
    Finish::Done(Outcome::Answer(Answer {
        status: 201,
        headers: vec![],
        body: body.into(),
    }))
}

fn released() -> Finish {
    Finish::Release {
        after: Duration::ZERO,
        counts: false,
        last_error: None,
    }
}

fn forget() -> Amendment {
    Amendment {
        amend: Amend::Forget { even_unknown: false },
        fence: None,
        audit: Audit {
            actor: "test".into(),
            reason: "test".into(),
        },
    }
}

async fn ended(finish: Finish) -> Ended<&'static str> {
    Ended { finish, reply: "ran" }
}

fn state(store: &MemoryStore, key: &str) -> State {
    record(store, key).state
}

fn record(store: &MemoryStore, key: &str) -> Record {
    let id = arrival(key, SECOND).operation.id();
    store.read(id).now_or_never().unwrap().unwrap().1.unwrap()
}

use futures_util::FutureExt;

/// A handler that counts its runs, says that it began, and ends when it may.
#[derive(Clone)]
struct Work {
    runs: Arc<AtomicUsize>,
    began: Arc<Notify>,
    may_end: Arc<Semaphore>,
}

impl Work {
    fn new() -> Self {
        Self {
            runs: Arc::default(),
            began: Arc::default(),
            may_end: Arc::new(Semaphore::new(0)),
        }
    }

    fn handler(&self, finish: Finish) -> impl FnOnce(Run) -> BoxFuture<'static, Ended<&'static str>> + Send + use<> {
        let work = self.clone();
        move |_| {
            Box::pin(async move {
                work.runs.fetch_add(1, Ordering::SeqCst);
                work.began.notify_one();
                work.may_end.acquire().await.unwrap().forget();
                Ended { finish, reply: "ran" }
            })
        }
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

/// Fails chosen steps of the store underneath: before they are carried out, or by losing the reply.
#[derive(Clone)]
struct Flaky {
    store: MemoryStore,
    claim_replies_lost: Arc<AtomicBool>,
    finish_fails: Arc<AtomicBool>,
    renews: Arc<AtomicUsize>,
}

impl Flaky {
    fn new(store: &MemoryStore) -> Self {
        Self {
            store: store.clone(),
            claim_replies_lost: Arc::default(),
            finish_fails: Arc::default(),
            renews: Arc::default(),
        }
    }
}

fn down<T>() -> Result<T, StoreError> {
    Err(StoreError::new(StoreErrorKind::Unavailable, "down"))
}

impl Store for Flaky {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        Box::pin(async {
            let claimed = self.store.claim(claim).await;
            if self.claim_replies_lost.load(Ordering::SeqCst) {
                down()
            } else {
                claimed
            }
        })
    }
    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.renews.fetch_add(1, Ordering::SeqCst);
        self.store.renew(id, fence, lease)
    }
    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        if self.finish_fails.load(Ordering::SeqCst) {
            return Box::pin(async { down() });
        }
        self.store.finish(id, fence, finish)
    }
    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        self.store.read(id)
    }
    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.store.list(filter, after, limit)
    }
    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.store.amend(id, amendment)
    }
    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        self.store.enqueue(enqueue)
    }
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        self.store.take(take)
    }
    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<(Vec<AuditEntry>, Option<Cursor>), StoreError>> {
        self.store.audit(id, after, limit)
    }
    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        self.store.census(scopes)
    }
    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        self.store.sweep(limit)
    }
    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.store.recipe(text)
    }
    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.store.recipe_text(recipe)
    }
    fn time(&self, accept: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        self.store.time(accept)
    }
    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.raise_fence(at_least)
    }
    fn secret(&self) -> [u8; 32] {
        self.store.secret()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_runs_and_a_duplicate_is_told_the_same() {
    let (store, work) = (memory(), Work::new());
    let engine = engine(store.clone());
    work.may_end.add_permits(1);
    let first = engine.run(arrival("k", SECOND), work.handler(done("a"))).await.unwrap();
    assert!(matches!(first, Reply::Ran("ran")));
    let again = engine.run(arrival("k", SECOND), work.handler(done("b"))).await.unwrap();
    let Reply::Refused(Refusal::Done {
        outcome: Outcome::Answer(answer),
        ..
    }) = again
    else {
        panic!("{again:?}")
    };
    assert_eq!((answer.status, &answer.body[..]), (201, &b"a"[..]));
    assert_eq!(work.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replay_asks_the_store_again_when_the_cache_is_old_and_when_the_answer_expired() {
    let store = memory();
    let engine = engine(store.clone());
    engine.run(arrival("k", SECOND), |_| ended(done("a"))).await.unwrap();
    sleep(11 * SECOND).await;
    let id = arrival("k", SECOND).operation.id();
    store.amend(id, forget()).await.unwrap();
    assert!(matches!(
        engine.run(arrival("k", SECOND), |_| ended(done("b"))).await.unwrap(),
        Reply::Ran(_)
    ));

    let mut short = arrival("k2", SECOND);
    short.options.retention.replay_for = 5 * SECOND;
    engine.run(short, |_| ended(done("a"))).await.unwrap();
    sleep(5 * SECOND).await;
    let mut late = arrival("k2", SECOND);
    late.options.retention.replay_for = 5 * SECOND;
    let told = engine.run(late, |_| ended(done("b"))).await.unwrap();
    assert!(
        matches!(
            told,
            Reply::Refused(Refusal::Done {
                outcome: Outcome::NotKept(_),
                ..
            })
        ),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn duplicates_wait_for_a_run_here_and_elsewhere() {
    let (store, work) = (memory(), Work::new());
    let (here, elsewhere) = (engine(store.clone()), engine(store.clone()));
    let first = tokio::spawn({
        let (engine, handler) = (here.clone(), work.handler(done("a")));
        async move { engine.run(arrival("k", SECOND), handler).await }
    });
    work.began.notified().await;
    let duplicates: Vec<_> = [&here, &elsewhere, &here, &elsewhere, &elsewhere]
        .into_iter()
        .map(|engine| {
            let (engine, handler) = (engine.clone(), work.handler(done("b")));
            tokio::spawn(async move { engine.run(arrival("k", 5 * SECOND), handler).await })
        })
        .collect();
    sleep(SECOND).await;
    assert_eq!((here.waiting(), elsewhere.waiting()), (2, 3));
    work.may_end.add_permits(1);
    assert!(matches!(first.await.unwrap().unwrap(), Reply::Ran(_)));
    for duplicate in duplicates {
        let told = duplicate.await.unwrap().unwrap();
        assert!(matches!(&told, Reply::Refused(Refusal::Done { .. })), "{told:?}");
    }
    assert_eq!((work.runs(), here.waiting(), elsewhere.waiting()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time_and_too_many_do_not_wait_at_all() {
    let (store, work) = (memory(), Work::new());
    let options = EngineOptions {
        waiters_per_operation: 1,
        ..EngineOptions::default()
    };
    let engine = Engine::new(store, options, ());
    let run = |wait| {
        let (engine, handler) = (engine.clone(), work.handler(done("a")));
        tokio::spawn(async move { engine.run(arrival("k", wait), handler).await })
    };
    let _first = run(SECOND);
    work.began.notified().await;
    let started = Instant::now();
    let patient = run(3 * SECOND);
    sleep(SECOND).await;
    let refused = run(3 * SECOND).await.unwrap().unwrap();
    assert!(matches!(refused, Reply::Refused(Refusal::InProgress { .. })));
    assert_eq!(started.elapsed(), SECOND);
    assert!(matches!(
        patient.await.unwrap().unwrap(),
        Reply::Refused(Refusal::InProgress { .. })
    ));
    assert!(
        started.elapsed() >= 3 * SECOND && started.elapsed() < 4 * SECOND,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(engine.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_caller_left_stops_waiting() {
    let work = Work::new();
    let engine = engine(memory());
    let run = |wait| {
        let (engine, handler) = (engine.clone(), work.handler(done("a")));
        tokio::spawn(async move { engine.run(arrival("k", wait), handler).await })
    };
    let _first = run(SECOND);
    work.began.notified().await;
    let waiter = run(100 * SECOND);
    sleep(SECOND).await;
    assert_eq!(engine.waiting(), 1);
    waiter.abort();
    sleep(SECOND).await;
    assert_eq!(engine.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_runs_what_was_released() {
    let work = Work::new();
    let engine = engine(memory());
    let first = tokio::spawn({
        let (engine, handler) = (engine.clone(), work.handler(released()));
        async move { engine.run(arrival("k", SECOND), handler).await }
    });
    work.began.notified().await;
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.run(arrival("k", 5 * SECOND), |_| ended(done("b"))).await }
    });
    sleep(SECOND).await;
    work.may_end.add_permits(1);
    assert!(matches!(first.await.unwrap().unwrap(), Reply::Ran(_)));
    assert!(matches!(waiter.await.unwrap().unwrap(), Reply::Ran(_)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_outlives_its_caller_and_its_lease() {
    let (store, work) = (memory(), Work::new());
    let flaky = Flaky::new(&store);
    let engine = engine(flaky.clone());
    let caller = tokio::spawn({
        let (engine, handler) = (engine.clone(), work.handler(done("a")));
        async move { engine.run(arrival("k", SECOND), handler).await }
    });
    work.began.notified().await;
    caller.abort();
    sleep(100 * SECOND).await;
    assert!(flaky.renews.load(Ordering::SeqCst) >= 9);
    let told = engine
        .run(arrival("k", Duration::ZERO), |_| ended(done("b")))
        .await
        .unwrap();
    assert!(matches!(told, Reply::Refused(Refusal::InProgress { .. })), "{told:?}");
    work.may_end.add_permits(1);
    sleep(SECOND).await;
    assert!(matches!(state(&store, "k"), State::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn max_run_ends_a_lease_and_a_late_finish_still_counts() {
    let (store, work) = (memory(), Work::new());
    let engine = engine(store.clone());
    let first = tokio::spawn({
        let (engine, handler) = (engine.clone(), work.handler(done("a")));
        async move { engine.run(arrival("k", SECOND), handler).await }
    });
    work.began.notified().await;
    sleep(901 * SECOND).await;
    let told = engine.run(arrival("k", SECOND), |_| ended(done("b"))).await.unwrap();
    assert!(
        matches!(
            told,
            Reply::Refused(Refusal::Unknown {
                cause: Cause::Lapsed,
                ..
            })
        ),
        "{told:?}"
    );
    work.may_end.add_permits(1);
    assert!(matches!(first.await.unwrap().unwrap(), Reply::Ran(_)));
    assert!(matches!(state(&store, "k"), State::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_was_overtaken_says_what_the_record_says() {
    let (store, work) = (memory(), Work::new());
    let engine = engine(store.clone());
    let retrying = |wait| {
        let mut arrival = arrival("k", wait);
        arrival.options.after_failure = AfterFailure::Retry;
        arrival.options.max_run = 30 * SECOND;
        arrival
    };
    let first = tokio::spawn({
        let (engine, handler) = (engine.clone(), work.handler(done("a")));
        async move { engine.run(retrying(SECOND), handler).await }
    });
    work.began.notified().await;
    sleep(31 * SECOND).await;
    let second = engine.run(retrying(SECOND), |_| ended(done("b"))).await.unwrap();
    assert!(matches!(second, Reply::Ran(_)));
    work.may_end.add_permits(1);
    let told = first.await.unwrap().unwrap();
    let Reply::Refused(Refusal::Done {
        outcome: Outcome::Answer(answer),
        ..
    }) = told
    else {
        panic!("{told:?}")
    };
    assert_eq!(&answer.body[..], b"b");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_ambiguous() {
    let store = memory();
    let engine = engine(store.clone());
    let panics = |_: Run| async { if true { panic!("planted") } else { unreachable!() } };
    let told: Result<Reply<()>, _> = engine.run(arrival("k", SECOND), panics).await;
    assert!(matches!(told, Err(RunError::Panicked)));
    assert!(matches!(
        state(&store, "k"),
        State::Unknown {
            cause: Cause::Ambiguous,
            ..
        }
    ));

    let mut retrying = arrival("k2", SECOND);
    retrying.options.after_failure = AfterFailure::Retry;
    let told: Result<Reply<()>, _> = engine.run(retrying, panics).await;
    assert!(matches!(told, Err(RunError::Panicked)));
    assert!(matches!(state(&store, "k2"), State::Waiting { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_is_lost_wins_again() {
    let store = memory();
    let flaky = Flaky::new(&store);
    let engine = engine(flaky.clone());
    flaky.claim_replies_lost.store(true, Ordering::SeqCst);
    let heals = tokio::spawn(async move {
        sleep(SECOND).await;
        flaky.claim_replies_lost.store(false, Ordering::SeqCst);
    });
    assert!(matches!(
        engine.run(arrival("k", SECOND), |_| ended(done("a"))).await.unwrap(),
        Reply::Ran(_)
    ));
    assert_eq!(record(&store, "k").fence.get(), 1);
    heals.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_never_answered_is_given_back() {
    let store = memory();
    let flaky = Flaky::new(&store);
    let engine = engine(flaky.clone());
    flaky.claim_replies_lost.store(true, Ordering::SeqCst);
    let told = engine.run(arrival("k", SECOND), |_| ended(done("a"))).await;
    assert!(matches!(told, Err(RunError::NotClaimed(_))), "{told:?}");
    assert!(
        matches!(state(&store, "k"), State::Running { .. }),
        "the store had carried it out"
    );
    flaky.claim_replies_lost.store(false, Ordering::SeqCst);
    sleep(2 * SECOND).await;
    assert!(matches!(state(&store, "k"), State::Waiting { .. }));
    assert!(matches!(
        engine.run(arrival("k", SECOND), |_| ended(done("b"))).await.unwrap(),
        Reply::Ran(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_before_the_finish_is_durable() {
    let store = memory();
    let flaky = Flaky::new(&store);
    let engine = engine(flaky.clone());
    flaky.finish_fails.store(true, Ordering::SeqCst);
    let told = engine.run(arrival("k", SECOND), |_| ended(done("a"))).await;
    assert!(matches!(told, Err(RunError::NotFinished(_))), "{told:?}");
    sleep(60 * SECOND).await;
    flaky.finish_fails.store(false, Ordering::SeqCst);
    sleep(2 * SECOND).await;
    assert!(matches!(state(&store, "k"), State::Done(_)), "the finish was repeated");
}

#[tokio::test(start_paused = true)]
async fn a_record_of_an_older_recipe_is_compared_under_that_recipe() {
    let store = memory();
    let engine = engine(store.clone());
    let old = store.recipe("old".into()).await.unwrap();
    let new = store.recipe("new".into()).await.unwrap();
    let under = |recipe, old_digest: u8| {
        let mut arrival = arrival("k", SECOND);
        arrival.fingerprint = Fingerprint::new(recipe, [9; 32]);
        arrival.refingerprint =
            Arc::new(move |text, id| (text == "old").then(|| Fingerprint::new(id, [old_digest; 32])));
        arrival
    };
    assert!(matches!(
        engine.run(under(old, 0), |_| ended(done("a"))).await.unwrap(),
        Reply::Ran(_)
    ));
    sleep(11 * SECOND).await;
    let same = engine.run(under(new, 9), |_| ended(done("b"))).await.unwrap();
    assert!(matches!(same, Reply::Refused(Refusal::Done { .. })), "{same:?}");
    sleep(11 * SECOND).await;
    let other = engine.run(under(new, 8), |_| ended(done("b"))).await.unwrap();
    assert!(matches!(other, Reply::Refused(Refusal::Mismatch)), "{other:?}");
}
