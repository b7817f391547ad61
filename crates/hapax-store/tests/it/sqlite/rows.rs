//! The schema refuses rows that the protocol could not have made.

use hapax_core::{
    AfterFailure, DeadReason, Finish, LastError, NotKept, Outcome, Record, StateName, Store, StoreErrorKind,
};
use rusqlite::{Connection, ErrorCode};

use super::{answer, claim, enqueue, open, win};

/// One record in each state, by its name.
async fn one_of_each(path: &std::path::Path) {
    let store = open(path);
    let finishes = [
        (
            "waiting",
            Finish::Release {
                after: std::time::Duration::from_secs(9),
                counts: true,
                last_error: Some(LastError::new("busy")),
            },
        ),
        (
            "unknown",
            Finish::Unknown {
                answer: Some(answer("?")),
                last_error: None,
            },
        ),
        ("done", Finish::Done(Outcome::Answer(answer("!")))),
        ("done, not kept", Finish::Done(Outcome::NotKept(NotKept::TooLarge))),
        (
            "dead",
            Finish::Dead {
                reason: DeadReason::Refused,
                answer: None,
                last_error: None,
            },
        ),
    ];
    win(&store, claim("running")).await;
    store.enqueue(enqueue("enqueued")).await.unwrap();
    store.enqueue(enqueue("running with input")).await.unwrap();
    win(&store, claim("running with input")).await;
    for (key, finish) in finishes {
        let claim = claim(key);
        let id = claim.operation.id();
        let lease = win(&store, claim).await;
        store.finish(id, lease.fence, finish).await.unwrap();
    }
}

#[tokio::test]
async fn the_columns_of_each_state_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    one_of_each(&path).await;
    let connection = Connection::open(&path).unwrap();
    let wrong = [
        ("running", "deadline = NULL"),
        ("running", "run_until = NULL"),
        ("running", "run_until = deadline - 1"),
        ("running", "after_failure = NULL"),
        ("running", "after_failure = 'maybe'"),
        ("running", "due = since"),
        ("running", "reason = 'lapsed'"),
        ("running", "status = 200, headers = x'', body = x''"),
        ("running", "starter = NULL"),
        ("running", "starter = 'nobody'"),
        ("running", "input = x'00'"),
        ("running", "group_id = zeroblob(16)"),
        ("running", "state = 'waiting'"),
        ("running with input", "wake_at = NULL"),
        ("waiting", "due = NULL"),
        ("waiting", "due = since - 1"),
        ("waiting", "deadline = since"),
        ("waiting", "starter = 'caller'"),
        ("waiting", "wake_at = NULL"),
        ("enqueued", "wake_at = NULL"),
        ("waiting", "reason = 'expired'"),
        ("waiting", "status = 200, headers = x'', body = x''"),
        ("unknown", "reason = NULL"),
        ("unknown", "reason = 'expired'"),
        ("unknown", "body = NULL"),
        ("unknown", "headers = NULL"),
        ("unknown", "status = NULL"),
        ("unknown", "due = since"),
        ("unknown", "starter = 'system'"),
        ("unknown", "wake_at = NULL"),
        ("done", "reason = 'expired'"),
        ("done", "status = NULL, headers = NULL, body = NULL"),
        ("done", "status = 99"),
        ("done", "status = 1000"),
        ("done", "run_until = since"),
        ("done", "starter = 'alone'"),
        ("done", "wake_at = since"),
        ("done", "input = x''"),
        ("done", "last_error = ''"),
        ("done, not kept", "reason = NULL"),
        ("done, not kept", "reason = 'poison'"),
        ("done, not kept", "status = 200, headers = x'', body = x''"),
        ("dead", "reason = NULL"),
        ("dead", "reason = 'lapsed'"),
        ("dead", "after_failure = 'hold'"),
        ("dead", "starter = 'caller'"),
        ("dead", "wake_at = NULL"),
        ("dead", "crashes = -1"),
        ("dead", "group_id = x''"),
        ("dead", "crashes = crashes + 4"),
        (
            "dead",
            "last_error = printf('%.*c', 501, 'é') || printf('%.*c', 501, 'é')",
        ),
        ("dead", "redriven = created - 1"),
        ("done", "state = 'finished'"),
        ("done", "state = NULL"),
        ("done", "id = x'00'"),
        ("done", "fingerprint = x'00'"),
        ("done", "attempt = x'00'"),
        ("done", "fence = position - 1"),
        ("done", "tries = -1"),
        ("done", "tries = 4294967296"),
        ("done", "since = created - 1"),
        ("done", "replay_for = -1"),
        ("done", "remember_for = replay_for - 1"),
        ("done", "scope = ''"),
        ("done", "key = zeroblob(300)"),
        ("done", "name = printf('%.256c', 'x')"),
        ("done", "id = (SELECT id FROM hapax_record WHERE key = 'dead')"),
    ];
    assert_eq!(Record::POISON, 3, "the schema's bound of crashes");
    for (key, change) in wrong {
        let sql = format!("UPDATE hapax_record SET {change} WHERE key = '{key}'");
        let result = connection.execute(&sql, []);
        let code = result.as_ref().map_err(|error| error.sqlite_error_code());
        assert_eq!(code, Err(Some(ErrorCode::ConstraintViolation)), "{key}: {change}");
    }
    let right = [
        ("running", "deadline = deadline + 1, tries = 3"),
        ("unknown", "status = NULL, headers = NULL, body = NULL"),
        ("dead", "status = 500, headers = x'', body = x'00'"),
        ("done", "status = 0"),
        ("running", "wake_at = deadline, starter = 'alone'"),
        ("running with input", "crashes = 3"),
        (
            "dead",
            "input = x'', last_error = printf('%.*c', 1000, 'x'), redriven = since",
        ),
        ("unknown", "input = x'00', last_error = ''"),
    ];
    for (key, change) in right {
        let sql = format!("UPDATE hapax_record SET {change} WHERE key = '{key}'");
        assert_eq!(connection.execute(&sql, []), Ok(1), "{key}: {change}");
    }
}

#[tokio::test]
async fn a_row_that_the_schema_refuses_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("hapax.db"));
    let mut bad = claim("bad");
    bad.retention.remember_for = bad.retention.replay_for / 2;
    // Asked for without waiting, so that they share a transaction as far as the writer's timing lets them.
    let claims: Vec<_> = (0..200).map(|n| store.claim(claim(&format!("before {n}")))).collect();
    let refused = store.claim(bad);
    let more: Vec<_> = (0..200).map(|n| store.claim(claim(&format!("after {n}")))).collect();
    for (n, claim) in claims.into_iter().chain(more).enumerate() {
        assert!(claim.await.is_ok(), "{n}");
    }
    let error = refused.await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    let mut first = claim("k");
    first.after_failure = AfterFailure::Retry;
    win(&store, first.clone()).await;
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "ignore_check_constraints", true)
        .unwrap();
    connection
        .execute("UPDATE hapax_record SET deadline = NULL, scope = ''", [])
        .unwrap();
    let error = store.read(first.operation.id()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    let error = store.claim(first).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    // Neither the writer nor the readers stop at it.
    win(&store, claim("other")).await;
    let (_, other) = store.read(super::operation("other").id()).await.unwrap();
    assert_eq!(other.unwrap().state.name(), StateName::Running);
}
