//! Cases: runners, arrivals, people and the sweeper at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use hapax_core::{
    Amend, Amended, BoxFuture, DeadReason, Enqueue, Finished, Outcome, Refusal, Resolution, Ruling, StateName, Take,
    Taken, Work,
};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Failure;
use super::exam::*;
use super::races::{both, handles};

/// Makes a step to be done at once with another.
macro_rules! step {
    ($store:expr, |$name:ident| $call:expr) => {{
        let $name = $store.clone();
        move || -> BoxFuture<'static, _> { Box::pin(async move { $call.await }) }
    }};
}

pub(super) async fn many_takers_take_each_record_once(exam: Exam) -> Checked {
    const RECORDS: usize = 120;
    const TAKERS: usize = 8;
    let handles = handles(&exam).await?;
    for round in 0..3_usize {
        for number in 0..RECORDS {
            accepted(
                handles[number % 2]
                    .enqueue(exam.lay(&format!("{round}-{number}")))
                    .await?,
            )?;
        }
        let mut takers = JoinSet::new();
        let gate = Arc::new(Barrier::new(TAKERS));
        for number in 0..TAKERS {
            let (store, gate, take) = (handles[number % 2].clone(), gate.clone(), exam.take());
            takers.spawn(async move {
                gate.wait().await;
                let mut taken = Vec::new();
                loop {
                    let take = Take {
                        attempt: new_attempt(),
                        limit: 7,
                        ..take.clone()
                    };
                    let work = store.take(take).await?.work;
                    if work.is_empty() {
                        return Ok::<_, hapax_core::StoreError>(taken);
                    }
                    taken.extend(work);
                }
            });
        }
        let mut work = handles[0].take(exam.take()).await?.work;
        while let Some(taken) = takers.join_next().await {
            work.extend(taken.map_err(|error| Failure(error.to_string()))??);
        }
        // What a taker left because another one had it in hand, which then had its fill.
        work.extend(handles[1].take(exam.take()).await?.work);
        let mut times: BTreeMap<_, usize> = BTreeMap::new();
        for work in &work {
            let Work::Run(record, lease) = work else {
                return Err(Failure(format!("only runs were expected, not {work:?}")));
            };
            *times.entry(record.operation.id()).or_default() += 1;
            applied(
                handles[0]
                    .finish(record.operation.id(), lease.fence, done(b"made"))
                    .await?,
            )?;
        }
        ensure_eq!(times.len(), RECORDS, "records taken in round {round}");
        let twice = times.values().filter(|times| **times > 1).count();
        ensure_eq!(twice, 0, "records taken twice in round {round}");
    }
    Ok(())
}

pub(super) async fn of_many_resolvers_one_is_asked(exam: Exam) -> Checked {
    let handles = handles(&exam).await?;
    for round in 0..8 {
        let key = format!("k{round}");
        accepted(handles[0].enqueue(exam.lay(&key)).await?)?;
        exam.run(&handles[0], &key, doubt(None)).await?;
        let mut resolvers = JoinSet::new();
        let gate = Arc::new(Barrier::new(8));
        for number in 0..8 {
            let (store, gate, take) = (handles[number % 2].clone(), gate.clone(), exam.take_all());
            resolvers.spawn(async move {
                gate.wait().await;
                store.take(take).await
            });
        }
        let mut asked = 0;
        while let Some(taken) = resolvers.join_next().await {
            asked += taken.map_err(|error| Failure(error.to_string()))??.work.len();
        }
        ensure_eq!(asked, 1, "resolvers asked about one record in round {round}");
        ensure_eq!(
            handles[1].amend(id(&key), amendment(FORGET_EVEN_UNKNOWN)).await?,
            Amended::Forgotten,
            "forgetting"
        );
    }
    Ok(())
}

