//! Cases: groups and their order, input that a claim brings, compensation, and the raising of fences.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{
    Amend, Amended, Claim, DeadReason, Enqueue, Fence, Filter, Finish, Input, Lease, OperationId, Resolution, Ruling,
    StateName, Store, StoreErrorKind, Take, Timestamp,
};

use super::Failure;
use super::exam::*;

const TURN: Duration = hapax_core::Record::TURN_PAUSE;
const LINE: Duration = hapax_core::Record::LINE_PAUSE;

/// Takes in order; exactly these keys must be given. The lease of the first.
async fn takes(exam: &Exam, store: &Arc<dyn Store>, keys: &[&str]) -> Checked<Option<Lease>> {
    let taken = store.take(exam.take_in_order()).await?;
    ensure_eq!(keys_of(&taken), keys, "what is taken in order");
    Ok(to_run(&taken).first().map(|(_, lease)| *lease))
}

/// Takes this key alone, and ends its run.
async fn take_and_end(exam: &Exam, store: &Arc<dyn Store>, key: &str, finish: Finish) -> Checked {
    let Some(lease) = takes(exam, store, &[key]).await? else {
        return Err(Failure(format!("{key} has no lease")));
    };
    applied(store.finish(id(key), lease.fence, finish).await?)?;
    Ok(())
}

async fn wakes(store: &Arc<dyn Store>, key: &str) -> Checked<Option<Timestamp>> {
    Ok(must_read(store, id(key)).await?.wake_at)
}

pub(super) async fn only_the_oldest_of_a_group_that_is_not_done_is_started(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    for key in ["a1", "a2", "a3"] {
        accepted(store.enqueue(exam.lay_in(1, key)).await?)?;
    }
    accepted(store.enqueue(exam.lay_in(2, "b1")).await?)?;
    accepted(store.enqueue(exam.lay("loner")).await?)?;
    // One that another name handles is in line, too.
    let mixed = operation("tenant", "other", "c1").map_err(|error| Failure(error.to_string()))?;
    let first = Enqueue {
        operation: mixed,
        ..exam.lay_in(3, "c1")
    };
    accepted(store.enqueue(first).await?)?;
    accepted(store.enqueue(exam.lay_in(3, "c2")).await?)?;
    takes(&exam, &store, &["a1", "b1", "loner"]).await?;
    for (key, pause) in [("a2", TURN), ("a3", LINE), ("c2", TURN)] {
        ensure_eq!(
            wakes(&other, key).await?,
            Some(exam.now().after(pause)),
            "when {key} wakes"
        );
    }
    takes(&exam, &other, &[]).await?;
    // Looked at again, and put off again.
    exam.time.pass(TURN);
    let taken = other.take(exam.take_in_order()).await?;
    ensure!(
        !keys_of(&taken).iter().any(|key| key == "a2" || key == "c2"),
        "{taken:?}"
    );
    ensure_eq!(
        wakes(&store, "a2").await?,
        Some(exam.now().after(TURN)),
        "when a2 wakes again"
    );
    // Who keeps no order takes them all.
    exam.time.pass(LINE);
    let taken = store.take(exam.take()).await?;
    ensure!(
        ["a2", "a3", "c2"]
            .iter()
            .all(|key| keys_of(&taken).iter().any(|taken| taken == key)),
        "not all were taken without order: {taken:?}"
    );
    Ok(())
}

