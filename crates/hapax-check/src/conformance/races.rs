//! Cases: many at once, from two handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hapax_core::{
    Amended, BoxFuture, Claim, Claimed, Fence, Finished, Refusal, Ruling, State, StateName, Store, StoreError,
};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Failure;
use super::exam::*;

const RACERS: usize = 64;

pub(super) async fn handles(exam: &Exam) -> Checked<[Arc<dyn Store>; 2]> {
    Ok([exam.open().await?, exam.open().await?])
}

/// Makes all claims at once, through the handles in turn.
pub(super) async fn race(handles: &[Arc<dyn Store>; 2], claims: Vec<Claim>) -> Checked<Vec<(Claim, Claimed)>> {
    let gate = Arc::new(Barrier::new(claims.len()));
    let mut racers = JoinSet::new();
    for (number, claim) in claims.into_iter().enumerate() {
        let (store, gate) = (handles[number % 2].clone(), gate.clone());
        racers.spawn(async move {
            gate.wait().await;
            store.claim(claim.clone()).await.map(|claimed| (claim, claimed))
        });
    }
    let mut results = Vec::new();
    while let Some(result) = racers.join_next().await {
        results.push(result.map_err(|error| Failure(error.to_string()))??);
    }
    Ok(results)
}

/// Does both at once; which of them is ready first changes from call to call.
pub(super) async fn both<A: Send + 'static, B: Send + 'static>(
    first: impl FnOnce() -> BoxFuture<'static, Result<A, StoreError>>,
    second: impl FnOnce() -> BoxFuture<'static, Result<B, StoreError>>,
) -> Checked<(A, B)> {
    static SECOND_FIRST: AtomicBool = AtomicBool::new(false);
    let gate = Arc::new(Barrier::new(2));
    let (first, second) = (at_gate(&gate, first()), at_gate(&gate, second()));
    let (first, second) = if SECOND_FIRST.fetch_not(Ordering::Relaxed) {
        let second = tokio::spawn(second);
        (tokio::spawn(first), second)
    } else {
        (tokio::spawn(first), tokio::spawn(second))
    };
    let lost = |error: tokio::task::JoinError| Failure(error.to_string());
    Ok((first.await.map_err(lost)??, second.await.map_err(lost)??))
}

/// A step that waits until all are ready.
fn at_gate<T>(gate: &Arc<Barrier>, step: BoxFuture<'static, T>) -> impl Future<Output = T> + Send + use<T> {
    let gate = gate.clone();
    async move {
        gate.wait().await;
        step.await
    }
}

fn winners(results: &[(Claim, Claimed)]) -> Vec<(&Claim, Fence)> {
    let fence = |claimed: &Claimed| match &claimed.ruling {
        Ruling::Won(lease) => Some(lease.fence),
        Ruling::Refused(_) => None,
    };
    results
        .iter()
        .filter_map(|(claim, claimed)| Some((claim, fence(claimed)?)))
        .collect()
}

pub(super) async fn of_many_racers_one_wins(exam: Exam) -> Checked {
    let handles = handles(&exam).await?;
    for round in 0..8 {
        let key = format!("k{round}");
        let results = race(&handles, (0..RACERS).map(|_| exam.ask(&key)).collect()).await?;
        let winners = winners(&results);
        ensure_eq!(
            winners.len(),
            1,
            "winners among {RACERS} racers on one key in round {round}"
        );
        for (_, claimed) in &results {
            if let Ruling::Refused(refusal) = &claimed.ruling {
                let expected = matches!(refusal, Refusal::InProgress { .. });
                ensure!(expected, "a loser should be told in progress, but: {refusal:?}");
            }
        }
        let record = must_read(&handles[0], id(&key)).await?;
        ensure_eq!(
            (record.attempt, record.fence),
            (winners[0].0.attempt, winners[0].1),
            "the record's holder"
        );
    }
    Ok(())
}

pub(super) async fn a_racing_repetition_never_loses_to_itself(exam: Exam) -> Checked {
    let handles = handles(&exam).await?;
    for round in 0..8 {
        let claim = exam.ask(&format!("k{round}"));
        let results = race(&handles, vec![claim; 8]).await?;
        let winners = winners(&results);
        ensure_eq!(winners.len(), 8, "repetitions of one claim that won in round {round}");
        let same = winners.iter().all(|(_, fence)| *fence == winners[0].1);
        ensure!(same, "repetitions of one claim got different fences: {winners:?}");
    }
    Ok(())
}

pub(super) async fn of_many_takeovers_one_wins(exam: Exam) -> Checked {
    let handles = handles(&exam).await?;
    for round in 0..8 {
        let (lapsed, released) = (format!("lapsed{round}"), format!("released{round}"));
        let first = won(handles[0].claim(exam.ask_retried(&lapsed)).await?)?;
        exam.run(&handles[1], &released, release()).await?;
        exam.time.pass(LEASE);
        for key in [&lapsed, &released] {
            let results = race(&handles, (0..RACERS / 2).map(|_| exam.ask_retried(key)).collect()).await?;
            let winners = winners(&results);
            ensure_eq!(winners.len(), 1, "winners among those who take {key} over");
            ensure!(
                winners[0].1 > first.fence,
                "fence {} after {}",
                winners[0].1,
                first.fence
            );
        }
    }
    Ok(())
}

