//! The cases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hapax_core::{Claim, Claimed, Enqueued, Finished, Refusal, Ruling, StateName};
use hapax_store::joined::{Fault, Held, JointError};

use super::super::exam::*;
use super::{HASTY, Link, Meeting, PATIENT, World, begin, insert};
use crate::conformance::Failure;

pub(super) async fn a_commit_is_seen_by_everybody(world: World) -> Checked {
    let mut link = world.begin().await?;
    let claim = world.exam.ask("k");
    let lease = won(world.joint.claim(&mut *link, &claim).await?)?;
    link.execute(&insert("k")).await?;
    applied(
        world
            .joint
            .finish(&mut *link, id("k"), lease.fence, &done(b"made"))
            .await?,
    )?;
    ensure!(read(&world.store, id("k")).await?.is_none(), "seen before the commit");
    let (_, own) = world.joint.read(&mut *link, id("k")).await?;
    ensure!(own.is_some(), "not seen by the transaction itself");
    link.execute("COMMIT").await?;

    let record = must_read(&world.store, id("k")).await?;
    ensure_eq!(record.state.name(), StateName::Done, "the state");
    ensure_eq!(record.fence, lease.fence, "the fence");
    ensure!(world.business("k").await?, "the business row is missing");
    let refusal = refused(world.store.claim(world.exam.ask("k")).await?)?;
    ensure!(matches!(refusal, Refusal::Done { .. }), "the store says {refusal:?}");
    Ok(())
}

pub(super) async fn a_rollback_leaves_nothing(world: World) -> Checked {
    let mut link = world.begin().await?;
    let lease = won(world.joint.claim(&mut *link, &world.exam.ask("k")).await?)?;
    link.execute(&insert("k")).await?;
    applied(
        world
            .joint
            .finish(&mut *link, id("k"), lease.fence, &done(b"made"))
            .await?,
    )?;
    link.execute("ROLLBACK").await?;
    ensure!(read(&world.store, id("k")).await?.is_none(), "a record is left");
    ensure!(!world.business("k").await?, "a business row is left");
    let again = world.exam.win(&world.store, "k").await?;
    ensure!(again.deadline > world.exam.now(), "the lease is over");
    Ok(())
}

pub(super) async fn a_lost_connection_leaves_nothing(world: World) -> Checked {
    let mut link = world.begin().await?;
    let lease = won(world.joint.claim(&mut *link, &world.exam.ask("k")).await?)?;
    link.execute(&insert("k")).await?;
    applied(
        world
            .joint
            .finish(&mut *link, id("k"), lease.fence, &done(b"made"))
            .await?,
    )?;
    drop(link);
    // Waits for the server to notice.
    world.exam.win(&world.store, "k").await?;
    ensure!(!world.business("k").await?, "a business row is left");
    Ok(())
}

pub(super) async fn a_duplicate_is_given_the_first_answer(world: World) -> Checked {
    commit(&world, "k").await?;
    let mut link = world.begin().await?;
    let refusal = refused(world.joint.claim(&mut *link, &world.exam.ask("k")).await?)?;
    let expected = Refusal::Done {
        at: world.exam.now(),
        outcome: hapax_core::Outcome::Answer(answer(201, b"made")),
    };
    ensure_eq!(refusal, expected, "the duplicate's answer");
    Ok(())
}

pub(super) async fn a_mismatch_is_told(world: World) -> Checked {
    commit(&world, "k").await?;
    let mut link = world.begin().await?;
    let other = Claim {
        fingerprint: world.exam.payload(2),
        ..world.exam.ask("k")
    };
    let refusal = refused(world.joint.claim(&mut *link, &other).await?)?;
    ensure_eq!(refusal, Refusal::Mismatch, "another payload");
    Ok(())
}

pub(super) async fn a_claim_waits_for_anothers_and_is_refused(world: World) -> Checked {
    let mut first = world.begin().await?;
    let lease = won(world.joint.claim(&mut *first, &world.exam.ask("k")).await?)?;
    let second = claim_beside(&world, "k");
    until_waiting(&world, 1).await?;
    applied(
        world
            .joint
            .finish(&mut *first, id("k"), lease.fence, &done(b"made"))
            .await?,
    )?;
    first.execute("COMMIT").await?;

    let refusal = match (world.place.meeting(), second.await) {
        (Meeting::Conflicts, Ok(Err(error))) => {
            ensure_eq!(error.fault(), Fault::Conflict, "the fault of {error}");
            let mut again = world.begin().await?;
            refused(world.joint.claim(&mut *again, &world.exam.ask("k")).await?)?
        }
        (Meeting::Conflicts, other) => return Err(Failure(format!("no conflict: {other:?}"))),
        (_, Ok(claimed)) => refused(claimed?)?,
        (_, Err(error)) => return Err(Failure(error.to_string())),
    };
    ensure!(
        matches!(refusal, Refusal::Done { .. }),
        "the second is told {refusal:?}"
    );
    Ok(())
}

