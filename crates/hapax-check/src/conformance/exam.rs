//! What the cases are written with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    AfterFailure, Amend, Amended, Amendment, Answer, AttemptId, Audit, Claim, Claimed, DeadReason, Enqueue, Enqueued,
    Fence, Fingerprint, Finish, Finished, Input, Key, LastError, Lease, Name, NotKept, Operation, OperationId, Outcome,
    RecipeId, Record, Refusal, Resolution, Retention, Ruling, Scope, Starter, Store, Take, TakeName, Taken, Timestamp,
    WordError, Work,
};

use super::{Backend, Failure};
use crate::time::MadeTime;

/// The result of a case, and of each of its steps.
pub(super) type Checked<T = ()> = Result<T, Failure>;

/// Fails the case with a text unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Failure(format!($($text)+)));
        }
    };
}

/// Fails the case with a text and both values unless they are equal.
macro_rules! ensure_eq {
    ($actual:expr, $expected:expr, $($text:tt)+) => {
        // A `match`, so that temporaries live until the values are compared.
        match (&$actual, &$expected) {
            (actual, expected) if actual != expected => {
                let text = format!($($text)+);
                let text = format!("{text}\n  expected {expected:?}\n       got {actual:?}");
                return Err($crate::conformance::Failure(text));
            }
            _ => {}
        }
    };
}

pub(super) use {ensure, ensure_eq};

/// Length of the leases in the suite.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// `max_run` in the suite.
pub(super) const MAX_RUN: Duration = Duration::from_secs(100);
/// `replay_for` in the suite.
pub(super) const REPLAY_FOR: Duration = Duration::from_secs(3_600);
/// `remember_for` in the suite.
pub(super) const REMEMBER_FOR: Duration = Duration::from_secs(36_000);
/// `settle` in the suite.
pub(super) const SETTLE: Duration = Duration::from_secs(20);
/// One millisecond: the smallest step of a store's time.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// A case's own empty data and its time.
pub struct Exam {
    backend: Arc<dyn Backend>,
    /// The time that every handle's clock shows.
    pub time: MadeTime,
    recipes: OnceLock<[RecipeId; 2]>,
}