pub(super) async fn what_is_dead_or_unknown_holds_up_its_group(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (group, finish) in [
        (1, dead(DeadReason::Refused)),
        (2, doubt(None)),
        (3, release_for(LINE * 10)),
    ] {
        let (first, second) = (format!("first-{group}"), format!("second-{group}"));
        accepted(store.enqueue(exam.lay_in(group, &first)).await?)?;
        accepted(store.enqueue(exam.lay_in(group, &second)).await?)?;
        take_and_end(&exam, &store, &first, finish).await?;
        exam.time.pass(TURN);
        takes(&exam, &store, &[]).await?;
    }
    // A claim that nobody attends is in line as well, while it runs, when it lapsed, and when it waits for an arrival.
    let claim = Claim {
        group: Some(group_of(4)),
        ..exam.ask("arrived")
    };
    let lease = won(store.claim(claim).await?)?;
    accepted(store.enqueue(exam.lay_in(4, "behind")).await?)?;
    takes(&exam, &store, &[]).await?;
    ensure_eq!(
        wakes(&store, "arrived").await?,
        Some(Timestamp::FOREVER),
        "an unattended run of a group"
    );
    exam.time.pass(LEASE + TURN);
    takes(&exam, &store, &[]).await?;
    let record = must_read(&store, id("arrived")).await?;
    ensure_eq!(record.state.name(), StateName::Running, "nobody noticed the lapse");
    applied(store.finish(id("arrived"), lease.fence, doubt(None)).await?)?;
    ensure_eq!(
        wakes(&store, "arrived").await?,
        Some(Timestamp::FOREVER),
        "nobody is asked about it"
    );
    exam.time.pass(TURN);
    takes(&exam, &store, &[]).await?;
    Ok(())
}

pub(super) async fn whoever_is_done_wakes_the_next_of_its_group(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    for key in ["k1", "k2", "k3", "k4"] {
        accepted(store.enqueue(exam.lay_in(1, key)).await?)?;
    }
    let due = exam.now();
    exam.time.pass(TICK);
    take_and_end(&exam, &store, "k1", done(b"made")).await?;
    ensure_eq!(wakes(&store, "k2").await?, Some(due), "when the next wakes");
    ensure!(
        wakes(&store, "k3").await? > Some(exam.now()),
        "the one after it wakes, too"
    );
    // No wait in between, through whichever handle.
    take_and_end(&exam, &other, "k2", done(b"made")).await?;
    // A failed run goes on being the first.
    take_and_end(&exam, &store, "k3", release()).await?;
    take_and_end(&exam, &store, "k3", done(b"made")).await?;
    take_and_end(&exam, &other, "k4", done(b"made")).await?;
    // Several at once, each of a group of its own: batches wake all.
    for round in ["x", "y"] {
        for group in 0..20 {
            accepted(
                store
                    .enqueue(exam.lay_in(100 + group, &format!("{round}{group}")))
                    .await?,
            )?;
        }
    }
    for round in ["x", "y"] {
        let taken = store.take(exam.take_in_order()).await?;
        let keys = keys_of(&taken);
        ensure_eq!(keys.len(), 20, "the heads of twenty groups");
        ensure!(keys.iter().all(|key| key.starts_with(round)), "{round}: {keys:?}");
        let runs = to_run(&taken)
            .into_iter()
            .map(|(record, lease)| (record.operation.id(), lease.fence));
        let finishes = runs.map(|(id, fence)| store.finish(id, fence, done(b"made")));
        for finished in futures_all(finishes).await {
            applied(finished?)?;
        }
    }
    Ok(())
}

/// Awaits all at once.
async fn futures_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.map(Box::pin).collect();
    let mut answers: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, answer) in pinned.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        match answers.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

pub(super) async fn whoever_is_closed_by_hand_wakes_the_next_of_its_group(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let resolved = || resolve(Resolution::Done(hapax_core::Outcome::Answer(answer(200, b"found"))));
    for (group, finish, amend, wakes_next) in [
        (1, dead(DeadReason::Refused), Amend::Discard, true),
        (2, dead(DeadReason::Refused), resolved(), true),
        (3, doubt(None), resolved(), true),
        (4, dead(DeadReason::Refused), Amend::Undo, false),
        (5, dead(DeadReason::Refused), Amend::Redrive, false),
    ] {
        let (first, second) = (format!("first-{group}"), format!("second-{group}"));
        accepted(store.enqueue(exam.lay_in(group, &first)).await?)?;
        accepted(store.enqueue(exam.lay_in(group, &second)).await?)?;
        take_and_end(&exam, &store, &first, finish).await?;
        let redriven = amend == Amend::Redrive;
        became(store.amend(id(&first), amendment(amend)).await?)?;
        let expected: &[&str] = match (wakes_next, redriven) {
            (true, _) => &[&second],
            (_, true) => &[&first],
            _ => &[],
        };
        takes(&exam, &store, expected).await?;
    }
    Ok(())
}