pub(super) async fn a_claim_waits_for_anothers_and_wins_after_its_rollback(world: World) -> Checked {
    let mut first = world.begin().await?;
    won(world.joint.claim(&mut *first, &world.exam.ask("k")).await?)?;
    let second = claim_beside(&world, "k");
    until_waiting(&world, 1).await?;
    first.execute("ROLLBACK").await?;
    let claimed = second.await.map_err(|error| Failure(error.to_string()))??;
    won(claimed)?;
    must_read(&world.store, id("k")).await?;
    Ok(())
}

pub(super) async fn a_claim_waits_no_longer_than_it_is_told(world: World) -> Checked {
    let mut first = world.begin().await?;
    won(world.joint.claim(&mut *first, &world.exam.ask("k")).await?)?;
    let second = async {
        let mut link = begin(&*world.place, HASTY).await?;
        world.joint.claim(&mut *link, &world.exam.ask("k")).await
    };
    match second.await {
        Err(error) => ensure_eq!(error.fault(), Fault::Busy, "the fault of {error}"),
        Ok(claimed) => return Err(Failure(format!("it did not wait: {claimed:?}"))),
    }
    first.execute("COMMIT").await?;
    Ok(())
}

pub(super) async fn a_lapsed_claim_is_taken_over_once(world: World) -> Checked {
    let before = won(world.store.claim(world.exam.ask_retried("k")).await?)?;
    world.exam.time.pass(LEASE);
    let mut first = world.begin().await?;
    let claim = world.exam.ask_retried("k");
    let lease = won(world.joint.claim(&mut *first, &claim).await?)?;
    ensure!(
        lease.fence > before.fence,
        "fence {} after {}",
        lease.fence,
        before.fence
    );
    ensure_eq!(lease.deadline, world.exam.now().after(LEASE), "the deadline");
    let second = claim_beside(&world, "k");
    until_waiting(&world, 1).await?;
    first.execute("COMMIT").await?;
    match (
        world.place.meeting(),
        second.await.map_err(|error| Failure(error.to_string()))?,
    ) {
        (Meeting::Conflicts, Err(error)) => ensure_eq!(error.fault(), Fault::Conflict, "the fault of {error}"),
        (_, claimed) => {
            let refusal = refused(claimed?)?;
            ensure!(
                matches!(refusal, Refusal::InProgress { .. }),
                "the second is told {refusal:?}"
            );
        }
    }
    let record = must_read(&world.store, id("k")).await?;
    ensure_eq!(record.fence, lease.fence, "the holder");
    ensure_eq!(record.attempt, claim.attempt, "the attempt");
    Ok(())
}

pub(super) async fn a_lapse_in_hold_mode_is_written(world: World) -> Checked {
    world.exam.win(&world.store, "k").await?;
    world.exam.time.pass(LEASE);
    let mut link = world.begin().await?;
    let refusal = refused(world.joint.claim(&mut *link, &world.exam.ask("k")).await?)?;
    ensure!(matches!(refusal, Refusal::Unknown { .. }), "it is told {refusal:?}");
    link.execute("COMMIT").await?;
    let record = must_read(&world.store, id("k")).await?;
    ensure_eq!(record.state.name(), StateName::Unknown, "the state");
    Ok(())
}

pub(super) async fn a_stale_fence_finishes_nothing(world: World) -> Checked {
    let stale = won(world.store.claim(world.exam.ask_retried("k")).await?)?;
    world.exam.time.pass(LEASE);
    let current = won(world.store.claim(world.exam.ask_retried("k")).await?)?;
    let before = must_read(&world.store, id("k")).await?;
    let mut link = world.begin().await?;
    link.execute(&insert("k")).await?;
    match world
        .joint
        .finish(&mut *link, id("k"), stale.fence, &done(b"late"))
        .await?
    {
        Finished::Fenced { record, .. } => {
            ensure_eq!(
                record.map(|record| record.fence),
                Some(current.fence),
                "the fence shown"
            );
        }
        other => return Err(Failure(format!("a stale fence got {other:?}"))),
    }
    link.execute("COMMIT").await?;
    ensure_eq!(must_read(&world.store, id("k")).await?, before, "the record");
    Ok(())
}