impl Exam {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            time: MadeTime::new(Timestamp::from_millis(1_800_000_000_123)),
            recipes: OnceLock::new(),
        }
    }

    /// One more handle onto the data.
    pub(super) async fn open(&self) -> Checked<Arc<dyn Store>> {
        let store = self.backend.open(self.time.clock()).await?;
        if self.recipes.get().is_none() {
            let first = store.recipe("conformance 1".into()).await?;
            let second = store.recipe("conformance 2".into()).await?;
            // Whoever was first set the same numbers.
            let _ = self.recipes.set([first, second]);
        }
        Ok(store)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// The number of one of the suite's two recipes.
    pub(super) fn recipe(&self, index: usize) -> RecipeId {
        self.recipes
            .get()
            .and_then(|recipes| recipes.get(index).copied())
            .unwrap_or(RecipeId::new(1))
    }

    /// A fingerprint of the payload with this number under the first recipe.
    pub(super) fn payload(&self, number: u8) -> Fingerprint {
        Fingerprint::new(self.recipe(0), [number; 32])
    }

    /// A caller's claim in hold mode on `tenant/default/key` by an attempt of its own.
    pub(super) fn ask(&self, key: &str) -> Claim {
        self.ask_for(plain(key))
    }

    pub(super) fn ask_for(&self, operation: Operation) -> Claim {
        Claim {
            operation,
            fingerprint: self.payload(1),
            attempt: new_attempt(),
            starter: Starter::Caller,
            lease: LEASE,
            max_run: MAX_RUN,
            after_failure: AfterFailure::Hold,
            attended: false,
            retention: Retention {
                replay_for: REPLAY_FOR,
                remember_for: REMEMBER_FOR,
            },
            input: None,
            group: None,
        }
    }

    /// The enqueuing of `tenant/default/key` for at once, by an attempt of its own.
    pub(super) fn lay(&self, key: &str) -> Enqueue {
        let claim = self.ask(key);
        Enqueue {
            operation: claim.operation,
            fingerprint: claim.fingerprint,
            attempt: claim.attempt,
            input: Input(Bytes::from_static(b"input")),
            delay: Duration::ZERO,
            retention: claim.retention,
            group: None,
        }
    }

    /// The same in a group.
    pub(super) fn lay_in(&self, group: u8, key: &str) -> Enqueue {
        Enqueue {
            group: Some(group_of(group)),
            ..self.lay(key)
        }
    }

    /// A take that keeps the order of groups.
    pub(super) fn take_in_order(&self) -> Take {
        let mut take = self.take();
        for name in &mut take.names {
            name.ordered = true;
        }
        take
    }

    /// A runner's take, by an attempt of its own, of at most a hundred records of the name `default`, in retry mode
    /// with five tries, where no crash is held against an operation and nobody can resolve it.
    pub(super) fn take(&self) -> Take {
        Take {
            attempt: new_attempt(),
            names: vec![TakeName {
                name: plain("k").name().clone(),
                lease: LEASE,
                max_run: MAX_RUN,
                after_failure: AfterFailure::Retry,
                tries: 5,
                crashes_count: false,
                resolves: false,
                ordered: false,
            }],
            limit: 100,
            alone: false,
            again: false,
        }
    }

    /// The same where crashes count and unknown outcomes can be resolved.
    pub(super) fn take_all(&self) -> Take {
        let mut take = self.take();
        for name in &mut take.names {
            (name.crashes_count, name.resolves) = (true, true);
        }
        take
    }

    /// The same in retry mode.
    pub(super) fn ask_retried(&self, key: &str) -> Claim {
        Claim {
            after_failure: AfterFailure::Retry,
            ..self.ask(key)
        }
    }

    /// Claims `key` and must win.
    pub(super) async fn win(&self, store: &Arc<dyn Store>, key: &str) -> Checked<Lease> {
        won(store.claim(self.ask(key)).await?)
    }

    /// Claims `key`, must win, and finishes with `finish`, which must apply.
    pub(super) async fn run(&self, store: &Arc<dyn Store>, key: &str, finish: Finish) -> Checked<Lease> {
        let lease = self.win(store, key).await?;
        applied(store.finish(id(key), lease.fence, finish).await?)?;
        Ok(lease)
    }

    /// Brings `key` into each of a record's situations in turn, on keys of their own made from `prefix`: as arrivals
    /// leave them, and with input and attended, as runners find them.
    pub(super) async fn every_state(&self, store: &Arc<dyn Store>, prefix: &str) -> Checked<Vec<Situation>> {
        let mut situations = Vec::new();
        for kind in Kind::ALL {
            for (name, finish) in endings() {
                let situation = self.start(store, prefix, *kind, name, AfterFailure::Hold).await?;
                applied(store.finish(situation.id(), situation.lease.fence, finish).await?)?;
                situations.push(situation);
            }
            for (name, mode) in [
                ("lapsed-retry", AfterFailure::Retry),
                ("lapsed-hold", AfterFailure::Hold),
            ] {
                situations.push(self.start(store, prefix, *kind, name, mode).await?);
            }
        }
        self.time.pass(LEASE);
        for kind in Kind::ALL {
            situations.push(self.start(store, prefix, *kind, "running", AfterFailure::Hold).await?);
        }
        Ok(situations)
    }

    async fn start(
        &self,
        store: &Arc<dyn Store>,
        prefix: &str,
        kind: Kind,
        name: &'static str,
        after_failure: AfterFailure,
    ) -> Checked<Situation> {
        let key = format!("{prefix}-{name}-{kind:?}");
        if kind == Kind::Stored {
            accepted(store.enqueue(self.lay(&key)).await?)?;
        }
        let claim = Claim {
            after_failure,
            attended: kind != Kind::Plain,
            ..self.ask(&key)
        };
        let lease = won(store.claim(claim.clone()).await?)?;
        Ok(Situation { name, claim, lease })
    }
}

/// What is known of an operation besides its arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Plain,
    /// That a runner can resolve it.
    Attended,
    /// Its input.
    Stored,
}

impl Kind {
    const ALL: &[Self] = &[Self::Plain, Self::Attended, Self::Stored];
}

/// A record in one of its states, with the claim that brought it there.
pub(super) struct Situation {
    pub(super) name: &'static str,
    pub(super) claim: Claim,
    pub(super) lease: Lease,
}

impl Situation {
    pub(super) fn id(&self) -> OperationId {
        self.claim.operation.id()
    }

    /// The same claim by another attempt.
    pub(super) fn duplicate(&self) -> Claim {
        Claim {
            attempt: new_attempt(),
            ..self.claim.clone()
        }
    }
}

/// A finish for each state that a finish can lead to.
pub(super) fn endings() -> Vec<(&'static str, Finish)> {
    let mut endings = vec![
        ("done", Finish::Done(Outcome::Answer(answer(201, b"made")))),
        ("released", release()),
        ("released-for-later", release_for(LEASE * 10)),
        ("unknown", doubt(None)),
        (
            "unknown-with-answer",
            Finish::Unknown {
                answer: Some(answer(502, b"bad gateway")),
                last_error: Some(LastError::new("status 502")),
            },
        ),
    ];
    for not_kept in NotKept::ALL {
        endings.push((not_kept.as_str(), Finish::Done(Outcome::NotKept(*not_kept))));
    }
    for reason in DeadReason::ALL {
        let answer = (*reason == DeadReason::Exhausted).then(|| answer(500, b"sorry"));
        endings.push((
            reason.as_str(),
            Finish::Dead {
                reason: *reason,
                last_error: answer.as_ref().map(|_| LastError::new("status 500")),
                answer,
            },
        ));
    }
    endings
}

