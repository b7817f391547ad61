//! Cases: amend and audit.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::record::{AmendVerdict, Record};
use hapax_core::{
    Amend, Amended, Amendment, Audit, AuditEntry, DeadReason, Enqueue, Fence, Finished, Outcome, Resolution, StateName,
    Store, Timestamp,
};

use super::Failure;
use super::exam::*;

fn resolve_done() -> Amend {
    resolve(Resolution::Done(Outcome::Answer(answer(200, b"found"))))
}

fn amends() -> [(&'static str, Amend); 8] {
    [
        ("forget", FORGET),
        ("forget-even-unknown", FORGET_EVEN_UNKNOWN),
        ("done", resolve_done()),
        ("not-done", resolve(Resolution::NotDone)),
        ("dead", resolve(Resolution::Dead)),
        ("redrive", Amend::Redrive),
        ("discard", Amend::Discard),
        ("undo", Amend::Undo),
    ]
}

async fn audit_of(store: &Arc<dyn Store>, record: &Record) -> Checked<Vec<AuditEntry>> {
    let (entries, _) = store.audit(Some(record.operation.id()), None, 100).await?;
    Ok(entries)
}

/// Amends, and compares the answer, the record and the audit with what the core decides.
async fn amend_as_decided(
    exam: &Exam,
    store: &Arc<dyn Store>,
    before: &Record,
    amendment: Amendment,
    what: &str,
) -> Checked {
    let id = before.operation.id();
    let audit_before = audit_of(store, before).await?;
    let amended = store.amend(id, amendment.clone()).await?;
    let (fence, after) = match &amended {
        Amended::Became(record) => (record.fence, Some(record.state.name())),
        _ => (Fence::new(0), None),
    };
    let (expected, record) = match before.amend(&amendment, fence, exam.now()) {
        AmendVerdict::Forget => (Amended::Forgotten, None),
        AmendVerdict::Becomes(record) => {
            ensure!(fence > before.fence, "no new fence for {what}");
            (Amended::Became(record.clone()), Some(*record))
        }
        AmendVerdict::Refuse(state) => (Amended::Refused(state), Some(before.clone())),
        AmendVerdict::Changed(state) => (Amended::Changed(state), Some(before.clone())),
        AmendVerdict::Unsettled(until) => (Amended::Unsettled(until), Some(before.clone())),
    };
    ensure_eq!(amended, expected, "the answer to {what}");
    ensure_eq!(read(store, id).await?, record, "the record after {what}");
    let mut audit = audit_before;
    if matches!(amended, Amended::Forgotten | Amended::Became(_)) {
        let shown = before.lapsed(exam.now());
        audit.push(AuditEntry {
            at: exam.now(),
            operation: before.operation.clone(),
            action: amendment.amend.as_str().to_owned(),
            audit: amendment.audit,
            before: shown.as_ref().unwrap_or(before).state.name(),
            after,
        });
    }
    ensure_eq!(audit_of(store, before).await?, audit, "the audit after {what}");
    Ok(())
}

pub(super) async fn each_amendment_in_every_state_does_as_the_core_says(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (name, amend) in amends() {
        for (number, situation) in exam.every_state(&store, name).await?.iter().enumerate() {
            let before = must_read(&store, situation.id()).await?;
            let guarded = |fence| Amendment {
                fence,
                ..amendment(amend.clone())
            };
            let what = format!("{name} on what is {}", situation.name);
            for wrong in [Fence::new(0), fence_after(before.fence)] {
                let what = format!("{what}, decided on another fence");
                amend_as_decided(&exam, &store, &before, guarded(Some(wrong)), &what).await?;
            }
            let right = Some(before.fence).filter(|_| number % 2 == 0);
            amend_as_decided(&exam, &store, &before, guarded(right), &what).await?;
        }
    }
    let absent = store.amend(id("nothing"), amendment(Amend::Redrive)).await?;
    ensure_eq!(absent, Amended::Absent, "an amendment of what was never asked for");
    Ok(())
}

pub(super) async fn not_done_counts_once_it_is_settled(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let start = exam.now();
    let not_done = || amendment(resolve(Resolution::NotDone));
    exam.run(&store, "ambiguous", doubt(None)).await?;
    let lapses = exam.win(&store, "lapsed").await?.deadline;
    for (key, since) in [("ambiguous", start), ("lapsed", lapses)] {
        exam.time.pass_until(since.after(SETTLE - TICK));
        let early = store.amend(id(key), not_done()).await?;
        let until = since.after(SETTLE);
        ensure_eq!(
            early,
            Amended::Unsettled(until),
            "not done of {key}, a millisecond early"
        );
        exam.time.pass(TICK);
        let record = became(store.amend(id(key), not_done()).await?)?;
        ensure_eq!(record.state.name(), StateName::Waiting, "{key}, not done");
        exam.win(&store, key).await?;
    }
    Ok(())
}

pub(super) async fn a_stale_attempt_finishes_nothing_after_an_amendment(exam: Exam) -> Checked {
    let store = exam.open().await?;
    for (key, finish, amend) in [
        ("redriven", dead(DeadReason::Exhausted), Amend::Redrive),
        ("discarded", dead(DeadReason::Exhausted), Amend::Discard),
        ("done after all", dead(DeadReason::Exhausted), resolve_done()),
        ("done", doubt(None), resolve_done()),
        ("not done", doubt(None), resolve(Resolution::NotDone)),
        ("dead", doubt(None), resolve(Resolution::Dead)),
    ] {
        let stale = exam.run(&store, key, finish).await?;
        exam.time.pass(SETTLE);
        let record = became(store.amend(id(key), amendment(amend)).await?)?;
        for (name, late) in endings() {
            let expected = Finished::Fenced {
                now: exam.now(),
                record: Some(Box::new(record.clone())),
            };
            let told = store.finish(id(key), stale.fence, late).await?;
            ensure_eq!(told, expected, "the stale finish {name} of what is {key}");
        }
        let renewed = store.renew(id(key), stale.fence, LEASE).await?;
        ensure_eq!(renewed, hapax_core::Renewed::Fenced, "a stale renewal of what is {key}");
        ensure_eq!(must_read(&store, id(key)).await?, record, "what is {key}");
    }
    Ok(())
}

pub(super) async fn a_redriven_operation_runs_again_with_all_its_tries(exam: Exam) -> Checked {
    let store = exam.open().await?;
    accepted(store.enqueue(exam.lay("stored")).await?)?;
    let mut deaths = 0;
    for _ in 0..2 {
        while deaths % 6 != 5 {
            let taken = store.take(exam.take()).await?;
            let [(_, lease)] = to_run(&taken)[..] else {
                return Err(Failure(format!("it should be run, but: {taken:?}")));
            };
            deaths += 1;
            ensure_eq!(lease.tries, deaths % 6, "tries");
            applied(store.finish(id("stored"), lease.fence, release()).await?)?;
        }
        deaths += 1;
        let ended = store.take(exam.take()).await?.ended;
        let spent = matches!(&ended[..], [record] if record.state == dead_of(DeadReason::Exhausted));
        ensure!(spent, "after five tries it should be dead, but: {ended:?}");
        exam.time.pass(TICK);
        let record = became(store.amend(id("stored"), amendment(Amend::Redrive)).await?)?;
        ensure_eq!(
            (record.tries, record.redriven),
            (0, Some(exam.now())),
            "tries, redriven"
        );
    }
    exam.run(&store, "plain", dead(DeadReason::Refused)).await?;
    became(store.amend(id("plain"), amendment(Amend::Redrive)).await?)?;
    let keys = keys_of(&store.take(exam.take()).await?);
    ensure_eq!(keys, ["stored"], "what has no input waits for an arrival");
    exam.win(&store, "plain").await?;
    Ok(())
}

fn dead_of(reason: DeadReason) -> hapax_core::State {
    hapax_core::State::Dead { reason, answer: None }
}

pub(super) async fn the_audit_comes_in_pages_and_outlives_its_records(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    ensure_eq!(
        store.audit(None, None, 10).await?,
        (vec![], None),
        "the audit of an empty store"
    );
    let mut expected: Vec<(Timestamp, String)> = Vec::new();
    for number in 0..25 {
        let key = format!("k{}", number % 3);
        exam.run(&store, &key, done(b"made")).await?;
        ensure_eq!(
            store.amend(id(&key), amendment(FORGET)).await?,
            Amended::Forgotten,
            "forgetting"
        );
        expected.push((exam.now(), key));
        // Several in one millisecond, too.
        exam.time.pass(if number % 2 == 0 { TICK } else { Duration::ZERO });
    }
    for (of, limit) in [
        (None, 10),
        (None, 25),
        (None, 0),
        (Some("k1"), 3),
        (Some("k2"), 1000),
        (Some("k9"), 5),
    ] {
        let expected: Vec<_> = expected
            .iter()
            .filter(|(_, key)| of.is_none_or(|of| of == key))
            .collect();
        let (mut got, mut after) = (Vec::new(), None);
        for _ in 0..100 {
            let (entries, next) = other.audit(of.map(id), after, limit).await?;
            ensure!(
                entries.len() <= limit.max(1),
                "{} entries in a page of {limit}",
                entries.len()
            );
            got.extend(
                entries
                    .into_iter()
                    .map(|entry| (entry.at, entry.operation.key().to_string())),
            );
            after = next;
            if after.is_none() {
                break;
            }
            ensure_eq!(got.len() % limit.max(1), 0, "a page before the last is full");
        }
        ensure_eq!(
            got.iter().collect::<Vec<_>>(),
            expected,
            "the audit of {of:?} in pages of {limit}"
        );
    }
    let first = &store.audit(Some(id("k0")), None, 1).await?.0[0];
    let whole = AuditEntry {
        at: expected[0].0,
        operation: plain("k0"),
        action: "forget".into(),
        audit: amendment(FORGET).audit,
        before: StateName::Done,
        after: None,
    };
    ensure_eq!(first, &whole, "an entry");
    Ok(())
}

pub(super) async fn the_audit_keeps_odd_words(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let long = "ü".repeat(2_000);
    for (number, text) in ["", "'; DROP TABLE audit; --", "a\nb\t\u{1F600}", "NULL", long.as_str()]
        .iter()
        .enumerate()
    {
        let key = format!("k{number}");
        accepted(
            store
                .enqueue(Enqueue {
                    delay: LEASE,
                    ..exam.lay(&key)
                })
                .await?,
        )?;
        let audit = Audit {
            actor: (*text).to_owned(),
            reason: format!("because {text}"),
        };
        let amendment = Amendment {
            audit: audit.clone(),
            ..amendment(FORGET)
        };
        ensure_eq!(
            store.amend(id(&key), amendment).await?,
            Amended::Forgotten,
            "forgetting"
        );
        let (entries, _) = store.audit(Some(id(&key)), None, 10).await?;
        let kept: Vec<_> = entries.into_iter().map(|entry| entry.audit).collect();
        ensure_eq!(kept, [audit], "who and why");
    }
    Ok(())
}
