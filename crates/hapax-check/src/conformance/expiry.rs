//! Cases: what time and the sweeper do.

use hapax_core::{
    Amended, Cause, DeadReason, Finish, NotKept, Outcome, Refusal, Renewed, Retention, State, StateName, Swept,
};

use super::exam::*;

const NOTHING: Swept = Swept {
    lapsed: 0,
    stripped: 0,
    forgotten: 0,
    looked_at: 0,
};

pub(super) async fn an_answer_expires_to_the_millisecond_without_a_sweep(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let at = exam.now();
    exam.run(&store, "k", done(b"made")).await?;
    exam.time.pass(REPLAY_FOR - TICK);
    let kept = Refusal::Done {
        at,
        outcome: Outcome::Answer(answer(201, b"made")),
    };
    ensure_eq!(
        refused(store.claim(exam.ask("k")).await?)?,
        kept,
        "one millisecond before replay_for ends"
    );
    exam.time.pass(TICK);
    let expired = Refusal::Done {
        at,
        outcome: Outcome::NotKept(NotKept::Expired),
    };
    ensure_eq!(
        refused(store.claim(exam.ask("k")).await?)?,
        expired,
        "when replay_for has ended"
    );
    exam.time.pass(REMEMBER_FOR - REPLAY_FOR - TICK);
    ensure_eq!(
        refused(store.claim(exam.ask("k")).await?)?,
        expired,
        "just before remember_for ends"
    );
    Ok(())
}

pub(super) async fn a_sweep_strips_expired_answers(exam: Exam) -> Checked {
    let store = exam.open().await?;
    exam.run(&store, "k", done(b"made")).await?;
    let before = must_read(&store, id("k")).await?;
    exam.time.pass(REPLAY_FOR - TICK);
    ensure_eq!(store.sweep(100).await?, NOTHING, "a sweep before replay_for ends");
    ensure_eq!(
        must_read(&store, id("k")).await?,
        before,
        "the record before replay_for ends"
    );
    exam.time.pass(MAX_RUN + TICK);
    let swept = store.sweep(100).await?;
    ensure_eq!(
        swept,
        Swept {
            stripped: 1,
            looked_at: 1,
            ..NOTHING
        },
        "a sweep after replay_for"
    );
    let mut stripped = before;
    stripped.state = State::Done(Outcome::NotKept(NotKept::Expired));
    ensure_eq!(
        must_read(&store, id("k")).await?,
        stripped,
        "the record after replay_for"
    );
    ensure_eq!(store.sweep(100).await?, NOTHING, "the next sweep");
    Ok(())
}

pub(super) async fn a_sweep_forgets_ended_records_in_time_and_not_before(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let too_large = Finish::Done(Outcome::NotKept(NotKept::TooLarge));
    let keys = [
        ("done", done(b"made")),
        ("dead", dead(DeadReason::Poison)),
        ("too-large", too_large),
    ];
    for (key, finish) in keys.clone() {
        exam.run(&store, key, finish).await?;
    }
    let end = exam.now().after(REMEMBER_FOR);
    exam.time.pass_until(exam.now().after(REPLAY_FOR + MAX_RUN));
    store.sweep(100).await?;
    exam.time.pass(end.since(exam.now()) - TICK);
    ensure_eq!(
        store.sweep(100).await?.forgotten,
        0,
        "records forgotten before remember_for ends"
    );
    for (key, _) in &keys {
        must_read(&store, id(key)).await?;
    }
    exam.time.pass(TICK);
    ensure_eq!(
        store.sweep(100).await?.forgotten,
        3,
        "records forgotten when remember_for has ended"
    );
    for (key, _) in &keys {
        ensure_eq!(read(&store, id(key)).await?, None, "the record {key}");
    }
    Ok(())
}

pub(super) async fn a_sweep_lapses_what_nobody_finished(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let lease = exam.win(&store, "k").await?;
    exam.time.pass(REPLAY_FOR + MAX_RUN);
    let swept = store.sweep(100).await?;
    ensure_eq!(
        swept,
        Swept {
            lapsed: 1,
            looked_at: 1,
            ..NOTHING
        },
        "the sweep"
    );
    let record = must_read(&store, id("k")).await?;
    ensure_eq!(
        record.state,
        State::Unknown {
            cause: Cause::Lapsed,
            answer: None
        },
        "the record"
    );
    ensure_eq!(record.since, lease.deadline, "unknown since the deadline");
    Ok(())
}

