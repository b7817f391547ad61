//! Steps that are run, repeated, skipped and asked for wrongly.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hapax_core::policy::FailureClass::*;
use hapax_core::*;

use super::world::*;
use crate::engine::Reply;
use crate::resolver::{Found, ResolveError, Resolver};
use crate::steps::{Call, Came, Saga, SagaError, SagaOptions, Step, StepError, Steps};

#[tokio::test(start_paused = true)]
async fn each_step_runs_once_and_a_duplicate_is_told_the_answer() {
    let (engine, other) = (engine(memory()), Other::default());
    let saga = other.checkout(&engine).await;
    let reply = run(&saga).await;
    assert!(
        matches!(&reply, Reply::Ran(Came::Done(body)) if body == "charge is done"),
        "{reply:?}"
    );
    let _runner = Running::start(&engine, &saga);
    becomes(&engine, "checkout/undo", StateName::Done).await;
    let again = run(&saga).await;
    assert!(matches!(again, Reply::Refused(Refusal::Done { .. })), "{again:?}");
    assert_eq!(other.heard(), ["reserve", "charge", "email"]);
    for step in ["reserve", "charge", "email"] {
        let record = record(&engine, &format!("checkout/{step}")).await;
        assert_eq!(record.group, Some(operation("checkout").id()));
        assert_eq!(other.keys(step), [derive_key(&operation("checkout").id(), step)]);
    }
    assert!(find(&engine, "checkout/charge/undo").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_tried_again_keeps_its_key_and_those_before_it_are_skipped() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("charge", [Unsent, Ambiguous]);
    let saga = other.checkout(&engine).await;
    let _runner = Running::start(&engine, &saga);
    saga.start(scope(), key(), "order").await.unwrap();
    let record = becomes(&engine, "checkout", StateName::Done).await;
    assert_eq!(record.tries, 1, "waiting for a step is no try");
    assert_eq!(other.heard(), ["reserve", "charge", "charge", "charge", "email"]);
    let keys = other.keys("charge");
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(
        super::world::record(&engine, "checkout/charge").await.tries,
        2,
        "unsent is none"
    );
}

#[tokio::test(start_paused = true)]
async fn an_operation_waits_for_an_unknown_step_until_a_person_settles_it() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("email", [Ambiguous]);
    let saga = other.checkout(&engine).await;
    let reply = run(&saga).await;
    assert!(matches!(reply, Reply::Ran(Came::Waits { .. })), "{reply:?}");
    let _runner = Running::start(&engine, &saga);
    tokio::time::sleep(6 * 3600 * SECOND).await;
    let waiting = becomes(&engine, "checkout", StateName::Waiting).await;
    let why = waiting.last_error.unwrap();
    assert_eq!(
        (waiting.tries, why.as_str()),
        (0, "the outcome of step email is unknown")
    );
    amend(&engine, "checkout/email", done("sent")).await;
    becomes(&engine, "checkout", StateName::Done).await;
    assert_eq!(other.heard(), ["reserve", "charge", "email"]);
}

/// It is there.
struct Seen;

impl Resolver for Seen {
    fn name(&self) -> &str {
        "post"
    }