pub(super) async fn a_take_is_bounded_however_many_wait_for_their_turn(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let many = 3 * Take::MOST_PUT_OFF;
    for number in 0..many {
        accepted(store.enqueue(exam.lay_in(1, &format!("k{number}"))).await?)?;
    }
    accepted(store.enqueue(exam.lay_in(2, "patient")).await?)?;
    let few = Take {
        limit: 8,
        ..exam.take_in_order()
    };
    let (mut given, mut rounds) = (Vec::new(), 0);
    loop {
        let attempt = new_attempt();
        let taken = store.take(Take { attempt, ..few.clone() }).await?;
        given.extend(keys_of(&taken));
        rounds += 1;
        if rounds == 1 {
            let page = store.list(Filter::default(), None, 1000).await?;
            let mut put_off = 0;
            for summary in page.records {
                let record = must_read(&store, summary.operation.id()).await?;
                put_off += usize::from(record.wake_at > Some(exam.now()) && record.state.name() == StateName::Waiting);
            }
            ensure!(
                put_off < 2 * Take::MOST_PUT_OFF,
                "one take looked at {put_off} that wait for their turn"
            );
        }
        if !taken.more {
            break;
        }
        ensure!(rounds < 100, "takes do not end");
    }
    ensure_eq!(given, ["k0", "patient"], "what is given while many wait");
    ensure!(rounds > 1, "one take looked at everything");
    Ok(())
}

pub(super) async fn a_group_is_kept_as_it_was_made(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let in_group = |group: Option<u8>, claim: Claim| Claim {
        group: group.map(group_of),
        ..claim
    };
    let group = async |key: &str| Ok::<_, Failure>(must_read(&other, id(key)).await?.group);
    let claim = in_group(Some(1), exam.ask("claimed"));
    let lease = won(store.claim(claim).await?)?;
    ensure_eq!(group("claimed").await?, Some(group_of(1)), "the group of a claim");
    applied(store.finish(id("claimed"), lease.fence, release()).await?)?;
    won(store.claim(in_group(Some(2), exam.ask("claimed"))).await?)?;
    ensure_eq!(
        group("claimed").await?,
        Some(group_of(1)),
        "after a claim in another group"
    );

    accepted(store.enqueue(exam.lay_in(1, "laid")).await?)?;
    ensure_eq!(group("laid").await?, Some(group_of(1)), "the group of an enqueue");
    won(store.claim(in_group(None, exam.ask("laid"))).await?)?;
    ensure_eq!(group("laid").await?, Some(group_of(1)), "after a claim in none");

    exam.run(&store, "loner", release()).await?;
    let late = in_group(Some(1), exam.ask("loner"));
    let lease = won(store.claim(late).await?)?;
    let record = must_read(&store, id("loner")).await?;
    ensure_eq!(
        (record.group, record.wake_at),
        (None, None),
        "one that was made without"
    );
    applied(store.finish(id("loner"), lease.fence, release()).await?)?;
    accepted(store.enqueue(exam.lay_in(1, "loner")).await?)?;
    ensure_eq!(group("loner").await?, None, "after an enqueue in a group");
    Ok(())
}

