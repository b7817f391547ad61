//! Cases: take.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::record::{Record, TakeVerdict};
use hapax_core::{
    DeadReason, Enqueue, Fence, Finish, Input, Lease, State, StateName, Store, Take, TakeName, Taken, Work,
};

use super::super::Failure;
use super::super::exam::*;
use super::runs;

pub(in super::super) async fn work_is_taken_when_it_is_due_and_once(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let enqueue = Enqueue {
        delay: LEASE,
        ..exam.lay("k")
    };
    accepted(store.enqueue(enqueue).await?)?;
    let before = must_read(&store, id("k")).await?;
    exam.time.pass(LEASE - TICK);
    let taken = store.take(exam.take()).await?;
    ensure_eq!(taken.work, vec![], "work one millisecond before it is due");
    exam.time.pass(TICK);
    let take = exam.take();
    let taken = store.take(take.clone()).await?;
    ensure_eq!(taken.now, exam.now(), "the take's time");
    let [(record, lease)] = to_run(&taken)[..] else {
        return Err(Failure(format!("one record should be run, but: {taken:?}")));
    };
    let expected = match before.take(&take, &take.names[0], 0, lease.fence, exam.now()) {
        TakeVerdict::Run(record, lease) => (*record, lease),
        verdict => return Err(Failure(format!("the core says {verdict:?}"))),
    };
    ensure_eq!((record.clone(), lease), expected, "the work");
    ensure_eq!(must_read(&other, id("k")).await?, expected.0, "the record");
    for handle in [&store, &other] {
        let taken = handle.take(exam.take()).await?;
        ensure_eq!(taken.work, vec![], "work that another runner has");
    }
    applied(store.finish(id("k"), lease.fence, done(b"made")).await?)?;
    exam.time.pass(MAX_RUN);
    ensure_eq!(store.take(exam.take()).await?.work, vec![], "work that is done");
    Ok(())
}

pub(in super::super) async fn the_longest_due_is_taken_first_and_no_more_than_asked(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for number in [3_u32, 0, 4, 1, 5, 2] {
        let enqueue = Enqueue {
            delay: TICK * number,
            ..exam.lay(&format!("k{number}"))
        };
        accepted(store.enqueue(enqueue).await?)?;
    }
    exam.time.pass(LEASE);
    for expected in [["k0", "k1"], ["k2", "k3"], ["k4", "k5"]] {
        let take = Take {
            limit: 2,
            ..exam.take()
        };
        let taken = store.take(take).await?;
        ensure_eq!(keys_of(&taken), expected, "the longest due");
        ensure!(taken.more || expected[1] == "k5", "there is more after {expected:?}");
    }
    ensure_eq!(store.take(exam.take()).await?.work, vec![], "what is left");
    Ok(())
}

pub(in super::super) async fn only_names_that_are_asked_for_are_taken(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for name in ["a", "b", "c"] {
        for key in ["k", "l"] {
            let operation = operation("tenant", name, key).map_err(|error| Failure(error.to_string()))?;
            let enqueue = Enqueue {
                operation,
                ..exam.lay("k")
            };
            accepted(store.enqueue(enqueue).await?)?;
        }
    }
    let mut take = exam.take();
    let way = |name: &str, seconds: u32, mode, tries| {
        let operation = operation("tenant", name, "k").map_err(|error| Failure(error.to_string()))?;
        Ok::<_, Failure>(TakeName {
            name: operation.name().clone(),
            lease: TICK * seconds,
            max_run: TICK * seconds * 2,
            after_failure: mode,
            tries,
            ..exam.take().names[0].clone()
        })
    };
    take.names = vec![
        way("c", 7, hapax_core::AfterFailure::Hold, 1)?,
        way("a", 9, hapax_core::AfterFailure::Retry, 9)?,
        way("nothing", 9, hapax_core::AfterFailure::Retry, 9)?,
    ];
    let taken = store.take(take.clone()).await?;
    ensure_eq!(runs(&taken.work), 4, "records of two names");
    for (record, lease) in to_run(&taken) {
        let way = take.names.iter().find(|way| way.name == *record.operation.name());
        let Some(way) = way else {
            return Err(Failure(format!("{} was not asked for", record.operation.name())));
        };
        let expected = State::Running {
            deadline: exam.now().after(way.lease),
            run_until: exam.now().after(way.max_run),
            after_failure: way.after_failure,
            starter: hapax_core::Starter::System,
        };
        ensure_eq!(record.state, expected, "how {} runs", way.name);
        ensure_eq!(lease.deadline, exam.now().after(way.lease), "its lease");
    }
    let nothing = Take {
        names: vec![],
        ..exam.take()
    };
    ensure_eq!(store.take(nothing).await?.work, vec![], "work of no name");
    Ok(())
}