    fn resolve<'a>(&'a self, _: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
        let found = Found::Done {
            outcome: crate::steps::saga::outcome("seen".into()),
            saw: "it".to_owned(),
        };
        Box::pin(std::future::ready(Ok(found)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolver_settles_an_unknown_step() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("email", [Ambiguous]);
    let step = Step::at_most_once("email").resolver(Arc::new(Seen));
    let one = other.clone();
    let handler = move |steps: Steps, _| {
        let other = one.clone();
        async move { other.step(&steps, "email").await }
    };
    let saga = Saga::open(&engine, "checkout", SagaOptions::default(), [step], handler);
    let saga = saga.await.unwrap();
    let _runner = Running::start(&engine, &saga);
    saga.start(scope(), key(), "order").await.unwrap();
    let record = becomes(&engine, "checkout", StateName::Done).await;
    assert!(matches!(&record.state, State::Done(Outcome::Answer(answer)) if answer.body == "seen"));
    assert_eq!(other.heard(), ["email"]);
    assert!(
        find(&engine, "checkout/undo").await.is_none(),
        "there is nothing to undo"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_step_may_be_gone_round() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("charge", [Final]);
    let one = other.clone();
    let saga = other.saga(&engine, move |steps, _| {
        let other = one.clone();
        async move {
            match other.step(&steps, "charge").await {
                Err(StepError::Dead {
                    step,
                    reason,
                    last_error,
                    ..
                }) => {
                    assert_eq!((&*step, reason), ("charge", DeadReason::Refused));
                    Ok(last_error.unwrap().to_string().into())
                }
                other => other,
            }
        }
    });
    let reply = run(&saga.await).await;
    assert!(
        matches!(&reply, Reply::Ran(Came::Done(body)) if body == "charge is planted to fail"),
        "{reply:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn steps_run_side_by_side_and_are_not_left_alone() {
    let (engine, other) = (engine(memory()), Other::default());
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let landed = Arc::new(Mutex::new(Vec::new()));
    let (one, seen) = (barrier.clone(), landed.clone());
    let saga = other.saga(&engine, move |steps, _| {
        let (barrier, landed) = (one.clone(), seen.clone());
        async move {
            let slow = |name: &'static str, pause| {
                let (barrier, landed) = (barrier.clone(), landed.clone());
                steps.step(name, move |_: Call| async move {
                    barrier.wait().await;
                    tokio::time::sleep(pause).await;
                    landed.lock().unwrap().push(name);
                    Ok(Bytes::new())
                })
            };
            tokio::select! {
                one = slow("reserve", SECOND) => one,
                other = slow("charge", 5 * SECOND) => other,
            }
        }
    });
    let reply = run(&saga.await).await;
    assert!(matches!(reply, Reply::Ran(Came::Done(_))), "{reply:?}");
    assert_eq!(*landed.lock().unwrap(), ["reserve", "charge"]);
}

/// Runs a handler, and gives what it died of.
async fn dies_of<F>(
    handler: impl Fn(Other, Steps) -> F + Send + Sync + 'static,
) -> (crate::engine::Engine, Other, String)
where
    F: Future<Output = Result<Bytes, StepError>> + Send + 'static,
{
    let (engine, other) = (engine(memory()), Other::default());
    let one = other.clone();
    let saga = other.saga(&engine, move |steps, _| handler(one.clone(), steps)).await;
    let reply = run(&saga).await;
    let Reply::Ran(Came::Dead { last_error, .. }) = reply else {
        panic!("{reply:?}");
    };
    (engine, other, last_error.unwrap().to_string())
}

#[tokio::test(start_paused = true)]
async fn a_step_name_used_twice_ends_the_operation_whatever_its_handler_says() {
    let (_, other, error) = dies_of(|other, steps| async move {
        other.step(&steps, "email").await?;
        let again = other.step(&steps, "email").await;
        assert!(matches!(again, Err(StepError::Halted(_))), "{again:?}");
        // Nothing runs any more.
        let next = other.step(&steps, "charge").await;
        assert!(matches!(next, Err(StepError::Halted(_))), "{next:?}");
        Ok(Bytes::new())
    })
    .await;
    assert!(
        error.starts_with("step email was asked for twice in one run"),
        "{error}"
    );
    assert_eq!(other.heard(), ["email"]);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_not_the_sagas_is_named_and_nothing_is_written() {
    let (engine, other, error) =
        dies_of(|_, steps| async move { steps.step("chrage", |_| async { Ok(Bytes::new()) }).await }).await;
    assert!(
        error.contains("\"chrage\" is no step of checkout, which has charge, email, reserve"),
        "{error}"
    );
    assert_eq!(other.heard(), [""; 0]);
    let page = engine.store().list(Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.records.len(), 1, "{page:?}");
}

#[tokio::test(start_paused = true)]
async fn a_step_after_the_end_does_not_run() {
    let (engine, other) = (engine(memory()), Other::default());
    let kept = Arc::new(Mutex::new(None));
    let keeps = kept.clone();
    let saga = other.saga(&engine, move |steps, _| {
        *keeps.lock().unwrap() = Some(steps);
        async { Ok(Bytes::new()) }
    });
    run(&saga.await).await;
    let steps = kept.lock().unwrap().take().unwrap();
    let error = other.step(&steps, "charge").await.unwrap_err().to_string();
    assert!(error.contains("was asked for after the handler had ended"), "{error}");
    assert_eq!(other.heard(), [""; 0]);
    assert!(find(&engine, "checkout/charge").await.is_none());
    assert!(find(&engine, "checkout/undo").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_redrive_of_the_operation_redrives_its_dead_step() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("email", [Final]);
    let one = other.clone();
    let saga = other.saga(&engine, move |steps, _| {
        let other = one.clone();
        async move { other.step(&steps, "email").await }
    });
    let saga = saga.await;
    run(&saga).await;
    dead(&record(&engine, "checkout").await, DeadReason::Refused);
    tokio::time::sleep(SECOND).await;
    amend(&engine, "checkout", Amend::Redrive).await;
    let _runner = Running::start(&engine, &saga);
    becomes(&engine, "checkout", StateName::Done).await;
    assert_eq!(other.heard(), ["email", "email"]);
    let (audit, _) = engine.store().audit(None, None, 10).await.unwrap();
    let said: Vec<_> = audit
        .iter()
        .map(|entry| (&*entry.audit.actor, &*entry.action))
        .collect();
    assert_eq!(said, [("ann", "redrive"), ("steps", "redrive")]);
}

#[tokio::test(start_paused = true)]
async fn steps_of_an_earlier_operation_are_not_believed() {
    let (engine, other) = (engine(memory()), Other::default());
    let saga = other.checkout(&engine).await;
    run(&saga).await;
    tokio::time::sleep(SECOND).await;
    amend(&engine, "checkout", Amend::Forget { even_unknown: false }).await;
    let reply = run(&saga).await;
    let Reply::Ran(Came::Dead { last_error, .. }) = reply else {
        panic!("{reply:?}");
    };
    let error = last_error.unwrap().to_string();
    assert!(error.contains("forget it and the steps, too"), "{error}");
    assert_eq!(other.heard(), ["reserve", "charge", "email"]);
}

#[tokio::test(start_paused = true)]
async fn an_operation_ends_before_what_it_did_is_forgotten() {
    let (engine, other) = (engine(memory()), Other::default());
    other.fails("email", [Ambiguous]);
    let saga = other.checkout(&engine).await;
    run(&saga).await;
    let _runner = Running::start(&engine, &saga);
    tokio::time::sleep(13 * 3600 * SECOND).await;
    amend(
        &engine,
        "checkout/email",
        Amend::Resolve {
            resolution: Resolution::NotDone,
            settle: Duration::ZERO,
        },
    )
    .await;
    becomes(&engine, "checkout", StateName::Dead).await;
    becomes(&engine, "checkout/reserve/undo", StateName::Done).await;
    assert_eq!(
        other.heard(),
        ["reserve", "charge", "email", "undo charge", "undo reserve"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused_at_the_start() {
    let engine = engine(memory());
    let open = async |options: SagaOptions, steps: Vec<Step>| {
        let handler = |_: Steps, _: Bytes| async { Ok(Bytes::new()) };
        Saga::open(&engine, "checkout", options, steps, handler)
            .await
            .unwrap_err()
    };
    let twice = vec![Step::at_most_once("a"), Step::at_least_once("a")];
    assert!(matches!(open(SagaOptions::default(), twice).await, SagaError::Twice(_)));
    let mut forgetful = SagaOptions::default();
    forgetful.retention.remember_for = 8 * 3600 * SECOND;
    let error = open(forgetful, Vec::new()).await;
    assert!(matches!(error, SagaError::Forgets { .. }), "{error}");
    assert!(error.to_string().contains("remembered for 28800s"), "{error}");
}