/// One of the suite's groups.
pub(super) fn group_of(number: u8) -> OperationId {
    OperationId::from_bytes([number; 16])
}

/// An attempt that nobody else has.
pub(super) fn new_attempt() -> AttemptId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    AttemptId::from_bytes(u128::from(number).to_be_bytes())
}

/// The operation `tenant/default/key`.
pub(super) fn plain(key: &str) -> Operation {
    match operation("tenant", "default", key) {
        Ok(operation) => operation,
        Err(error) => panic!("the suite's own key {key:?} is wrong: {error}"),
    }
}

pub(super) fn id(key: &str) -> OperationId {
    plain(key).id()
}

pub(super) fn operation(scope: &str, name: &str, key: &str) -> Result<Operation, WordError> {
    Ok(Operation::new(Scope::new(scope)?, Name::new(name)?, Key::new(key)?))
}

pub(super) fn answer(status: u16, body: &[u8]) -> Answer {
    Answer {
        status,
        headers: vec![("content-type".into(), Bytes::from_static(b"text/plain"))],
        body: Bytes::copy_from_slice(body),
    }
}

pub(super) fn done(body: &[u8]) -> Finish {
    Finish::Done(Outcome::Answer(answer(201, body)))
}

pub(super) fn release() -> Finish {
    release_for(Duration::ZERO)
}

pub(super) fn release_for(after: Duration) -> Finish {
    Finish::Release {
        after,
        counts: true,
        last_error: Some(LastError::new("status 503")),
    }
}

pub(super) fn doubt(answer: Option<Answer>) -> Finish {
    Finish::Unknown {
        answer,
        last_error: None,
    }
}

pub(super) fn dead(reason: DeadReason) -> Finish {
    Finish::Dead {
        reason,
        answer: None,
        last_error: Some(LastError::new("no such account")),
    }
}

pub(super) fn amendment(amend: Amend) -> Amendment {
    Amendment {
        amend,
        fence: None,
        audit: Audit {
            actor: "ann".into(),
            reason: "asked the bank".into(),
        },
    }
}

pub(super) const FORGET: Amend = Amend::Forget { even_unknown: false };
pub(super) const FORGET_EVEN_UNKNOWN: Amend = Amend::Forget { even_unknown: true };

/// Says that an unknown outcome is this.
pub(super) fn resolve(resolution: Resolution) -> Amend {
    Amend::Resolve {
        resolution,
        settle: SETTLE,
    }
}

pub(super) fn became(amended: Amended) -> Checked<Record> {
    match amended {
        Amended::Became(record) => Ok(*record),
        other => Err(Failure(format!(
            "the amendment should have been carried out, but: {other:?}"
        ))),
    }
}

pub(super) fn accepted(enqueued: Enqueued) -> Checked {
    match enqueued.refusal {
        None => Ok(()),
        Some(refusal) => Err(Failure(format!(
            "the operation should have been enqueued, but: {refusal:?}"
        ))),
    }
}

/// The records that a take says to run, with their leases.
pub(super) fn to_run(taken: &Taken) -> Vec<(&Record, Lease)> {
    let mut runs = Vec::new();
    for work in &taken.work {
        if let Work::Run(record, lease) = work {
            runs.push((&**record, *lease));
        }
    }
    runs
}

/// The keys of the records in a take's work, in alphabetical order.
pub(super) fn keys_of(taken: &Taken) -> Vec<String> {
    let key = |work: &Work| match work {
        Work::Run(record, _) | Work::Resolve(record) => record.operation.key().to_string(),
    };
    let mut keys: Vec<String> = taken.work.iter().map(key).collect();
    keys.sort();
    keys
}

pub(super) fn won(claimed: Claimed) -> Checked<Lease> {
    match claimed.ruling {
        Ruling::Won(lease) => Ok(lease),
        Ruling::Refused(refusal) => Err(Failure(format!("the claim should have won, but: {refusal:?}"))),
    }
}

pub(super) fn refused(claimed: Claimed) -> Checked<Refusal> {
    match claimed.ruling {
        Ruling::Refused(refusal) => Ok(refusal),
        Ruling::Won(lease) => Err(Failure(format!("the claim should have been refused, but: {lease:?}"))),
    }
}

pub(super) fn applied(finished: Finished) -> Checked<Timestamp> {
    match finished {
        Finished::Applied { now } => Ok(now),
        other => Err(Failure(format!("the finish should have applied, but: {other:?}"))),
    }
}

pub(super) async fn read(store: &Arc<dyn Store>, id: OperationId) -> Checked<Option<Record>> {
    Ok(store.read(id).await?.1)
}

/// The record, which must be there.
pub(super) async fn must_read(store: &Arc<dyn Store>, id: OperationId) -> Checked<Record> {
    let record = read(store, id).await?;
    record.ok_or_else(|| Failure(format!("the record of {id} is gone")))
}

/// A fence that nobody was given yet.
pub(super) fn fence_after(fence: Fence) -> Fence {
    Fence::new(fence.get() + 1_000_000)
}