pub(super) async fn a_group_is_listed_by_age(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let mut members = Vec::new();
    for number in 0..12 {
        let (key, other) = (format!("k{}", (number * 7) % 12), format!("other{number}"));
        accepted(store.enqueue(exam.lay_in(2, &other)).await?)?;
        accepted(store.enqueue(exam.lay(&format!("loner{number}"))).await?)?;
        if number % 2 == 0 {
            accepted(store.enqueue(exam.lay_in(1, &key)).await?)?;
        } else {
            let claim = Claim {
                group: Some(group_of(1)),
                ..exam.ask(&key)
            };
            let lease = won(store.claim(claim).await?)?;
            let (_, finish) = endings().into_iter().cycle().nth(number).unwrap_or(("", release()));
            applied(store.finish(id(&key), lease.fence, finish).await?)?;
        }
        members.push(id(&key));
    }
    let listed = async |filter: Filter, limit| {
        let (mut ids, mut after): (Vec<OperationId>, _) = (Vec::new(), None);
        loop {
            let page = store.list(filter.clone(), after, limit).await?;
            ensure!(
                page.records.iter().all(|summary| summary.group == Some(group_of(1))),
                "a record of another group: {page:?}"
            );
            ids.extend(page.records.iter().map(|summary| summary.operation.id()));
            after = page.next;
            if after.is_none() {
                return Ok::<_, Failure>(ids);
            }
        }
    };
    let all = Filter {
        group: Some(group_of(1)),
        ..Filter::default()
    };
    for limit in [1, 5, 100] {
        ensure_eq!(listed(all.clone(), limit).await?, members, "the group, {limit} a page");
    }
    for state in StateName::ALL {
        let mut expected = Vec::new();
        for member in &members {
            let found = must_read(&store, *member).await?;
            expected.extend((found.state.name() == *state).then_some(*member));
        }
        let filter = Filter {
            state: Some(*state),
            ..all.clone()
        };
        ensure_eq!(listed(filter, 2).await?, expected, "what is {state} of it");
    }
    let one = Filter {
        scope: Some("tenant".into()),
        name: Some("default".into()),
        key: Some("k7".into()),
        ..all.clone()
    };
    ensure_eq!(listed(one.clone(), 5).await?, [id("k7")], "one of it by name");
    let stranger = Filter {
        key: Some("other3".into()),
        ..one
    };
    ensure_eq!(listed(stranger, 5).await?, [], "one of another by name");
    let nobody = Filter {
        group: Some(group_of(9)),
        ..all
    };
    ensure_eq!(listed(nobody, 5).await?, [], "a group of nobody");
    Ok(())
}

pub(super) async fn a_claims_input_is_what_a_runner_takes_over_with(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let brought = Input("brought".into());
    let bringing = |claim: Claim| Claim {
        input: Some(brought.clone()),
        ..claim
    };
    let lease = won(store.claim(bringing(exam.ask_retried("fresh"))).await?)?;
    exam.run(&store, "later", release()).await?;
    won(store.claim(bringing(exam.ask_retried("later"))).await?)?;
    accepted(store.enqueue(exam.lay("stored")).await?)?;
    won(store.claim(bringing(exam.ask_retried("stored"))).await?)?;
    let stored = exam.lay("stored").input;
    for (key, input) in [("fresh", &brought), ("later", &brought), ("stored", &stored)] {
        let record = must_read(&other, id(key)).await?;
        ensure_eq!(record.input.as_ref(), Some(input), "the input of {key}");
        ensure_eq!(record.wake_at, Some(lease.deadline), "when a runner looks at {key}");
    }
    // Their claimers died.
    exam.time.pass(LEASE);
    let taken = other.take(exam.take()).await?;
    ensure_eq!(
        keys_of(&taken),
        ["fresh", "later", "stored"],
        "what a runner takes over"
    );
    for (record, lease) in to_run(&taken) {
        let expected = if record.operation == plain("stored") {
            &stored
        } else {
            &brought
        };
        ensure_eq!(
            record.input.as_ref(),
            Some(expected),
            "what {} is run with",
            record.operation.key()
        );
        applied(store.finish(record.operation.id(), lease.fence, done(b"made")).await?)?;
        ensure_eq!(
            must_read(&store, record.operation.id()).await?.input,
            None,
            "once it is done"
        );
    }
    // A refused claim leaves nothing behind.
    let lease = won(store.claim(exam.ask("running")).await?)?;
    refused(store.claim(bringing(exam.ask("running"))).await?)?;
    ensure_eq!(
        must_read(&store, id("running")).await?.input,
        None,
        "the input of a refused claim"
    );
    applied(store.finish(id("running"), lease.fence, done(b"made")).await?)?;
    Ok(())
}

