//! Cases: a person's correction, and fences across everything.

use hapax_core::{Amended, Fence, Finish, StateName};

use super::exam::*;

pub(super) async fn forgetting_is_refused_while_it_runs(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let lease = exam.win(&store, "k").await?;
    won(store.claim(exam.ask_retried("retried")).await?)?;
    for amend in [FORGET, FORGET_EVEN_UNKNOWN] {
        for key in ["k", "retried"] {
            let amended = store.amend(id(key), amendment(amend.clone())).await?;
            ensure_eq!(
                amended,
                Amended::Refused(StateName::Running),
                "{amend:?} of {key}, which runs"
            );
        }
    }
    applied(store.finish(id("k"), lease.fence, done(b"made")).await?)?;
    exam.time.pass(LEASE);
    let amended = store.amend(id("retried"), amendment(FORGET_EVEN_UNKNOWN)).await?;
    ensure_eq!(
        amended,
        Amended::Refused(StateName::Running),
        "forgetting a run that lapsed in retry mode"
    );
    Ok(())
}

pub(super) async fn forgetting_an_unknown_outcome_takes_a_word(exam: Exam) -> Checked {
    let store = exam.open().await?;
    exam.run(&store, "ambiguous", doubt(None)).await?;
    exam.win(&store, "lapsed").await?;
    exam.win(&store, "lapsed-unnoticed").await?;
    exam.time.pass(LEASE);
    refused(store.claim(exam.ask("lapsed")).await?)?;
    for key in ["ambiguous", "lapsed", "lapsed-unnoticed"] {
        let amended = store.amend(id(key), amendment(FORGET)).await?;
        ensure_eq!(amended, Amended::Refused(StateName::Unknown), "forgetting {key}");
        must_read(&store, id(key)).await?;
        let amended = store.amend(id(key), amendment(FORGET_EVEN_UNKNOWN)).await?;
        ensure_eq!(
            amended,
            Amended::Forgotten,
            "forgetting {key} even though it is unknown"
        );
        ensure_eq!(read(&store, id(key)).await?, None, "the record {key}");
    }
    Ok(())
}

pub(super) async fn ended_and_waiting_records_can_be_forgotten(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (key, finish) in endings() {
        if matches!(finish, Finish::Unknown { .. }) {
            continue;
        }
        exam.run(&store, key, finish).await?;
        ensure_eq!(
            store.amend(id(key), amendment(FORGET)).await?,
            Amended::Forgotten,
            "forgetting {key}"
        );
        ensure_eq!(
            store.amend(id(key), amendment(FORGET)).await?,
            Amended::Absent,
            "forgetting {key} twice"
        );
        ensure_eq!(read(&store, id(key)).await?, None, "the record {key}");
    }
    Ok(())
}

pub(super) async fn a_forgotten_key_runs_again(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let old = exam.run(&store, "k", done(b"first")).await?;
    ensure_eq!(
        store.amend(id("k"), amendment(FORGET)).await?,
        Amended::Forgotten,
        "forgetting"
    );
    exam.time.pass(TICK);
    let mut claim = exam.ask("k");
    claim.fingerprint = exam.payload(9);
    let new = won(store.claim(claim).await?)?;
    ensure!(new.fence > old.fence, "fence {} after {}", new.fence, old.fence);
    ensure_eq!(must_read(&store, id("k")).await?.created, exam.now(), "created");
    let stale = store.finish(id("k"), old.fence, done(b"stale")).await?;
    ensure!(
        matches!(stale, hapax_core::Finished::Fenced { .. }),
        "the forgotten run's finish got {stale:?}"
    );
    Ok(())
}

pub(super) async fn fences_only_grow_whatever_happens(exam: Exam) -> Checked {
    let mut last = Fence::new(0);
    for round in 0..4 {
        // Each round is a process of its own with two handles; the next one finds the data closed.
        let handles = [exam.open().await?, exam.open().await?];
        for (number, store) in handles.iter().cycle().take(10).enumerate() {
            let key = format!("k{}", number % 4);
            let lease = won(store.claim(exam.ask(&key)).await?)?;
            ensure!(
                lease.fence > last,
                "round {round}, claim {number}: fence {} after {last}",
                lease.fence
            );
            last = lease.fence;
            applied(store.finish(id(&key), lease.fence, done(b"made")).await?)?;
            if number % 2 == 0 {
                ensure_eq!(
                    store.amend(id(&key), amendment(FORGET)).await?,
                    Amended::Forgotten,
                    "forgetting {key}"
                );
            } else {
                exam.time.pass(REMEMBER_FOR + MAX_RUN);
                ensure_eq!(store.sweep(100).await?.forgotten, 1, "forgotten by the sweep");
            }
        }
    }
    Ok(())
}
