//! Cases: finish and renew.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Cause, Fence, Finish, Finished, Outcome, Refusal, Renewed, State, Store};

use super::Failure;
use super::exam::*;

pub(super) async fn a_done_operation_is_replayed_to_everybody(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let claim = exam.ask("k");
    let lease = won(store.claim(claim.clone()).await?)?;
    exam.time.pass(TICK);
    let at = applied(store.finish(id("k"), lease.fence, done(b"made")).await?)?;
    ensure_eq!(at, exam.now(), "the finish's time");
    let expected = Refusal::Done {
        at,
        outcome: Outcome::Answer(answer(201, b"made")),
    };
    exam.time.pass(LEASE * 3);
    for (claim, store) in [(exam.ask("k"), &store), (exam.ask("k"), &other), (claim, &other)] {
        ensure_eq!(
            refused(store.claim(claim).await?)?,
            expected,
            "an arrival after it is done"
        );
    }
    Ok(())
}

pub(super) async fn each_finish_is_told_to_the_next_arrival(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (key, finish) in endings() {
        let lease = exam.win(&store, key).await?;
        exam.time.pass(TICK);
        applied(store.finish(id(key), lease.fence, finish.clone()).await?)?;
        let record = must_read(&store, id(key)).await?;
        ensure_eq!(record.state, finish.state(exam.now()), "the state after {key}");
        ensure_eq!(
            (record.since, record.fence),
            (exam.now(), lease.fence),
            "since and fence after {key}"
        );
        if matches!(finish, Finish::Release { after, .. } if after.is_zero()) {
            continue;
        }
        let refusal = refused(store.claim(exam.ask(key)).await?)?;
        ensure_eq!(
            refusal,
            record.refusal(exam.now()),
            "what the next arrival is told after {key}"
        );
    }
    Ok(())
}

fn settlements() -> Vec<(&'static str, Finish)> {
    let mut endings = endings();
    endings.retain(|(_, finish)| !matches!(finish, Finish::Unknown { .. }));
    endings
}

async fn settle(exam: &Exam, store: &Arc<dyn Store>, key: &str, fence: Fence, finish: Finish) -> Checked {
    exam.time.pass(LEASE);
    applied(store.finish(id(key), fence, finish.clone()).await?)?;
    let record = must_read(store, id(key)).await?;
    ensure_eq!(
        record.state,
        finish.state(exam.now()),
        "the state after the late finish {key}"
    );
    ensure_eq!(record.since, exam.now(), "since when, after the late finish {key}");
    Ok(())
}

pub(super) async fn a_late_finish_settles_a_lapsed_run(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (key, finish) in settlements() {
        let lease = exam.win(&store, key).await?;
        exam.time.pass(LEASE);
        refused(store.claim(exam.ask(key)).await?)?;
        let state = must_read(&store, id(key)).await?.state;
        ensure_eq!(
            state,
            State::Unknown {
                cause: Cause::Lapsed,
                answer: None
            },
            "after the lapse"
        );
        settle(&exam, &store, key, lease.fence, finish).await?;
    }
    Ok(())
}

pub(super) async fn a_late_finish_settles_an_ambiguous_run(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (key, finish) in settlements() {
        let lease = exam.run(&store, key, doubt(Some(answer(504, b"")))).await?;
        settle(&exam, &store, key, lease.fence, finish).await?;
    }
    Ok(())
}

/// The finish must be answered with the record as it was before.
async fn stands(exam: &Exam, store: &Arc<dyn Store>, key: &str, fence: Fence, finish: Finish, what: &str) -> Checked {
    let before = must_read(store, id(key)).await?;
    let finished = store.finish(id(key), fence, finish).await?;
    let expected = Finished::Already {
        now: exam.now(),
        record: Box::new(before.clone()),
    };
    ensure_eq!(finished, expected, "{what}");
    ensure_eq!(must_read(store, id(key)).await?, before, "{what}: the record");
    Ok(())
}

pub(super) async fn a_second_doubt_changes_nothing(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let second = doubt(Some(answer(502, b"second")));
    let lapsed = exam.win(&store, "lapsed").await?;
    exam.time.pass(LEASE);
    refused(store.claim(exam.ask("lapsed")).await?)?;
    stands(
        &exam,
        &store,
        "lapsed",
        lapsed.fence,
        second.clone(),
        "a doubt about a lapsed run",
    )
    .await?;
    let first = doubt(Some(answer(502, b"first")));
    let ambiguous = exam.run(&store, "ambiguous", first).await?;
    exam.time.pass(TICK);
    stands(&exam, &store, "ambiguous", ambiguous.fence, second, "a second doubt").await
}