pub(super) async fn a_compensation_that_has_begun_ends_redrives(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    accepted(store.enqueue(exam.lay("k")).await?)?;
    let lease = exam.win(&store, "k").await?;
    let ended = Finish::Dead {
        reason: DeadReason::Exhausted,
        answer: Some(answer(500, b"sorry")),
        last_error: None,
    };
    applied(store.finish(id("k"), lease.fence, ended.clone()).await?)?;
    let undone = became(store.amend(id("k"), amendment(Amend::Undo)).await?)?;
    ensure!(undone.fence > lease.fence, "no new fence");
    ensure_eq!(must_read(&other, id("k")).await?, undone, "the record");
    let expected = hapax_core::Refusal::Dead {
        since: exam.now(),
        reason: DeadReason::Undone,
        answer: Some(answer(500, b"sorry")),
    };
    ensure_eq!(
        refused(other.claim(exam.ask("k")).await?)?,
        expected,
        "what a duplicate is told"
    );
    let redriven = other.amend(id("k"), amendment(Amend::Redrive)).await?;
    ensure_eq!(redriven, Amended::Refused(StateName::Dead), "a redrive");
    let late = store.finish(id("k"), lease.fence, ended).await?;
    ensure!(
        matches!(late, hapax_core::Finished::Fenced { .. }),
        "a late finish got {late:?}"
    );
    let filter = Filter {
        dead: Some(DeadReason::Undone),
        ..Filter::default()
    };
    let page = store.list(filter, None, 10).await?;
    ensure_eq!(page.records.len(), 1, "listed by its reason");
    let closed = became(other.amend(id("k"), amendment(Amend::Discard)).await?)?;
    ensure_eq!(closed.state.name(), StateName::Done, "closing it");
    let running = store.amend(id("k"), amendment(Amend::Undo)).await?;
    ensure_eq!(running, Amended::Refused(StateName::Done), "undoing what is done");
    Ok(())
}

pub(super) async fn a_raised_fence_is_never_given_out_again(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    store.raise_fence(Fence::new(1)).await?;
    let first = exam.win(&store, "first").await?;
    ensure!(
        first.fence > Fence::new(1),
        "fence {} after one was raised to 1",
        first.fence
    );
    let floor = Fence::new(first.fence.get() + 1_000_000);
    store.raise_fence(floor).await?;
    let second = exam.win(&other, "second").await?;
    ensure!(
        second.fence > floor,
        "fence {} after it was raised to {floor}",
        second.fence
    );
    drop((store, other));
    let store = exam.open().await?;
    accepted(store.enqueue(exam.lay("third")).await?)?;
    let third = must_read(&store, id("third")).await?;
    ensure!(
        third.fence > second.fence,
        "fence {} of an enqueue after {}",
        third.fence,
        second.fence
    );
    let Ruling::Won(fourth) = store.claim(exam.ask("third")).await?.ruling else {
        return Err(Failure("the claim should have won".into()));
    };
    ensure!(
        fourth.fence > third.fence,
        "fence {} after {}",
        fourth.fence,
        third.fence
    );
    Ok(())
}

pub(super) async fn raising_a_fence_never_lowers_one(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let high = Fence::new(5_000_000);
    store.raise_fence(high).await?;
    for low in [high, Fence::new(4_999_999), Fence::new(1), Fence::new(0)] {
        store.raise_fence(low).await?;
    }
    let lease = exam.win(&store, "k").await?;
    ensure!(lease.fence > high, "fence {} after {high}", lease.fence);
    let absurd = Fence::new(Fence::HIGHEST_RAISE.get() + 1);
    match store.raise_fence(absurd).await {
        Err(error) => ensure_eq!(error.kind(), StoreErrorKind::Invalid, "the kind of {error}"),
        Ok(()) => return Err(Failure(format!("the fence was raised to {absurd}"))),
    }
    let next = exam.win(&store, "l").await?;
    ensure!(
        next.fence < absurd && next.fence > lease.fence,
        "fence {} after {}",
        next.fence,
        lease.fence
    );
    Ok(())
}
