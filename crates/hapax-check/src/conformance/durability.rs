//! Cases: what is still there when every handle was closed.

use hapax_core::{Amend, DeadReason, Filter, Refusal, Take};

use super::exam::*;

pub(super) async fn everything_is_there_after_reopening(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let situations = exam.every_state(&store, "k").await?;
    let mut before = Vec::new();
    for situation in &situations {
        before.push(must_read(&store, situation.id()).await?);
    }
    let listed = store.list(Filter::default(), None, 100).await?;
    drop(store);
    let store = exam.open().await?;
    for (situation, before) in situations.iter().zip(&before) {
        let after = must_read(&store, situation.id()).await?;
        ensure_eq!(&after, before, "after reopening, the record that is {}", situation.name);
    }
    let again = store.list(Filter::default(), None, 100).await?;
    ensure_eq!(again, listed, "the listing after reopening");
    for index in [0, 1] {
        let text = format!("conformance {}", index + 1);
        let known = store.recipe_text(exam.recipe(index)).await?;
        ensure_eq!(known, Some(text), "a recipe after reopening");
    }
    Ok(())
}

pub(super) async fn what_is_laid_taken_and_amended_is_there_after_reopening(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let laid = exam.lay("laid");
    accepted(store.enqueue(exam.lay("taken")).await?)?;
    let take = exam.take();
    let taken = store.take(take.clone()).await?;
    exam.run(&store, "dead", dead(DeadReason::Refused)).await?;
    let redriven = became(store.amend(id("dead"), amendment(Amend::Redrive)).await?)?;
    accepted(store.enqueue(laid.clone()).await?)?;
    let waits = must_read(&store, id("laid")).await?;
    let audit = store.audit(None, None, 10).await?;
    let census = store.census(true).await?;
    drop(store);
    let store = exam.open().await?;
    ensure_eq!(must_read(&store, id("laid")).await?, waits, "what was laid");
    ensure_eq!(must_read(&store, id("dead")).await?, redriven, "what was redriven");
    ensure_eq!(store.audit(None, None, 10).await?, audit, "the audit");
    ensure_eq!(store.census(true).await?, census, "the census");
    accepted(store.enqueue(laid).await?)?;
    ensure_eq!(must_read(&store, id("laid")).await?, waits, "what was laid before");
    let again = Take {
        again: true,
        limit: 1,
        ..take
    };
    ensure_eq!(store.take(again).await?.work, taken.work, "the runner's repeated take");
    let fence = to_run(&taken)[0].1.fence;
    applied(store.finish(id("taken"), fence, done(b"made")).await?)?;
    let keys = keys_of(&store.take(exam.take()).await?);
    ensure_eq!(keys, ["laid"], "what is to be run next");
    Ok(())
}

pub(super) async fn a_reopened_store_goes_on(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let claim = exam.ask("held");
    let lease = won(store.claim(claim.clone()).await?)?;
    let made = exam.run(&store, "made", done(b"made")).await?;
    drop(store);
    exam.time.pass(TICK);
    let store = exam.open().await?;
    ensure_eq!(won(store.claim(claim).await?)?, lease, "the holder's repeated claim");
    let told = refused(store.claim(exam.ask("held")).await?)?;
    ensure!(
        matches!(told, Refusal::InProgress { .. }),
        "a duplicate of what is held: {told:?}"
    );
    let told = refused(store.claim(exam.ask("made")).await?)?;
    ensure!(
        matches!(told, Refusal::Done { .. }),
        "a duplicate of what is done: {told:?}"
    );
    let fresh = exam.win(&store, "fresh").await?;
    ensure!(fresh.fence > made.fence, "fence {} after {}", fresh.fence, made.fence);
    applied(store.finish(id("held"), lease.fence, done(b"held")).await?)?;
    drop(store);
    let store = exam.open().await?;
    let state = must_read(&store, id("held")).await?.state;
    ensure_eq!(state, done(b"held").state(exam.now()), "the finish after reopening");
    Ok(())
}