/// Takes until nothing is given any more.
async fn drain(exam: &Exam, store: &Arc<dyn Store>, take: &Take) -> Checked<Taken> {
    let mut all: Option<Taken> = None;
    for _ in 0..1000 {
        let attempt = new_attempt();
        let mut taken = store
            .take(Take {
                attempt,
                ..take.clone()
            })
            .await?;
        ensure_eq!(taken.now, exam.now(), "the take's time");
        ensure!(
            taken.work.len() <= if take.alone { 1 } else { take.limit },
            "{} records were given",
            taken.work.len()
        );
        let over = taken.work.is_empty() && taken.ended.is_empty();
        let all = all.get_or_insert_with(|| Taken {
            work: vec![],
            ended: vec![],
            ..taken.clone()
        });
        ensure!(
            over || all.more || all.work.is_empty() && all.ended.is_empty(),
            "there was more after all"
        );
        all.suspects |= taken.suspects;
        all.more = taken.more;
        all.work.append(&mut taken.work);
        all.ended.append(&mut taken.ended);
        if over {
            return Ok(all.clone());
        }
    }
    Err(Failure("the work does not end".into()))
}

/// Takes all there is at several moments; each record must become what the core says.
async fn as_the_core_says(exam: Exam, take: Take) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let situations = exam.every_state(&store, "k").await?;
    let mut met = 0;
    for pause in [Duration::ZERO, LEASE, LEASE * 10, LEASE, MAX_RUN * 10] {
        exam.time.pass(pause);
        let mut before = Vec::new();
        for situation in &situations {
            before.push(must_read(&store, situation.id()).await?);
        }
        let taken = drain(&exam, &store, &take).await?;
        let (mut given, mut suspects) = (0, false);
        for before in before {
            let after = must_read(&other, before.operation.id()).await?;
            let due = before.wake_at.is_some_and(|at| at <= exam.now());
            let verdict = due.then(|| before.take(&take, &take.names[0], 0, after.fence, exam.now()));
            suspects |= verdict == Some(TakeVerdict::Suspect);
            given += usize::from(became(&before, &after, verdict, &taken)?);
        }
        ensure_eq!(taken.work.len() + taken.ended.len(), given, "records given");
        ensure!(taken.suspects || !suspects, "suspects are not told");
        ensure!(suspects || !taken.suspects, "suspects are told where none are");
        met += given;
    }
    ensure!(met > 0, "nothing was taken at all");
    Ok(())
}

/// Whether the record was given to the taker; it must be if the core says so.
fn became(before: &Record, after: &Record, verdict: Option<TakeVerdict>, taken: &Taken) -> Checked<bool> {
    let what = || format!("{before:?}");
    match verdict {
        None | Some(TakeVerdict::Suspect | TakeVerdict::Leave) => {
            ensure_eq!(after, before, "what is left alone");
            Ok(false)
        }
        Some(TakeVerdict::Later(at)) => {
            let expected = Record {
                wake_at: Some(at),
                ..before.clone()
            };
            ensure_eq!(after, &expected, "what is not to be run yet");
            Ok(false)
        }
        Some(TakeVerdict::Run(expected, lease)) => {
            ensure!(after.fence > before.fence, "no new fence for {}", what());
            // Which of several takes it was does not matter.
            let expected = Record {
                attempt: after.attempt,
                ..*expected
            };
            ensure_eq!(after, &expected, "the run of {}", what());
            let work = Work::Run(Box::new(expected), lease);
            ensure!(taken.work.contains(&work), "{work:?} was not given");
            Ok(true)
        }
        Some(TakeVerdict::Resolve(expected)) => {
            ensure_eq!(after, &*expected, "the asking about {}", what());
            let work = Work::Resolve(expected);
            ensure!(taken.work.contains(&work), "{work:?} was not given");
            Ok(true)
        }
        Some(TakeVerdict::Becomes(expected)) => {
            ensure_eq!(after, &*expected, "the end of {}", what());
            ensure!(taken.ended.contains(&expected), "{expected:?} was not told");
            Ok(true)
        }
    }
}

pub(in super::super) async fn a_take_in_every_state_does_as_the_core_says(exam: Exam) -> Checked {
    let take = exam.take();
    as_the_core_says(exam, take).await
}

pub(in super::super) async fn a_take_that_resolves_does_as_the_core_says(exam: Exam) -> Checked {
    let take = exam.take_all();
    as_the_core_says(exam, take).await
}

pub(in super::super) async fn a_take_in_solitude_does_as_the_core_says(exam: Exam) -> Checked {
    let take = Take {
        alone: true,
        ..exam.take_all()
    };
    as_the_core_says(exam, take).await
}

/// Runs the handlers of one process that took this work: one of them kills it.
async fn process(exam: &Exam, store: &Arc<dyn Store>, taken: &Taken) -> Checked {
    let runs = to_run(taken);
    if runs.iter().any(|(record, _)| record.operation == plain("killer")) {
        exam.time.pass(LEASE);
        return Ok(());
    }
    for (record, lease) in runs {
        applied(store.finish(record.operation.id(), lease.fence, done(b"made")).await?)?;
    }
    Ok(())
}