pub(super) async fn a_sweep_forgets_what_nobody_asks_for_again(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let wait = REPLAY_FOR * 2;
    let start = exam.now();
    exam.run(&store, "at-once", release()).await?;
    exam.run(&store, "later", release_for(wait)).await?;
    won(store.claim(exam.ask_retried("retried")).await?)?;
    exam.time.pass_until(start.after(MAX_RUN + REPLAY_FOR));
    ensure_eq!(store.sweep(100).await?.forgotten, 2, "forgotten after replay_for");
    ensure_eq!(
        read(&store, id("at-once")).await?,
        None,
        "released, and nobody asked again"
    );
    ensure_eq!(
        read(&store, id("retried")).await?,
        None,
        "lapsed in retry mode, and nobody asked again"
    );
    exam.time.pass_until(start.after(wait + REPLAY_FOR));
    exam.time.pass(TICK);
    ensure_eq!(
        store.sweep(100).await?.forgotten,
        1,
        "forgotten replay_for after it was due"
    );
    ensure_eq!(
        read(&store, id("later")).await?,
        None,
        "released for later, and nobody asked again"
    );
    Ok(())
}

pub(super) async fn a_sweep_never_removes_what_is_claimed_or_unknown(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let no_time = Retention {
        replay_for: TICK,
        remember_for: TICK,
    };
    let mut claim = exam.ask("running");
    (claim.retention, claim.max_run) = (no_time, REMEMBER_FOR * 9);
    let lease = won(store.claim(claim).await?)?;
    let mut claim = exam.ask("unknown");
    claim.retention = no_time;
    let doubtful = won(store.claim(claim).await?)?;
    applied(
        store
            .finish(id("unknown"), doubtful.fence, doubt(Some(answer(502, b"?"))))
            .await?,
    )?;
    let unknown = must_read(&store, id("unknown")).await?;
    for round in 0..8 {
        let renewed = store.renew(id("running"), lease.fence, REMEMBER_FOR + LEASE).await?;
        ensure!(matches!(renewed, Renewed::Until(_)), "renewal {round}: {renewed:?}");
        exam.time.pass(REMEMBER_FOR);
        let swept = store.sweep(100).await?;
        ensure_eq!(
            swept.forgotten + swept.lapsed + swept.stripped,
            0,
            "what sweep {round} changed: {swept:?}"
        );
        let state = must_read(&store, id("running")).await?.state.name();
        ensure_eq!(state, StateName::Running, "the claimed record after sweep {round}");
        ensure_eq!(
            must_read(&store, id("unknown")).await?,
            unknown,
            "the unknown record after sweep {round}"
        );
    }
    applied(store.finish(id("running"), lease.fence, done(b"at last")).await?)?;
    Ok(())
}

pub(super) async fn a_sweep_is_bounded(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for number in 0..25 {
        exam.run(&store, &format!("k{number}"), done(b"made")).await?;
    }
    exam.time.pass(REPLAY_FOR + MAX_RUN);
    for expected in [10, 10, 5, 0] {
        let swept = store.sweep(10).await?;
        ensure_eq!(swept.looked_at, expected, "records looked at by a sweep of at most 10");
        ensure_eq!(swept.stripped, expected, "answers stripped by it");
    }
    exam.time.pass(REMEMBER_FOR);
    for expected in [20, 5, 0] {
        let swept = store.sweep(20).await?;
        ensure_eq!(
            (swept.looked_at, swept.forgotten),
            (expected, expected),
            "looked at, forgotten by at most 20"
        );
    }
    Ok(())
}

pub(super) async fn a_claim_after_a_sweep_starts_the_record_anew(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let first = exam.run(&store, "k", done(b"first")).await?;
    exam.time.pass(REMEMBER_FOR + REPLAY_FOR);
    ensure_eq!(store.sweep(100).await?.forgotten, 1, "forgotten");
    let gone = store.amend(id("k"), amendment(FORGET_EVEN_UNKNOWN)).await?;
    ensure_eq!(gone, Amended::Absent, "forgetting what is forgotten");
    let second = exam.run(&store, "k", done(b"second")).await?;
    ensure!(
        second.fence > first.fence,
        "fence {} after {}",
        second.fence,
        first.fence
    );
    let record = must_read(&store, id("k")).await?;
    ensure_eq!(
        (record.created, record.since),
        (exam.now(), exam.now()),
        "created, since"
    );
    exam.time.pass(REMEMBER_FOR);
    ensure_eq!(store.sweep(100).await?.forgotten, 1, "forgotten in its own time");
    Ok(())
}