pub(super) async fn a_savepoint_takes_back_the_business_and_keeps_the_claim(world: World) -> Checked {
    let mut link = world.begin().await?;
    let lease = won(world.joint.claim(&mut *link, &world.exam.ask("k")).await?)?;
    link.execute("SAVEPOINT business").await?;
    link.execute(&insert("k")).await?;
    // A statement that fails, too: on PostgreSQL nothing goes on without the savepoint.
    if link.execute(&insert("k")).await.is_ok() {
        return Err(Failure("two rows with one key".into()));
    }
    link.execute("ROLLBACK TO SAVEPOINT business").await?;
    applied(
        world
            .joint
            .finish(&mut *link, id("k"), lease.fence, &done(b"no"))
            .await?,
    )?;
    link.execute("COMMIT").await?;
    ensure!(!world.business("k").await?, "a business row is left");
    let record = must_read(&world.store, id("k")).await?;
    ensure_eq!(record.state.name(), StateName::Done, "the state");
    Ok(())
}

pub(super) async fn a_repeated_claim_wins_again(world: World) -> Checked {
    let claim = world.exam.ask("k");
    let mut link = world.begin().await?;
    let first = won(world.joint.claim(&mut *link, &claim).await?)?;
    let again = won(world.joint.claim(&mut *link, &claim).await?)?;
    ensure_eq!(again, first, "in the same transaction");
    link.execute("COMMIT").await?;
    // The answer to the commit was lost, say.
    let mut link = world.begin().await?;
    let again = won(world.joint.claim(&mut *link, &claim).await?)?;
    ensure_eq!(again, first, "in the next transaction");
    applied(
        world
            .joint
            .finish(&mut *link, id("k"), first.fence, &done(b"made"))
            .await?,
    )?;
    link.execute("COMMIT").await?;
    let mut link = world.begin().await?;
    let refusal = refused(world.joint.claim(&mut *link, &claim).await?)?;
    ensure!(
        matches!(refusal, Refusal::Done { .. }),
        "once done it is told {refusal:?}"
    );
    Ok(())
}

pub(super) async fn a_second_finish_changes_nothing(world: World) -> Checked {
    let fence = commit(&world, "k").await?;
    let before = must_read(&world.store, id("k")).await?;
    let mut link = world.begin().await?;
    match world.joint.finish(&mut *link, id("k"), fence, &done(b"other")).await? {
        Finished::Already { record, .. } => ensure_eq!(*record, before, "the record shown"),
        other => return Err(Failure(format!("a second finish got {other:?}"))),
    }
    link.execute("COMMIT").await?;
    ensure_eq!(must_read(&world.store, id("k")).await?, before, "the record");
    Ok(())
}

pub(super) async fn an_enqueued_operation_is_taken_after_the_commit(world: World) -> Checked {
    let mut link = world.begin().await?;
    let lay = world.exam.lay("k");
    for round in ["at first", "repeated"] {
        accepted(world.joint.enqueue(&mut *link, &lay).await?)
            .map_err(|failure| Failure(format!("{round}: {failure}")))?;
    }
    // Where there is one writer, nobody can take meanwhile.
    if world.place.meeting() != Meeting::Queues {
        let taken = world.store.take(world.exam.take()).await?;
        ensure!(taken.work.is_empty(), "taken before the commit: {taken:?}");
    }
    link.execute("COMMIT").await?;
    let taken = world.store.take(world.exam.take()).await?;
    ensure_eq!(keys_of(&taken), ["k"], "what is taken");
    let input = to_run(&taken).first().and_then(|(record, _)| record.input.clone());
    ensure_eq!(input, Some(lay.input), "the input");
    Ok(())
}

