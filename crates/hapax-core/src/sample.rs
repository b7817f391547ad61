//! Sample claims and records for the tests of this crate.

use std::time::Duration;

use bytes::Bytes;

use crate::*;

pub(crate) const LEASE_MS: i64 = 30;
pub(crate) const MAX_RUN_MS: i64 = 100;
pub(crate) const REPLAY_MS: i64 = 100_000;
pub(crate) const REMEMBER_MS: i64 = 1_000_000;

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn ms(millis: i64) -> Duration {
    Duration::from_millis(millis as u64)
}

pub(crate) fn operation(scope: &str, name: &str, key: &str) -> Operation {
    Operation::new(
        Scope::new(scope).unwrap(),
        Name::new(name).unwrap(),
        Key::new(key).unwrap(),
    )
}

pub(crate) fn fingerprint(recipe: u32, digest: u8) -> Fingerprint {
    Fingerprint::new(RecipeId::new(recipe), [digest; 32])
}

pub(crate) fn attempt(number: u8) -> AttemptId {
    AttemptId::from_bytes([number; 16])
}

/// A caller's claim by attempt 1 on `s/n/k` in hold mode.
pub(crate) fn claim() -> Claim {
    Claim {
        operation: operation("s", "n", "k"),
        fingerprint: fingerprint(1, 1),
        attempt: attempt(1),
        starter: Starter::Caller,
        lease: ms(LEASE_MS),
        max_run: ms(MAX_RUN_MS),
        after_failure: AfterFailure::Hold,
        attended: false,
        retention: Retention {
            replay_for: ms(REPLAY_MS),
            remember_for: ms(REMEMBER_MS),
        },
        input: None,
        group: None,
    }
}

/// What [`claim`] left behind, in `state` since `since`, with fence 7 and three tries, and no input.
pub(crate) fn record(state: State, since: i64) -> Record {
    let claim = claim();
    let wake_at = match state {
        State::Running { .. } | State::Done(_) => None,
        State::Waiting { .. } | State::Unknown { .. } | State::Dead { .. } => Some(Timestamp::FOREVER),
    };
    Record {
        operation: claim.operation,
        fingerprint: claim.fingerprint,
        fence: Fence::new(7),
        attempt: claim.attempt,
        tries: 3,
        crashes: 0,
        created: at(0),
        since: at(since),
        retention: claim.retention,
        input: None,
        last_error: None,
        redriven: None,
        group: None,
        wake_at,
        state,
    }
}

/// Running from 0 with the deadline at 50 and `max_run` up at 100.
pub(crate) fn running(after_failure: AfterFailure) -> Record {
    let state = State::Running {
        deadline: at(50),
        run_until: at(100),
        after_failure,
        starter: Starter::Caller,
    };
    record(state, 0)
}

pub(crate) fn answer(status: u16) -> Answer {
    Answer {
        status,
        headers: vec![("etag".into(), Bytes::from_static(b"1"))],
        body: Bytes::from_static(b"body"),
    }
}

pub(crate) fn unknown(cause: Cause) -> State {
    State::Unknown { cause, answer: None }
}

pub(crate) fn done() -> State {
    State::Done(Outcome::Answer(answer(201)))
}

pub(crate) fn not_kept(why: NotKept) -> State {
    State::Done(Outcome::NotKept(why))
}

pub(crate) fn dead(reason: DeadReason) -> State {
    State::Dead { reason, answer: None }
}

pub(crate) fn waiting(due: i64) -> State {
    State::Waiting { due: at(due) }
}

pub(crate) fn input() -> Input {
    Input(Bytes::from_static(b"input"))
}

pub(crate) fn group() -> OperationId {
    OperationId::from_bytes([6; 16])
}

pub(crate) fn failure(text: &str) -> Option<LastError> {
    Some(LastError::new(text))
}

/// The record with input, and so with a runner to look at it from `wake_at` on.
pub(crate) fn with_input(record: Record, wake_at: i64) -> Record {
    Record {
        input: Some(input()),
        wake_at: Some(at(wake_at)),
        ..record
    }
}

/// What attempt 2 asks a runner to do with `s/n/k` in 10 ms.
pub(crate) fn enqueue() -> Enqueue {
    let claim = claim();
    Enqueue {
        operation: claim.operation,
        fingerprint: claim.fingerprint,
        attempt: attempt(2),
        input: input(),
        delay: ms(10),
        retention: claim.retention,
        group: None,
    }
}

/// The name `n` in retry mode with five tries, no crash held against an operation and nobody to resolve it.
pub(crate) fn take_name() -> TakeName {
    TakeName {
        name: Name::new("n").unwrap(),
        lease: ms(LEASE_MS),
        max_run: ms(MAX_RUN_MS),
        after_failure: AfterFailure::Retry,
        tries: 5,
        crashes_count: false,
        resolves: false,
        ordered: false,
    }
}

/// A take by attempt 9 of at most ten records of [`take_name`].
pub(crate) fn take() -> Take {
    Take {
        attempt: attempt(9),
        names: vec![take_name()],
        limit: 10,
        alone: false,
        again: false,
    }
}

pub(crate) fn amendment(amend: Amend) -> Amendment {
    Amendment {
        amend,
        fence: None,
        audit: Audit {
            actor: "ann".into(),
            reason: "why not".into(),
        },
    }
}

pub(crate) fn resolve(resolution: Resolution) -> Amend {
    Amend::Resolve {
        resolution,
        settle: ms(20),
    }
}