pub(super) async fn a_take_and_an_arrival_exclude_each_other(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    for round in 0..32 {
        let key = format!("k{round}");
        accepted(store.enqueue(exam.lay(&key)).await?)?;
        let (take, claim) = (exam.take(), exam.ask(&key));
        let (taken, claimed) = both(
            step!(store, |store| store.take(take)),
            step!(other, |store| store.claim(claim)),
        )
        .await?;
        let fence = match (&to_run(&taken)[..], &claimed.ruling) {
            ([(_, lease)], Ruling::Refused(Refusal::InProgress { .. })) => lease.fence,
            ([], Ruling::Won(lease)) => lease.fence,
            told => {
                return Err(Failure(format!(
                    "a take raced with an arrival in round {round}: {told:?}"
                )));
            }
        };
        applied(store.finish(id(&key), fence, done(b"made")).await?)?;
    }
    Ok(())
}

pub(super) async fn a_take_and_a_late_finish_exclude_each_other(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    for round in 0..32 {
        let key = format!("k{round}");
        accepted(store.enqueue(exam.lay(&key)).await?)?;
        let first = store.take(exam.take()).await?;
        let [(_, lease)] = to_run(&first)[..] else {
            return Err(Failure(format!("it should be run, but: {first:?}")));
        };
        exam.time.pass(LEASE);
        let (take, id) = (exam.take(), id(&key));
        let (finished, taken) = both(
            step!(store, |store| store.finish(id, lease.fence, done(b"late"))),
            step!(other, |store| store.take(take)),
        )
        .await?;
        match (&finished, &to_run(&taken)[..]) {
            (Finished::Applied { .. }, []) => {}
            (Finished::Fenced { .. }, [(_, next)]) => {
                applied(other.finish(id, next.fence, done(b"second")).await?)?;
            }
            told => {
                return Err(Failure(format!(
                    "a take raced with a finish in round {round}: {told:?}"
                )));
            }
        }
    }
    Ok(())
}

pub(super) async fn of_many_enqueues_one_is_accepted(exam: Exam) -> Checked {
    let handles = handles(&exam).await?;
    for round in 0..8 {
        let key = format!("k{round}");
        let mut racers = JoinSet::new();
        let first = exam.lay(&key);
        let gate = Arc::new(Barrier::new(32));
        for number in 0..32 {
            // Half of them are repetitions of one.
            let enqueue = if number < 16 { first.clone() } else { exam.lay(&key) };
            let (store, gate) = (handles[number % 2].clone(), gate.clone());
            racers.spawn(async move {
                gate.wait().await;
                let attempt = enqueue.attempt;
                store.enqueue(enqueue).await.map(|enqueued| (attempt, enqueued.refusal))
            });
        }
        let (mut won, mut lost) = (Vec::new(), Vec::new());
        while let Some(told) = racers.join_next().await {
            match told.map_err(|error| Failure(error.to_string()))?? {
                (attempt, None) => won.push(attempt),
                (attempt, Some(Refusal::Later { .. })) => lost.push(attempt),
                told => return Err(Failure(format!("an enqueue in round {round}: {told:?}"))),
            }
        }
        let attempt = must_read(&handles[0], id(&key)).await?.attempt;
        let agree = won.iter().all(|won| *won == attempt) && !lost.contains(&attempt);
        ensure!(agree && !won.is_empty(), "{attempt:?} is kept, accepted were {won:?}");
    }
    Ok(())
}

pub(super) async fn an_enqueue_and_an_arrival_agree(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    for round in 0..32 {
        let key = format!("k{round}");
        let (enqueue, claim) = (exam.lay(&key), exam.ask(&key));
        let (enqueued, claimed) = both(
            step!(store, |store| store.enqueue(enqueue)),
            step!(other, |store| store.claim(claim)),
        )
        .await?;
        let lease = won(claimed)?;
        let has_input = match enqueued.refusal {
            None => true,
            Some(Refusal::InProgress { .. }) => false,
            told => {
                return Err(Failure(format!(
                    "an enqueue raced with an arrival in round {round}: {told:?}"
                )));
            }
        };
        let record = must_read(&store, id(&key)).await?;
        ensure_eq!(
            (record.input.is_some(), record.fence),
            (has_input, lease.fence),
            "input and holder in round {round}"
        );
    }
    Ok(())
}

