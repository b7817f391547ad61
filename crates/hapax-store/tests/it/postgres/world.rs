//! What the tests share.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    AfterFailure, Answer, AttemptId, Claim, Claimed, Fingerprint, Key, Lease, Name, Operation, Outcome, RecipeId,
    Retention, Ruling, Scope, Starter,
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

/// A caller's claim in hold mode with a fresh attempt.
pub(super) fn claim(key: &str) -> Claim {
    let mut attempt = [0; 16];
    getrandom::fill(&mut attempt).unwrap();
    Claim {
        operation: operation(key),
        fingerprint: Fingerprint::new(RecipeId::new(1), [7; 32]),
        attempt: AttemptId::from_bytes(attempt),
        starter: Starter::Caller,
        lease: Duration::from_secs(30),
        max_run: Duration::from_secs(900),
        after_failure: AfterFailure::Hold,
        retention: Retention::default(),
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
