//! What is undone, in which order, and when not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::policy::FailureClass::*;
use hapax_core::*;

use super::interleaving::Stepped;
use super::world::*;
use crate::engine::Reply;
use crate::steps::{Came, StepError};

#[tokio::test(start_paused = true)]
async fn what_was_done_is_undone_in_reverse_and_cannot_be_redriven() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("email", [Final]);
    let saga = other.checkout(&engine).await;
    let reply = run(&saga).await;
    let Reply::Ran(Came::Dead { reason, last_error, .. }) = reply else {
        panic!("{reply:?}");
    };
    let why = last_error.unwrap().to_string();
    assert_eq!(
        (reason, &*why),
        (
            DeadReason::Refused,
            "step email is dead (refused): email is planted to fail"
        )
    );
    let _runner = Running::start(&engine, &saga);
    becomes(&engine, "checkout/reserve/undo", StateName::Done).await;
    assert_eq!(
        other.heard(),
        ["reserve", "charge", "email", "undo charge", "undo reserve"]
    );
    for step in ["reserve", "charge"] {
        assert_eq!(
            other.keys(step),
            other.keys(&format!("undo {step}")),
            "its key finds it"
        );
    }
    dead(&record(&engine, "checkout").await, DeadReason::Undone);
    let redriven = amend(&engine, "checkout", Amend::Redrive).await;
    assert_eq!(redriven, Amended::Refused(StateName::Dead));
    let looked = becomes(&engine, "checkout/undo", StateName::Done).await;
    assert!(
        matches!(&looked.state, State::Done(Outcome::Answer(answer)) if answer.body == "to be undone: charge, reserve")
    );
}