pub(super) async fn a_redrive_and_a_late_finish_exclude_each_other(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    for round in 0..32 {
        let key = format!("k{round}");
        accepted(store.enqueue(exam.lay(&key)).await?)?;
        let stale = exam.run(&store, &key, dead(DeadReason::Exhausted)).await?;
        let id = id(&key);
        let (finished, amended) = both(
            step!(store, |store| store.finish(id, stale.fence, done(b"stale"))),
            step!(other, |store| store.amend(id, amendment(Amend::Redrive))),
        )
        .await?;
        let record = became(amended)?;
        let told = matches!(finished, Finished::Already { .. } | Finished::Fenced { .. });
        ensure!(
            told,
            "a stale finish raced with a redrive in round {round}: {finished:?}"
        );
        ensure_eq!(
            must_read(&store, id).await?,
            record,
            "the redriven record in round {round}"
        );
        let taken = store.take(exam.take()).await?;
        let [(_, lease)] = to_run(&taken)[..] else {
            return Err(Failure(format!("it should be run once, but: {taken:?}")));
        };
        applied(store.finish(id, lease.fence, done(b"redriven")).await?)?;
        let again = other.amend(id, amendment(Amend::Redrive)).await?;
        ensure_eq!(again, Amended::Refused(StateName::Done), "a redrive of what is done");
    }
    Ok(())
}

pub(super) async fn a_resolution_and_a_late_finish_exclude_each_other(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    let found = || Resolution::Done(Outcome::Answer(answer(200, b"found")));
    for round in 0..32 {
        let key = format!("k{round}");
        let held = exam.run(&store, &key, doubt(None)).await?;
        exam.time.pass(SETTLE);
        let (id, resolution) = (id(&key), if round % 2 == 0 { found() } else { Resolution::NotDone });
        let (finished, amended) = both(
            step!(store, |store| store.finish(id, held.fence, done(b"late"))),
            step!(other, |store| store.amend(id, amendment(resolve(resolution)))),
        )
        .await?;
        let record = must_read(&store, id).await?;
        let whole = match (&finished, &amended) {
            (Finished::Applied { .. }, Amended::Refused(StateName::Done)) => {
                record.state == done(b"late").state(exam.now())
            }
            (Finished::Fenced { .. }, Amended::Became(amended)) => record == **amended,
            _ => false,
        };
        ensure!(
            whole,
            "a late finish raced with a resolution in round {round}: {finished:?}, {amended:?}, {record:?}"
        );
    }
    Ok(())
}

pub(super) async fn a_sweep_and_a_redrive_exclude_each_other(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    for round in 0..32 {
        let key = format!("k{round}");
        accepted(store.enqueue(Enqueue { ..exam.lay(&key) }).await?)?;
        exam.run(&store, &key, dead(DeadReason::Exhausted)).await?;
        exam.time.pass(REMEMBER_FOR);
        let id = id(&key);
        let (_, amended) = both(
            step!(store, |store| store.sweep(1000)),
            step!(other, |store| store.amend(id, amendment(Amend::Redrive))),
        )
        .await?;
        match amended {
            Amended::Absent => ensure_eq!(read(&store, id).await?, None, "what was swept in round {round}"),
            amended => {
                let record = became(amended)?;
                store.sweep(1000).await?;
                ensure_eq!(
                    must_read(&store, id).await?,
                    record,
                    "what was redriven in round {round}"
                );
                let taken: Taken = store.take(exam.take()).await?;
                ensure_eq!(keys_of(&taken), std::slice::from_ref(&key), "and is run");
                let fence = to_run(&taken)[0].1.fence;
                applied(store.finish(id, fence, done(b"made")).await?)?;
            }
        }
    }
    Ok(())
}