pub(super) async fn an_enqueue_is_decided_on_the_record(world: World) -> Checked {
    commit(&world, "done").await?;
    // One that was released waits for an arrival, and takes the input.
    world.exam.run(&world.store, "released", release()).await?;
    let mut link = world.begin().await?;
    let Enqueued { refusal, .. } = world.joint.enqueue(&mut *link, &world.exam.lay("done")).await?;
    ensure!(
        matches!(refusal, Some(Refusal::Done { .. })),
        "of what is done: {refusal:?}"
    );
    accepted(world.joint.enqueue(&mut *link, &world.exam.lay("released")).await?)?;
    link.execute("COMMIT").await?;
    let taken = world.store.take(world.exam.take()).await?;
    ensure_eq!(keys_of(&taken), ["released"], "what is taken");
    Ok(())
}

pub(super) async fn a_held_run_cannot_be_taken_over(world: World) -> Checked {
    let lease = won(world.store.claim(world.exam.ask_retried("k")).await?)?;
    let mut holder = world.begin().await?;
    match world.joint.hold(&mut *holder, id("k"), lease.fence).await? {
        Held::Yes { lease: held, .. } => ensure_eq!(held, lease, "the lease"),
        fenced => return Err(Failure(format!("the holder is told {fenced:?}"))),
    }
    world.exam.time.pass(LEASE);
    let next = claim_beside(&world, "k");
    until_waiting(&world, 1).await?;
    applied(
        world
            .joint
            .finish(&mut *holder, id("k"), lease.fence, &done(b"made"))
            .await?,
    )?;
    holder.execute("COMMIT").await?;
    match (
        world.place.meeting(),
        next.await.map_err(|error| Failure(error.to_string()))?,
    ) {
        (Meeting::Conflicts, Err(error)) => ensure_eq!(error.fault(), Fault::Conflict, "the fault of {error}"),
        (_, claimed) => {
            let refusal = refused(claimed?)?;
            ensure!(matches!(refusal, Refusal::Done { .. }), "the next is told {refusal:?}");
        }
    }
    let mut late = world.begin().await?;
    let held = world.joint.hold(&mut *late, id("k"), lease.fence).await?;
    ensure!(
        matches!(held, Held::Fenced { record: Some(_), .. }),
        "once done: {held:?}"
    );
    Ok(())
}

pub(super) async fn a_step_says_what_it_was_about(world: World) -> Checked {
    let mut link = world.place.connect().await?;
    for statement in world.place.begin(PATIENT) {
        link.execute(&statement).await?;
    }
    link.execute("ALTER TABLE hapax_record RENAME TO gone").await?;
    let error = match world.joint.claim(&mut *link, &world.exam.ask("k")).await {
        Err(error) => error,
        Ok(claimed) => return Err(Failure(format!("claimed without a table: {claimed:?}"))),
    };
    link.execute("ROLLBACK").await?;
    ensure_eq!(error.kind(), hapax_core::StoreErrorKind::Schema, "the kind of {error}");
    let text = error.to_string();
    for part in [&format!("claim {}", id("k")), "hapax_record", "`hapax migrate`"] {
        ensure!(text.contains(part), "the error does not say {part:?}: {text}");
    }
    Ok(())
}

/// Claims and finishes `key` in one transaction; gives its fence.
async fn commit(world: &World, key: &str) -> Checked<hapax_core::Fence> {
    let mut link = world.begin().await?;
    let lease = won(world.joint.claim(&mut *link, &world.exam.ask(key)).await?)?;
    applied(
        world
            .joint
            .finish(&mut *link, id(key), lease.fence, &done(b"made"))
            .await?,
    )?;
    link.execute("COMMIT").await?;
    Ok(lease.fence)
}

/// Another transaction that claims `key` and commits, under way.
fn claim_beside(world: &World, key: &str) -> tokio::task::JoinHandle<Result<Claimed, JointError>> {
    let (place, joint, claim) = (
        Arc::clone(&world.place),
        world.joint.clone(),
        world.exam.ask_retried(key),
    );
    tokio::spawn(async move {
        let mut link: Box<dyn Link> = begin(&*place, PATIENT).await?;
        let claimed = joint.claim(&mut *link, &claim).await?;
        if matches!(claimed.ruling, Ruling::Won(_)) {
            link.execute("COMMIT").await?;
        }
        Ok(claimed)
    })
}

/// Until so many transactions wait for a lock.
async fn until_waiting(world: &World, count: usize) -> Checked {
    if world.place.meeting() == Meeting::Queues {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENT;
    while world.place.waiting() < count {
        ensure!(Instant::now() < deadline, "nobody waits for the lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
