//! Cases: what a claim gets.

use std::time::Duration;

use hapax_core::{Claim, DeadReason, Fence, Fingerprint, Record, Refusal, Starter, State};

use super::exam::*;

pub(super) async fn a_fresh_claim_wins(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let claim = exam.ask("k");
    let claimed = store.claim(claim.clone()).await?;
    ensure_eq!(claimed.now, exam.now(), "the claim's time");
    let lease = won(claimed)?;
    ensure!(
        lease.fence > Fence::new(0),
        "a fence is a positive number, not {}",
        lease.fence
    );
    let (record, expected) = Record::started(None, &claim, lease.fence, exam.now());
    ensure_eq!(lease, expected, "the lease");
    let (now, kept) = store.read(claim.operation.id()).await?;
    ensure_eq!(now, exam.now(), "the read's time");
    ensure_eq!(kept, Some(record), "the record");
    ensure_eq!(read(&store, id("other")).await?, None, "a key never asked for");
    Ok(())
}

pub(super) async fn a_repeated_claim_wins_again(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let claim = exam.ask("k");
    let lease = won(store.claim(claim.clone()).await?)?;
    let record = must_read(&store, id("k")).await?;
    for (step, store) in [(TICK, &store), (LEASE / 2, &other), (LEASE / 2 - TICK * 2, &store)] {
        exam.time.pass(step);
        let again = won(store.claim(claim.clone()).await?)?;
        ensure_eq!(
            again,
            lease,
            "the same attempt again, {:?} after the start",
            exam.now().since(record.since)
        );
    }
    ensure_eq!(
        must_read(&store, id("k")).await?,
        record,
        "a repetition writes nothing: the record"
    );
    Ok(())
}

pub(super) async fn a_duplicate_is_told_in_progress(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let start = exam.now();
    let lease = exam.win(&store, "k").await?;
    for (step, store) in [(Duration::ZERO, &store), (TICK, &other), (LEASE - TICK * 2, &other)] {
        exam.time.pass(step);
        let expected = Refusal::InProgress {
            since: start,
            deadline: lease.deadline,
        };
        ensure_eq!(
            refused(store.claim(exam.ask("k")).await?)?,
            expected,
            "a duplicate while it runs"
        );
    }
    Ok(())
}

pub(super) async fn a_mismatch_is_told_first_in_every_state(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for situation in exam.every_state(&store, "k").await? {
        let before = read(&store, situation.id()).await?;
        for attempt in [situation.claim.attempt, new_attempt()] {
            let claim = Claim {
                fingerprint: exam.payload(2),
                attempt,
                ..situation.claim.clone()
            };
            let refusal = refused(store.claim(claim).await?)?;
            ensure_eq!(
                refusal,
                Refusal::Mismatch,
                "another payload on a record that is {}",
                situation.name
            );
        }
        let after = read(&store, situation.id()).await?;
        ensure_eq!(
            after,
            before,
            "a mismatch changes nothing: the record that is {}",
            situation.name
        );
    }
    Ok(())
}

pub(super) async fn another_recipe_is_named_in_every_state(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for situation in exam.every_state(&store, "k").await? {
        let before = read(&store, situation.id()).await?;
        for payload in [1, 2] {
            let fingerprint = Fingerprint::new(exam.recipe(1), [payload; 32]);
            let claim = Claim {
                fingerprint,
                ..situation.duplicate()
            };
            let refusal = refused(store.claim(claim).await?)?;
            let expected = Refusal::OtherRecipe(exam.recipe(0));
            ensure_eq!(
                refusal,
                expected,
                "another recipe on a record that is {}",
                situation.name
            );
        }
        let after = read(&store, situation.id()).await?;
        ensure_eq!(
            after,
            before,
            "another recipe changes nothing: the record that is {}",
            situation.name
        );
    }
    Ok(())
}

pub(super) async fn a_release_at_once_runs_again(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let created = exam.now();
    let first = exam.run(&store, "k", release()).await?;
    exam.time.pass(TICK);
    let claim = exam.ask("k");
    let second = won(store.claim(claim.clone()).await?)?;
    ensure!(
        second.fence > first.fence,
        "fence {} after {}",
        second.fence,
        first.fence
    );
    let record = must_read(&store, id("k")).await?;
    ensure_eq!((record.created, record.since), (created, exam.now()), "created, since");
    ensure_eq!(
        (record.attempt, record.fence),
        (claim.attempt, second.fence),
        "the holder"
    );
    Ok(())
}

pub(super) async fn a_release_for_later_waits_until_due(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let due = exam.now().after(LEASE);
    exam.run(&store, "k", release_for(LEASE)).await?;
    for step in [Duration::ZERO, LEASE - TICK] {
        exam.time.pass(step);
        let refusal = refused(store.claim(exam.ask("k")).await?)?;
        ensure_eq!(refusal, Refusal::Later { due }, "an arrival before it is due");
    }
    exam.time.pass(TICK);
    exam.win(&store, "k").await?;
    Ok(())
}

pub(super) async fn a_finished_attempt_does_not_run_again(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let claim = exam.ask("k");
    let lease = won(store.claim(claim.clone()).await?)?;
    applied(store.finish(id("k"), lease.fence, release_for(LEASE)).await?)?;
    for step in [Duration::ZERO, LEASE, LEASE] {
        exam.time.pass(step);
        let refusal = refused(store.claim(claim.clone()).await?)?;
        ensure_eq!(
            refusal,
            Refusal::AttemptOver,
            "a late repetition of a claim that ran and ended"
        );
    }
    exam.win(&store, "k").await?;
    Ok(())
}

