//! Cases: recipes, secret, time.

use std::time::Duration;

use hapax_core::RecipeId;
use hapax_store::Clock;

use super::Failure;
use super::exam::*;

pub(super) async fn a_recipe_has_one_number_for_ever(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let long = "x".repeat(20_000);
    let texts = ["a", "A", "ä '\"\\%_\u{1F600}", "", long.as_str()];
    let mut numbers = Vec::new();
    for text in texts {
        let number = store.recipe(text.into()).await?;
        ensure!(
            !numbers.contains(&number),
            "{text:?} has the number of another text: {number:?}"
        );
        numbers.push(number);
    }
    let third = exam.open().await?;
    for (text, number) in texts.into_iter().zip(numbers.iter().copied()) {
        for store in [&store, &other, &third] {
            ensure_eq!(store.recipe(text.into()).await?, number, "the number of {text:.20?}");
            ensure_eq!(
                store.recipe_text(number).await?.as_deref(),
                Some(text),
                "the text of {number:?}"
            );
        }
    }
    for number in [0, 1_000_000, u32::MAX] {
        let text = store.recipe_text(RecipeId::new(number)).await?;
        ensure_eq!(text, None, "the text of a number never given out, {number}");
    }
    Ok(())
}

pub(super) async fn racing_for_a_new_recipe_gives_one_number(exam: Exam) -> Checked {
    let handles = [exam.open().await?, exam.open().await?];
    for round in 0..8 {
        let mut racers = tokio::task::JoinSet::new();
        for number in 0..16 {
            let store = handles[number % 2].clone();
            racers.spawn(async move { store.recipe(format!("new {round}")).await });
        }
        let mut numbers = Vec::new();
        while let Some(number) = racers.join_next().await {
            numbers.push(number.map_err(|error| Failure(error.to_string()))??);
        }
        numbers.dedup();
        ensure_eq!(numbers.len(), 1, "numbers given to one text: {numbers:?}");
    }
    Ok(())
}

pub(super) async fn the_secret_is_the_same_for_every_handle(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let secret = store.secret();
    ensure!(secret != [0; 32], "the secret is empty");
    ensure_eq!(exam.open().await?.secret(), secret, "the secret of a second handle");
    drop(store);
    ensure_eq!(exam.open().await?.secret(), secret, "the secret after reopening");
    Ok(())
}

pub(super) async fn the_time_never_runs_backwards(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let start = exam.now();
    let lease = exam.win(&store, "k").await?;
    exam.time.jump(-60_000);
    ensure_eq!(
        store.time(false).await?,
        (start, None),
        "the time after the clock was set back"
    );
    let told = store.claim(exam.ask("k")).await?;
    ensure_eq!(told.now, start, "the time of a claim after the clock was set back");
    exam.time.pass(Duration::from_secs(10));
    ensure_eq!(
        store.time(false).await?.0,
        start,
        "the time until the clock has caught up"
    );
    exam.time.jump(60_000);
    ensure_eq!(
        store.time(false).await?.0,
        start.after(Duration::from_secs(10)),
        "the time once it has"
    );
    exam.time.pass_until(lease.deadline);
    let told = refused(store.claim(exam.ask("k")).await?)?;
    ensure!(
        matches!(told, hapax_core::Refusal::Unknown { .. }),
        "after the lease: {told:?}"
    );
    Ok(())
}

pub(super) async fn a_corrected_clock_takes_no_time_back(exam: Exam) -> Checked {
    for jump in [-400_000, 400_000] {
        let store = exam.open().await?;
        let start = store.time(false).await?.0;
        exam.time.jump(jump);
        store.time(false).await?;
        exam.time.pass(Duration::from_secs(50));
        let before = store.time(false).await?.0;
        ensure_eq!(
            before,
            start.after(Duration::from_secs(50)),
            "the time at the monotonic pace"
        );
        // Set right, but not quite: forty seconds behind what the store has given out.
        exam.time.jump(-jump - 40_000);
        let told = store.claim(exam.ask(&format!("k{jump}"))).await?;
        ensure_eq!(told.now, before, "the time of a claim once the clock was set right");
        exam.time.pass(Duration::from_secs(50));
        let after = store.time(false).await?.0;
        ensure_eq!(
            after,
            start.after(Duration::from_secs(60)),
            "the time once the clock has caught up"
        );
    }
    Ok(())
}

pub(super) async fn a_jump_is_not_followed_until_accepted(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let start = exam.now();
    exam.win(&store, "k").await?;
    let step = Clock::DEFAULT_MAX_STEP + TICK;
    exam.time.jump(step.as_millis() as i64);
    ensure_eq!(
        store.time(false).await?,
        (start, Some(step)),
        "the time after a jump too large to follow"
    );
    let told = refused(store.claim(exam.ask("k")).await?)?;
    ensure!(
        matches!(told, hapax_core::Refusal::InProgress { .. }),
        "nothing lapses by a jump, but: {told:?}"
    );
    exam.time.pass(TICK);
    ensure_eq!(
        store.time(false).await?.0,
        start.after(TICK),
        "the time goes on at the monotonic pace"
    );
    ensure_eq!(
        store.time(true).await?,
        (exam.now(), None),
        "the time after the jump was accepted"
    );
    let told = refused(store.claim(exam.ask("k")).await?)?;
    ensure!(
        matches!(told, hapax_core::Refusal::Unknown { .. }),
        "after the accepted jump: {told:?}"
    );
    Ok(())
}