pub(in super::super) async fn three_crashes_are_poison_and_bystanders_end_done(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let mut keys: Vec<String> = (0..15).map(|number| format!("healthy-{number}")).collect();
    keys.push("killer".into());
    for key in &keys {
        accepted(store.enqueue(exam.lay(key)).await?)?;
    }
    let mut kills = 0;
    for _ in 0..100 {
        let mut taken = store.take(exam.take_all()).await?;
        if taken.suspects && taken.work.is_empty() {
            let alone = Take {
                alone: true,
                ..exam.take_all()
            };
            taken = store.take(alone).await?;
        }
        kills += usize::from(keys_of(&taken).iter().any(|key| key == "killer"));
        process(&exam, &store, &taken).await?;
    }
    ensure_eq!(kills, 3, "processes killed");
    for key in &keys {
        let record = must_read(&store, id(key)).await?;
        let healthy = key != "killer";
        let expected = if healthy { StateName::Done } else { StateName::Dead };
        ensure_eq!(record.state.name(), expected, "the end of {key}");
        let tries = if healthy { 1 } else { 2 };
        ensure_eq!(
            record.tries,
            tries,
            "the tries of {key}: the first crash gave its start back"
        );
        if let State::Dead { reason, .. } = record.state {
            ensure_eq!(reason, DeadReason::Poison, "why {key} is dead");
        }
    }
    Ok(())
}

pub(in super::super) async fn a_take_is_answered_the_same_again(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    for number in 0..6_u32 {
        let enqueue = Enqueue {
            delay: TICK * number,
            input: Input(number.to_string().into()),
            ..exam.lay(&format!("k{number}"))
        };
        accepted(store.enqueue(enqueue).await?)?;
    }
    exam.time.pass(LEASE);
    let take = Take {
        limit: 3,
        ..exam.take()
    };
    let again = Take {
        again: true,
        ..take.clone()
    };
    let sorted = |taken: &Taken| -> Vec<(Record, Lease)> {
        let mut runs: Vec<_> = to_run(taken)
            .into_iter()
            .map(|(record, lease)| (record.clone(), lease))
            .collect();
        runs.sort_by_key(|(record, _)| record.operation.id());
        runs
    };
    let first = store.take(take).await?;
    ensure_eq!(first.work.len(), 3, "records taken");
    for handle in [&other, &store] {
        exam.time.pass(TICK);
        let second = handle.take(again.clone()).await?;
        ensure_eq!(sorted(&second), sorted(&first), "the same take again");
    }
    let (record, lease) = sorted(&first)[0].clone();
    applied(store.finish(record.operation.id(), lease.fence, done(b"made")).await?)?;
    let third = store.take(again.clone()).await?;
    let held = &sorted(&first)[1..];
    let kept = held.iter().all(|run| sorted(&third).contains(run));
    ensure!(
        kept && third.work.len() == 3,
        "what it holds, and one more, not {third:?}"
    );
    exam.time.pass_until(lease.deadline);
    let other_attempt = Take {
        attempt: new_attempt(),
        ..again
    };
    let late = store.take(other_attempt).await?;
    let lost: Vec<Fence> = held.iter().map(|(_, lease)| lease.fence).collect();
    let stale = to_run(&late).iter().any(|(_, lease)| lost.contains(&lease.fence));
    ensure!(!stale, "a lapsed lease is not given to anybody: {late:?}");
    Ok(())
}

pub(in super::super) async fn an_unknown_outcome_is_given_to_resolve_and_left_alone_meanwhile(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    accepted(store.enqueue(exam.lay("k")).await?)?;
    let lease = exam.win(&store, "k").await?;
    applied(
        store
            .finish(id("k"), lease.fence, doubt(Some(answer(502, b"?"))))
            .await?,
    )?;
    let asked = |taken: &Taken| match &taken.work[..] {
        [Work::Resolve(record)] if record.fence == lease.fence => record.wake_at,
        _ => None,
    };
    for _ in 0..3 {
        let taken = store.take(exam.take_all()).await?;
        let Some(next) = asked(&taken) else {
            return Err(Failure(format!("it should be given to be resolved, but: {taken:?}")));
        };
        ensure!(next > exam.now(), "it is asked about again at {next}, at once");
        ensure_eq!(other.take(exam.take_all()).await?.work, vec![], "meanwhile");
        exam.time.pass_until(next);
    }
    let finish: Finish = done(b"after all");
    applied(store.finish(id("k"), lease.fence, finish).await?)?;
    ensure_eq!(store.take(exam.take_all()).await?.work, vec![], "once it is known");
    Ok(())
}