pub(super) async fn racers_on_other_keys_all_win(exam: Exam) -> Checked {
    let handles = handles(&exam).await?;
    let results = race(
        &handles,
        (0..256).map(|number| exam.ask(&format!("k{number}"))).collect(),
    )
    .await?;
    let winners = winners(&results);
    ensure_eq!(winners.len(), 256, "winners on keys of their own");
    let mut fences: Vec<Fence> = winners.iter().map(|(_, fence)| *fence).collect();
    fences.sort();
    fences.dedup();
    ensure_eq!(fences.len(), 256, "distinct fences");
    for (claim, fence) in winners {
        let record = must_read(&handles[0], claim.operation.id()).await?;
        ensure_eq!(
            (record.fence, record.attempt),
            (fence, claim.attempt),
            "the holder of {:?}",
            claim.operation
        );
    }
    Ok(())
}

pub(super) async fn a_finish_and_a_takeover_exclude_each_other(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    for round in 0..32 {
        let key = format!("k{round}");
        let lease = won(store.claim(exam.ask_retried(&key)).await?)?;
        exam.time.pass(LEASE);
        let (store, other, claim, id) = (store.clone(), other.clone(), exam.ask_retried(&key), id(&key));
        let finish = {
            let store = store.clone();
            move || -> BoxFuture<'static, _> {
                Box::pin(async move { store.finish(id, lease.fence, done(b"first")).await })
            }
        };
        let takeover = move || -> BoxFuture<'static, _> { Box::pin(async move { other.claim(claim).await }) };
        let (finished, claimed) = both(finish, takeover).await?;
        let state = must_read(&store, id).await?.state.name();
        let told = (&finished, &claimed.ruling, state);
        let whole = matches!(
            told,
            (
                Finished::Applied { .. },
                Ruling::Refused(Refusal::Done { .. }),
                StateName::Done
            ) | (Finished::Fenced { .. }, Ruling::Won(_), StateName::Running)
        );
        ensure!(whole, "a finish raced with a takeover in round {round}: {told:?}");
    }
    Ok(())
}

pub(super) async fn a_sweep_never_takes_a_claim_away(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    for round in 0..32 {
        let key = format!("k{round}");
        exam.run(&store, &key, release()).await?;
        exam.time.pass(MAX_RUN + REPLAY_FOR);
        let (sweeper, claim) = (other.clone(), exam.ask(&key));
        let sweep = move || -> BoxFuture<'static, _> { Box::pin(async move { sweeper.sweep(1000).await }) };
        let claimer = store.clone();
        let claim = move || -> BoxFuture<'static, _> { Box::pin(async move { claimer.claim(claim).await }) };
        let (_, claimed) = both(sweep, claim).await?;
        holds(&store, &key, won(claimed)?.fence, "swept").await?;
    }
    Ok(())
}

pub(super) async fn forgetting_never_takes_a_claim_away(exam: Exam) -> Checked {
    let [store, other] = handles(&exam).await?;
    for round in 0..32 {
        let key = format!("k{round}");
        exam.run(&store, &key, release()).await?;
        let (person, id, claim) = (other.clone(), id(&key), exam.ask(&key));
        let forget = move || -> BoxFuture<'static, _> {
            Box::pin(async move { person.amend(id, amendment(FORGET_EVEN_UNKNOWN)).await })
        };
        let claimer = store.clone();
        let claim = move || -> BoxFuture<'static, _> { Box::pin(async move { claimer.claim(claim).await }) };
        let (amended, claimed) = both(forget, claim).await?;
        let expected = matches!(amended, Amended::Forgotten | Amended::Refused(StateName::Running));
        ensure!(expected, "forgetting raced with a claim in round {round}: {amended:?}");
        holds(&store, &key, won(claimed)?.fence, "forgotten").await?;
    }
    Ok(())
}

/// The winner of a race must still be the record's holder.
async fn holds(store: &Arc<dyn Store>, key: &str, fence: Fence, done_to_it: &str) -> Checked {
    let record = must_read(store, id(key)).await?;
    let held = record.fence == fence && matches!(record.state, State::Running { .. });
    ensure!(
        held,
        "a claim won with fence {fence} while {key} was {done_to_it}, but the record is {record:?}"
    );
    applied(store.finish(id(key), fence, done(b"made")).await?)?;
    Ok(())
}

pub(super) async fn many_finishes_of_one_run_agree(exam: Exam) -> Checked {
    let handles = handles(&exam).await?;
    for round in 0..8 {
        let key = format!("k{round}");
        let lease = exam.win(&handles[0], &key).await?;
        let mut finishers = JoinSet::new();
        for number in 0..16_u8 {
            let (store, id) = (handles[usize::from(number) % 2].clone(), id(&key));
            finishers.spawn(async move { (number, store.finish(id, lease.fence, done(&[number])).await) });
        }
        let mut applied = Vec::new();
        let mut told = Vec::new();
        while let Some(result) = finishers.join_next().await {
            let (number, finished) = result.map_err(|error| Failure(error.to_string()))?;
            match finished? {
                Finished::Applied { .. } => applied.push(number),
                Finished::Already { record, .. } => told.push(record.state),
                other => return Err(Failure(format!("the holder's finish got {other:?}"))),
            }
        }
        ensure_eq!(applied.len(), 1, "finishes that applied in round {round}");
        let state = done(&[applied[0]]).state(exam.now());
        let agree = told.iter().all(|told| *told == state);
        ensure!(
            agree,
            "the other finishers must be told the first one's answer, but got {told:?}"
        );
        ensure_eq!(must_read(&handles[1], id(&key)).await?.state, state, "the record");
    }
    Ok(())
}