pub(super) async fn the_first_finish_stands(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (key, first) in settlements() {
        let lease = exam.run(&store, key, first.clone()).await?;
        exam.time.pass(TICK);
        stands(
            &exam,
            &store,
            key,
            lease.fence,
            first,
            &format!("the same finish again after {key}"),
        )
        .await?;
        for (other, second) in endings() {
            let what = format!("the finish {other} after {key}");
            stands(&exam, &store, key, lease.fence, second, &what).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_wrong_fence_finishes_nothing(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let before = exam.win(&store, "before").await?;
    for situation in exam.every_state(&store, "k").await? {
        let record = must_read(&store, situation.id()).await?;
        for fence in [Fence::new(0), before.fence, fence_after(situation.lease.fence)] {
            let finished = store.finish(situation.id(), fence, done(b"stolen")).await?;
            let expected = Finished::Fenced {
                now: exam.now(),
                record: Some(Box::new(record.clone())),
            };
            ensure_eq!(
                finished,
                expected,
                "fence {fence} on a record that is {}",
                situation.name
            );
        }
        let after = must_read(&store, situation.id()).await?;
        ensure_eq!(
            after,
            record,
            "a fenced finish changes nothing: the record that is {}",
            situation.name
        );
    }
    let finished = store.finish(id("nothing"), before.fence, done(b"stolen")).await?;
    let expected = Finished::Fenced {
        now: exam.now(),
        record: None,
    };
    ensure_eq!(finished, expected, "a finish of what was never asked for");
    ensure_eq!(read(&store, id("nothing")).await?, None, "and it makes no record");
    Ok(())
}

pub(super) async fn a_holder_past_its_deadline_can_still_finish(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (key, claim) in [("hold", exam.ask("hold")), ("retry", exam.ask_retried("retry"))] {
        let lease = won(store.claim(claim).await?)?;
        exam.time.pass(MAX_RUN * 2);
        applied(store.finish(id(key), lease.fence, done(b"late")).await?)?;
        let state = must_read(&store, id(key)).await?.state;
        ensure_eq!(state, done(b"late").state(exam.now()), "the state in {key} mode");
    }
    Ok(())
}

pub(super) async fn a_renewal_extends_up_to_max_run(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let start = exam.now();
    let lease = exam.win(&store, "k").await?;
    let renew = async |lease_for: Duration| {
        store
            .renew(id("k"), lease.fence, lease_for)
            .await
            .map_err(Failure::from)
    };
    ensure_eq!(
        renew(TICK).await?,
        Renewed::Until(lease.deadline),
        "a short renewal does not shorten"
    );
    exam.time.pass(LEASE - TICK);
    let until = exam.now().after(LEASE);
    ensure_eq!(renew(LEASE).await?, Renewed::Until(until), "a renewal");
    exam.time.pass(LEASE - TICK);
    let told = refused(other.claim(exam.ask("k")).await?)?;
    ensure_eq!(
        told,
        Refusal::InProgress {
            since: start,
            deadline: until
        },
        "a duplicate after the renewal"
    );
    exam.time.pass(TICK * 2);
    let until = exam.now().after(LEASE);
    ensure_eq!(
        renew(LEASE).await?,
        Renewed::Until(until),
        "a renewal after the deadline that nobody noticed"
    );
    let end = start.after(MAX_RUN);
    exam.time.pass(LEASE - TICK);
    ensure_eq!(renew(LEASE).await?, Renewed::Until(end), "a renewal near max_run");
    exam.time.pass_until(end);
    exam.time.pass(TICK);
    ensure_eq!(renew(LEASE).await?, Renewed::Over, "a renewal after max_run");
    let told = refused(other.claim(exam.ask("k")).await?)?;
    let expected = Refusal::Unknown {
        since: end,
        cause: Cause::Lapsed,
        answer: None,
    };
    ensure_eq!(told, expected, "a duplicate after max_run");
    ensure_eq!(renew(LEASE).await?, Renewed::Fenced, "a renewal of what became unknown");
    Ok(())
}

pub(super) async fn only_the_holder_renews(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for situation in exam.every_state(&store, "k").await? {
        let record = must_read(&store, situation.id()).await?;
        let mut fences = vec![Fence::new(0), fence_after(situation.lease.fence)];
        if !matches!(record.state, State::Running { .. }) {
            fences.push(situation.lease.fence);
        }
        for fence in fences {
            let renewed = store.renew(situation.id(), fence, LEASE).await?;
            ensure_eq!(
                renewed,
                Renewed::Fenced,
                "fence {fence} on a record that is {}",
                situation.name
            );
        }
        let after = must_read(&store, situation.id()).await?;
        ensure_eq!(
            after,
            record,
            "a fenced renewal changes nothing: the record that is {}",
            situation.name
        );
    }
    let renewed = store.renew(id("nothing"), Fence::new(1), LEASE).await?;
    ensure_eq!(renewed, Renewed::Fenced, "a renewal of what was never asked for");
    Ok(())
}