#[tokio::test(start_paused = true)]
async fn a_compensation_is_given_what_is_known() {
    let (engine, other) = (engine(memory()), Other::default());
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let undo = move |undo: crate::steps::Undo| {
        tell.send((
            undo.step.clone(),
            undo.input.clone(),
            undo.answer.clone(),
            undo.key.clone(),
        ))
        .unwrap();
        async { Ok(Bytes::new()) }
    };
    let steps = [
        crate::steps::Step::at_least_once("reserve").undone_by(undo.clone()),
        crate::steps::Step::at_least_once("charge").undone_by(undo),
    ];
    other.fails("charge", [Final]);
    let one = other.clone();
    let handler = move |steps: crate::steps::Steps, _| {
        let other = one.clone();
        async move {
            other.step(&steps, "reserve").await?;
            other.step(&steps, "charge").await
        }
    };
    let options = crate::steps::SagaOptions::default();
    let saga = crate::steps::Saga::open(&engine, "checkout", options, steps, handler);
    let saga = saga.await.unwrap();
    run(&saga).await;
    let _runner = Running::start(&engine, &saga);
    let id = operation("checkout").id();
    // Refused is no proof that it did nothing.
    let first = told.recv().await.unwrap();
    assert_eq!(
        first,
        ("charge".into(), "order".into(), None, derive_key(&id, "charge/undo"))
    );
    let second = told.recv().await.unwrap();
    let answer = Some("reserve is done".into());
    assert_eq!(
        second,
        (
            "reserve".into(),
            "order".into(),
            answer,
            derive_key(&id, "reserve/undo")
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_fails_is_a_dead_letter_that_keeps_those_behind_it_waiting() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("email", [Final]);
    other.fails("undo charge", [Ambiguous, Final]);
    let saga = other.checkout(&engine).await;
    run(&saga).await;
    let _runner = Running::start(&engine, &saga);
    becomes(&engine, "checkout/charge/undo", StateName::Dead).await;
    tokio::time::sleep(6 * 3600 * SECOND).await;
    let waits = record(&engine, "checkout/reserve/undo").await;
    assert!(matches!(waits.state, State::Waiting { .. }), "{waits:?}");
    amend(&engine, "checkout/charge/undo", Amend::Redrive).await;
    becomes(&engine, "checkout/reserve/undo", StateName::Done).await;
    let undone: Vec<_> = other.heard().into_iter().skip(3).collect();
    assert_eq!(undone, ["undo charge", "undo charge", "undo charge", "undo reserve"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_closed_is_not_undone() {
    for amendment in [done("it happened after all"), Amend::Discard] {
        let (engine, other) = (engine(memory()), Other::default());
        other.fails("email", [Final]);
        let saga = other.checkout(&engine).await;
        run(&saga).await;
        amend(&engine, "checkout", amendment).await;
        let _runner = Running::start(&engine, &saga);
        becomes(&engine, "checkout/undo", StateName::Done).await;
        tokio::time::sleep(3600 * SECOND).await;
        assert_eq!(other.heard(), ["reserve", "charge", "email"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_had_no_effect_for_certain_is_not_undone() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("charge", [Unsent]);
    let saga = other.checkout(&engine).await;
    let reply = run(&saga).await;
    assert!(matches!(reply, Reply::Ran(Came::Waits { .. })), "{reply:?}");
    // Its operation dies while the step waits for its next try.
    let (now, waiting) = engine.store().read(operation("checkout").id()).await.unwrap();
    let State::Waiting { due } = waiting.unwrap().state else {
        panic!("it does not wait");
    };
    tokio::time::sleep(due.since(now)).await;
    kill(&engine).await;
    let _runner = Running::start(&engine, &saga);
    becomes(&engine, "checkout/reserve/undo", StateName::Done).await;
    assert_eq!(other.heard(), ["reserve", "charge", "undo reserve"]);
    assert!(find(&engine, "checkout/charge/undo").await.is_none());
}

/// Ends the operation as dead, as another process would.
async fn kill(engine: &crate::engine::Engine) {
    let record = record(engine, "checkout").await;
    let claim = Claim {
        operation: record.operation.clone(),
        fingerprint: record.fingerprint,
        attempt: AttemptId::from_bytes([9; 16]),
        starter: store::Starter::System,
        lease: SECOND,
        max_run: SECOND,
        after_failure: AfterFailure::Retry,
        attended: true,
        retention: record.retention,
        input: None,
        group: None,
    };
    let claimed = engine.store().claim(claim).await.unwrap();
    let Ruling::Won(lease) = claimed.ruling else {
        panic!("{claimed:?}");
    };
    let finish = Finish::Dead {
        reason: DeadReason::Refused,
        answer: None,
        last_error: None,
    };
    engine
        .store()
        .finish(record.operation.id(), lease.fence, finish)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_undo_of_a_step_waits_until_it_is_settled() {
    let (engine, other) = (engine(memory()), Other::default());
    let one = other.clone();
    // Side by side: one is never heard of again, the other ends the operation.
    let steps = [
        crate::steps::Step::at_least_once("reserve").undone_by(other.undo()),
        crate::steps::Step::at_most_once("charge").undone_by(other.undo()),
        crate::steps::Step::at_most_once("email"),
    ];
    let handler = move |steps: crate::steps::Steps, _| {
        let other = one.clone();
        async move {
            other.step(&steps, "reserve").await?;
            let (charged, sent) = tokio::join!(other.step(&steps, "charge"), other.step(&steps, "email"));
            sent.and(charged)
        }
    };
    other.fails("charge", [Ambiguous]);
    other.fails("email", [Final]);
    let options = crate::steps::SagaOptions::default();
    let saga = crate::steps::Saga::open(&engine, "checkout", options, steps, handler);
    let saga = saga.await.unwrap();
    let reply = run(&saga).await;
    assert!(matches!(reply, Reply::Ran(Came::Dead { .. })), "{reply:?}");
    let _runner = Running::start(&engine, &saga);
    tokio::time::sleep(24 * 3600 * SECOND).await;
    let waits = record(&engine, "checkout/charge/undo").await;
    assert!(matches!(waits.state, State::Waiting { .. }), "{waits:?}");
    assert_eq!(waits.tries, 0);
    let why = waits.last_error.unwrap().to_string();
    assert!(
        why.starts_with("the outcome of step charge is unknown: settle it"),
        "{why}"
    );
    assert_eq!(other.heard().len(), 3);
    amend(&engine, "checkout/charge", done("it was charged")).await;
    becomes(&engine, "checkout/reserve/undo", StateName::Done).await;
    assert_eq!(other.heard()[3..], ["undo charge", "undo reserve"]);
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_holder_was_lost_is_taken_over_before_it_is_undone() {
    let (engine, other) = (engine(memory()), Other::default());
    // Its process dies in the step, and the operation dies meanwhile.
    let link = Stepped::held(Arc::clone(engine.store()));
    link.open();
    let lost = super::world::engine(link.clone());
    let one = other.clone();
    let handler = move |steps: crate::steps::Steps, _| {
        let other = one.clone();
        async move {
            let charge = steps.step("charge", move |call: crate::steps::Call| async move {
                other.call("charge", &call.key)?;
                std::future::pending::<Result<Bytes, crate::runner::Failure>>().await
            });
            charge.await
        }
    };
    let saga = other.saga(&lost, handler).await;
    let running = tokio::spawn({
        let saga = saga.clone();
        async move { run(&saga).await }
    });
    becomes(&engine, "checkout/charge", StateName::Running).await;
    link.cut();
    running.abort();
    let started = record(&engine, "checkout").await;
    let finish = Finish::Dead {
        reason: DeadReason::Refused,
        answer: None,
        last_error: None,
    };
    engine
        .store()
        .finish(started.operation.id(), started.fence, finish)
        .await
        .unwrap();
    let saga = other.checkout(&engine).await;
    let _runner = Running::start(&engine, &saga);
    // What it has sent may still arrive for a while after its lease.
    tokio::time::sleep(50 * SECOND).await;
    assert_eq!(other.heard(), ["charge"]);
    becomes(&engine, "checkout/charge/undo", StateName::Done).await;
    dead(&record(&engine, "checkout/charge").await, DeadReason::Undone);
    assert_eq!(other.heard(), ["charge", "undo charge"]);
}

#[tokio::test(start_paused = true)]
async fn a_handlers_own_failure_is_judged_by_the_operations_policy() {
    let (engine, other) = (engine(memory()), Other::default());
    let one = other.clone();
    let saga = other.saga(&engine, move |steps, _| {
        let other = one.clone();
        async move {
            other.step(&steps, "reserve").await?;
            Err(StepError::from(crate::runner::Failure::new(Unsent, "not now")))
        }
    });
    let saga = saga.await;
    let reply = run(&saga).await;
    let Reply::Ran(Came::Waits { after, .. }) = reply else {
        panic!("{reply:?}");
    };
    assert!(after <= 60 * SECOND && after > Duration::ZERO, "{after:?}");
    let _runner = Running::start(&engine, &saga);
    tokio::time::sleep(2 * 3600 * SECOND).await;
    becomes(&engine, "checkout/reserve/undo", StateName::Done).await;
    assert_eq!(other.heard(), ["reserve", "undo reserve"]);
}