pub(super) async fn a_lapse_in_hold_mode_is_unknown(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let claim = exam.ask("k");
    let lease = won(store.claim(claim.clone()).await?)?;
    exam.time.pass(LEASE - TICK);
    ensure_eq!(
        won(store.claim(claim.clone()).await?)?,
        lease,
        "the holder one millisecond before its deadline"
    );
    exam.time.pass(TICK);
    let cause = hapax_core::Cause::Lapsed;
    let expected = Refusal::Unknown {
        since: lease.deadline,
        cause,
        answer: None,
    };
    for (claim, store) in [(exam.ask("k"), &store), (exam.ask("k"), &other), (claim, &store)] {
        ensure_eq!(
            refused(store.claim(claim).await?)?,
            expected,
            "an arrival after the deadline"
        );
        exam.time.pass(LEASE);
    }
    let record = must_read(&store, id("k")).await?;
    ensure_eq!(record.state, State::Unknown { cause, answer: None }, "the record");
    ensure_eq!(
        (record.since, record.fence),
        (lease.deadline, lease.fence),
        "since, fence"
    );
    Ok(())
}

pub(super) async fn a_lapse_in_retry_mode_is_taken_over(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let claim = exam.ask_retried("k");
    let first = won(store.claim(claim.clone()).await?)?;
    exam.time.pass(LEASE - TICK);
    refused(other.claim(exam.ask_retried("k")).await?)?;
    exam.time.pass(TICK);
    let second = won(other.claim(exam.ask_retried("k")).await?)?;
    ensure!(
        second.fence > first.fence,
        "fence {} after {}",
        second.fence,
        first.fence
    );
    let renewed = store.renew(id("k"), first.fence, LEASE).await?;
    ensure_eq!(
        renewed,
        hapax_core::Renewed::Fenced,
        "a renewal by the holder that was taken over"
    );
    let record = must_read(&store, id("k")).await?;
    let finished = store.finish(id("k"), first.fence, done(b"stale")).await?;
    let expected = hapax_core::Finished::Fenced {
        now: exam.now(),
        record: Some(Box::new(record)),
    };
    ensure_eq!(finished, expected, "a finish by the holder that was taken over");
    // The first attempt's own repetition takes over just as anybody else's would.
    exam.time.pass(LEASE);
    let third = won(store.claim(claim).await?)?;
    ensure!(
        third.fence > second.fence,
        "fence {} after {}",
        third.fence,
        second.fence
    );
    Ok(())
}

pub(super) async fn only_the_systems_starts_are_tries(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (starter, tries) in [
        (Starter::Caller, 0),
        (Starter::System, 1),
        (Starter::System, 2),
        (Starter::Caller, 2),
    ] {
        let lease = won(store
            .claim(Claim {
                starter,
                ..exam.ask("k")
            })
            .await?)?;
        ensure_eq!(lease.tries, tries, "tries after a start by {starter:?}");
        applied(store.finish(id("k"), lease.fence, release()).await?)?;
        ensure_eq!(must_read(&store, id("k")).await?.tries, tries, "tries of the record");
    }
    Ok(())
}

pub(super) async fn a_lease_ends_with_max_run(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let claim = Claim {
        lease: MAX_RUN * 2,
        ..exam.ask("k")
    };
    let lease = won(store.claim(claim).await?)?;
    let end = exam.now().after(MAX_RUN);
    ensure_eq!(
        (lease.deadline, lease.run_until),
        (end, end),
        "a lease longer than max_run: its ends"
    );
    Ok(())
}

pub(super) async fn scope_name_and_key_each_make_another_operation(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let same_words = [
        ("a", "b", "c"),
        ("x", "b", "c"),
        ("a", "x", "c"),
        ("a", "b", "x"),
        ("ab", "c", "c"),
        ("a", "bc", "c"),
    ];
    let mut held = Vec::new();
    for (number, (scope, name, key)) in same_words.into_iter().enumerate() {
        let operation = operation(scope, name, key).map_err(|error| super::Failure(error.to_string()))?;
        let claim = Claim {
            fingerprint: exam.payload(number as u8),
            ..exam.ask_for(operation.clone())
        };
        let lease = won(store.claim(claim).await?)?;
        held.push((operation, lease, number as u8));
    }
    for (operation, lease, number) in &held {
        applied(store.finish(operation.id(), lease.fence, done(&[*number])).await?)?;
    }
    for (operation, lease, number) in &held {
        let record = must_read(&store, operation.id()).await?;
        ensure_eq!(&record.operation, operation, "the record's words");
        ensure_eq!(record.fence, lease.fence, "the fence of {operation:?}");
        let expected = done(&[*number]).state(exam.now());
        ensure_eq!(record.state, expected, "the answer of {operation:?} is its own");
    }
    let dead = dead(DeadReason::Refused);
    let stranger = store.finish(held[1].0.id(), held[0].1.fence, dead).await?;
    ensure!(
        matches!(stranger, hapax_core::Finished::Fenced { .. }),
        "another operation's fence got {stranger:?}"
    );
    Ok(())
}
