//! Cases: enqueue and take.

mod taking;

use std::time::Duration;

use hapax_core::record::{EnqueueVerdict, Record};
use hapax_core::{Enqueue, Enqueued, Fence, Fingerprint, Finish, Input, StateName, Store, Work};

use super::Failure;
use super::exam::*;
pub(super) use taking::*;

pub(super) async fn an_enqueued_operation_waits_with_its_input(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let before = exam.win(&store, "before").await?;
    for (key, delay) in [("now", Duration::ZERO), ("later", LEASE)] {
        let enqueue = Enqueue { delay, ..exam.lay(key) };
        let expected = Enqueued {
            now: exam.now(),
            refusal: None,
        };
        ensure_eq!(store.enqueue(enqueue.clone()).await?, expected, "the enqueue");
        let record = must_read(&other, id(key)).await?;
        ensure!(
            record.fence > before.fence,
            "fence {} after {}",
            record.fence,
            before.fence
        );
        let EnqueueVerdict::Write(expected) = Record::enqueue(None, &enqueue, record.fence, exam.now()) else {
            return Err(Failure("a new operation is written".into()));
        };
        ensure_eq!(record, *expected, "the record");
    }
    let after = exam.win(&store, "after").await?;
    let last = must_read(&store, id("later")).await?.fence;
    ensure!(after.fence > last, "fence {} after {last}", after.fence);
    Ok(())
}

pub(super) async fn an_enqueue_is_answered_the_same_again(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let enqueue = Enqueue {
        delay: LEASE,
        ..exam.lay("k")
    };
    accepted(store.enqueue(enqueue.clone()).await?)?;
    let record = must_read(&store, id("k")).await?;
    for handle in [&store, &other, &other] {
        exam.time.pass(LEASE - TICK);
        accepted(handle.enqueue(enqueue.clone()).await?)?;
        ensure_eq!(
            must_read(&store, id("k")).await?,
            record,
            "a repetition writes nothing: the record"
        );
    }
    Ok(())
}

/// Enqueues, and compares the answer and the record with what the core decides.
async fn lay_as_decided(exam: &Exam, store: &dyn Store, enqueue: Enqueue, what: &str) -> Checked {
    let id = enqueue.operation.id();
    let before = store.read(id).await?.1;
    let fence_before = before.as_ref().map_or(Fence::new(0), |record| record.fence);
    let verdict = Record::enqueue(before.as_ref(), &enqueue, Fence::new(0), exam.now());
    let enqueued = store.enqueue(enqueue).await?;
    let after = store.read(id).await?.1;
    ensure_eq!(enqueued.now, exam.now(), "the time of {what}");
    let (refusal, expected) = match verdict {
        EnqueueVerdict::Write(record) => {
            let fence = after.as_ref().map_or(fence_before, |record| record.fence);
            ensure!(
                fence > fence_before,
                "{what} needs a new fence, not {fence} after {fence_before}"
            );
            (None, Some(Record { fence, ..*record }))
        }
        EnqueueVerdict::Already => (None, before),
        EnqueueVerdict::Lapse(record) => (Some(record.refusal(exam.now())), Some(*record)),
        EnqueueVerdict::Refuse(refusal) => (Some(refusal), before),
    };
    ensure_eq!(enqueued.refusal, refusal, "the answer to {what}");
    ensure_eq!(after, expected, "the record after {what}");
    Ok(())
}

pub(super) async fn an_enqueue_in_every_state_does_as_the_core_says(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (prefix, delay) in [("now", Duration::ZERO), ("later", LEASE * 20)] {
        for situation in exam.every_state(&store, prefix).await? {
            let name = situation.name;
            let enqueue = Enqueue {
                operation: situation.claim.operation.clone(),
                delay,
                ..exam.lay("k")
            };
            for (recipe, payload) in [(0, 2), (1, 1), (1, 2)] {
                let wrong = Enqueue {
                    fingerprint: Fingerprint::new(exam.recipe(recipe), [payload; 32]),
                    ..enqueue.clone()
                };
                lay_as_decided(&exam, &*store, wrong, &format!("another payload on what is {name}")).await?;
            }
            lay_as_decided(
                &exam,
                &*store,
                enqueue.clone(),
                &format!("an enqueue of what is {name}"),
            )
            .await?;
            lay_as_decided(&exam, &*store, enqueue, &format!("the same again of what was {name}")).await?;
            let second = Enqueue {
                operation: situation.claim.operation,
                input: Input("other".into()),
                ..exam.lay("k")
            };
            lay_as_decided(&exam, &*store, second, &format!("a second enqueue of what was {name}")).await?;
        }
    }
    Ok(())
}

pub(super) async fn input_is_kept_until_it_is_done(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (key, finish) in endings() {
        accepted(store.enqueue(exam.lay(key)).await?)?;
        let lease = exam.win(&store, key).await?;
        let input = Some(exam.lay(key).input);
        ensure_eq!(
            must_read(&store, id(key)).await?.input,
            input,
            "the input while {key} runs"
        );
        applied(store.finish(id(key), lease.fence, finish.clone()).await?)?;
        let record = must_read(&store, id(key)).await?;
        let kept = record.state.name() != StateName::Done;
        ensure_eq!(record.input, input.filter(|_| kept), "the input after {key}");
        let last_error = finish.last_error().cloned();
        ensure_eq!(record.last_error, last_error, "what went wrong, after {key}");
    }
    Ok(())
}

pub(super) async fn a_release_without_effect_gives_the_systems_try_back(exam: Exam) -> Checked {
    let store = exam.open().await?;
    accepted(store.enqueue(exam.lay("k")).await?)?;
    let uncounted = Finish::Release {
        after: Duration::ZERO,
        counts: false,
        last_error: None,
    };
    // Whether the release counts, and the tries after it.
    for (finish, tries) in [
        (release(), 1),
        (uncounted.clone(), 1),
        (release(), 2),
        (uncounted.clone(), 2),
    ] {
        let taken = store.take(exam.take()).await?;
        let [(_, lease)] = to_run(&taken)[..] else {
            return Err(Failure(format!("it should be run, but: {taken:?}")));
        };
        applied(store.finish(id("k"), lease.fence, finish.clone()).await?)?;
        let record = must_read(&store, id("k")).await?;
        ensure_eq!(record.tries, tries, "tries after {finish:?}");
    }
    let lease = exam.win(&store, "k").await?;
    applied(store.finish(id("k"), lease.fence, uncounted).await?)?;
    let tries = must_read(&store, id("k")).await?.tries;
    ensure_eq!(tries, 2, "a caller's start was none to give back");
    Ok(())
}

/// Work to run only.
fn runs(work: &[Work]) -> usize {
    work.iter().filter(|work| matches!(work, Work::Run(..))).count()
}
