//! The SQLite store on real files.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod crash;
mod desk;
mod durable;
mod joined;
mod migrations;
mod queue;
mod rows;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    AfterFailure, Amend, Amendment, Answer, AttemptId, Audit, Claim, Enqueue, Fence, Fingerprint, Input, Key, Lease,
    Name, Operation, Outcome, RecipeId, Retention, Ruling, Scope, Starter, Store, Take, TakeName, Timestamp,
};
use hapax_store::{Clock, SqliteOptions, SqliteStore};

/// A clock that a test sets, in milliseconds; both of its readings move together, so that nothing is a jump.
#[derive(Clone)]
pub(crate) struct Hand(Arc<AtomicI64>);

impl Hand {
    pub(crate) fn at(millis: i64) -> Self {
        Self(Arc::new(AtomicI64::new(millis)))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let millis = Arc::clone(&self.0);
        let reading = move || {
            let now = millis.load(Ordering::SeqCst);
            (Timestamp::from_millis(now), Duration::from_millis(now as u64))
        };
        Clock::made(reading, Clock::DEFAULT_MAX_STEP)
    }
}

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

pub(crate) fn open_at(path: &Path, clock: Clock) -> SqliteStore {
    let options = SqliteOptions {
        clock,
        ..SqliteOptions::default()
    };
    SqliteStore::open(path, options).unwrap()
}

pub(crate) fn operation(key: &str) -> Operation {
    let (scope, name) = (Scope::new("tenant").unwrap(), Name::new("default").unwrap());
    Operation::new(scope, name, Key::new(key).unwrap())
}

pub(crate) fn claim(key: &str) -> Claim {
    let operation = operation(key);
    Claim {
        attempt: AttemptId::from_bytes(*operation.id().as_bytes()),
        operation,
        fingerprint: Fingerprint::new(RecipeId::new(1), [7; 32]),
        starter: Starter::Caller,
        lease: Duration::from_secs(30),
        max_run: Duration::from_secs(900),
        after_failure: AfterFailure::Hold,
        attended: false,
        retention: Retention::default(),
        input: None,
        group: None,
    }
}

/// An operation laid before the runners, due at once.
pub(crate) fn enqueue(key: &str) -> Enqueue {
    let claim = claim(key);
    Enqueue {
        operation: claim.operation,
        fingerprint: claim.fingerprint,
        attempt: AttemptId::from_bytes([0xee; 16]),
        input: Input(Bytes::copy_from_slice(key.as_bytes())),
        delay: Duration::ZERO,
        retention: claim.retention,
        group: None,
    }
}

/// A request for at most `limit` records of the name `default`, by attempt `attempt`.
pub(crate) fn take(attempt: u8, limit: usize) -> Take {
    Take {
        attempt: AttemptId::from_bytes([attempt; 16]),
        names: vec![TakeName {
            name: Name::new("default").unwrap(),
            lease: Duration::from_secs(30),
            max_run: Duration::from_secs(900),
            after_failure: AfterFailure::Retry,
            tries: 3,
            crashes_count: true,
            resolves: true,
            ordered: false,
        }],
        limit,
        alone: false,
        again: false,
    }
}

/// A person's amendment of a record, whatever its fence.
pub(crate) fn amendment(amend: Amend) -> Amendment {
    let (actor, reason) = ("a person".into(), "for a test".into());
    Amendment {
        amend,
        fence: None,
        audit: Audit { actor, reason },
    }
}

pub(crate) fn answer(body: impl Into<Bytes>) -> Answer {
    Answer {
        status: 201,
        headers: vec![("content-type".into(), Bytes::from_static(b"text/plain"))],
        body: body.into(),
    }
}

pub(crate) fn done(body: impl Into<Bytes>) -> hapax_core::Finish {
    hapax_core::Finish::Done(Outcome::Answer(answer(body)))
}

pub(crate) async fn win(store: &impl Store, claim: Claim) -> Lease {
    match store.claim(claim).await.unwrap().ruling {
        Ruling::Won(lease) => lease,
        Ruling::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

/// One whole life: claim and finish. The fence.
pub(crate) async fn run(store: &impl Store, key: &str, body: &[u8]) -> Fence {
    let claim = claim(key);
    let id = claim.operation.id();
    let lease = win(store, claim).await;
    let finished = store
        .finish(id, lease.fence, done(Bytes::copy_from_slice(body)))
        .await
        .unwrap();
    assert!(matches!(finished, hapax_core::Finished::Applied { .. }), "{finished:?}");
    lease.fence
}
