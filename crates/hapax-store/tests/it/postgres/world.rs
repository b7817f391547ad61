//! What the tests share.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    AfterFailure, Amend, Amendment, Answer, AttemptId, Audit, Claim, Claimed, Enqueue, Fingerprint, Input, Key, Lease,
    Name, Operation, Outcome, RecipeId, Retention, Ruling, Scope, Starter, Take, TakeName,
};
use hapax_store::postgres::{PostgresOptions, PostgresStore};

/// A store with everything by default.
pub(super) async fn connect(url: &str) -> PostgresStore {
    PostgresStore::connect(url, PostgresOptions::default()).await.unwrap()
}

pub(super) fn operation(key: &str) -> Operation {
    Operation::new(
        Scope::new("tenant").unwrap(),
        Name::new("pay").unwrap(),
        Key::new(key).unwrap(),
    )
}

pub(super) fn attempt() -> AttemptId {
    let mut attempt = [0; 16];
    getrandom::fill(&mut attempt).unwrap();
    AttemptId::from_bytes(attempt)
}

/// A caller's claim in hold mode with a fresh attempt.
pub(super) fn claim(key: &str) -> Claim {
    Claim {
        operation: operation(key),
        fingerprint: Fingerprint::new(RecipeId::new(1), [7; 32]),
        attempt: attempt(),
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

/// The same operation for a runner, due at once.
pub(super) fn enqueue(key: &str) -> Enqueue {
    Enqueue {
        operation: operation(key),
        fingerprint: Fingerprint::new(RecipeId::new(1), [7; 32]),
        attempt: attempt(),
        input: Input(Bytes::from(format!("input of {key}"))),
        delay: Duration::ZERO,
        retention: Retention::default(),
        group: None,
    }
}

/// A take by a runner that retries three times and resolves what is unknown.
pub(super) fn take(limit: usize) -> Take {
    Take {
        attempt: attempt(),
        names: vec![TakeName {
            name: Name::new("pay").unwrap(),
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

pub(super) fn amendment(amend: Amend) -> Amendment {
    Amendment {
        amend,
        fence: None,
        audit: Audit {
            actor: "ada".to_owned(),
            reason: "ticket 7".to_owned(),
        },
    }
}

pub(super) fn answer(bytes: usize) -> Answer {
    Answer {
        status: 201,
        headers: vec![("content-type".into(), Bytes::from_static(b"application/json"))],
        body: Bytes::from(vec![b'x'; bytes]),
    }
}

pub(super) fn done(bytes: usize) -> hapax_core::Finish {
    hapax_core::Finish::Done(Outcome::Answer(answer(bytes)))
}

#[track_caller]
pub(super) fn lease(claimed: Claimed) -> Lease {
    match claimed.ruling {
        Ruling::Won(lease) => lease,
        Ruling::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}
