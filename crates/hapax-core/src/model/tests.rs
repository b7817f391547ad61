use super::*;
use crate::answer::{NotKept, Outcome};
use crate::decide::Refusal;
use crate::record::{AfterFailure, Cause, DeadReason, StateName};
use crate::sample::*;
use crate::store::{Amend, Lease, Resolution};

fn won(claimed: Claimed) -> Lease {
    match claimed.ruling {
        Ruling::Won(lease) => lease,
        Ruling::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn claim_of(key: &str, number: u8) -> Claim {
    let mut claim = claim();
    claim.operation = operation("s", "n", key);
    claim.attempt = attempt(number);
    claim
}

fn id(key: &str) -> OperationId {
    operation("s", "n", key).id()
}

fn answered() -> Finish {
    Finish::Done(Outcome::Answer(answer(201)))
}

fn released(after: i64) -> Finish {
    Finish::Release {
        after: ms(after),
        counts: true,
        last_error: None,
    }
}

#[test]
fn claims_are_granted_resumed_and_refused() {
    let mut model = Model::default();
    let lease = won(model.claim(&claim_of("k", 1), at(0)));
    assert_eq!((lease.fence, lease.deadline), (Fence::new(1), at(LEASE_MS)));
    assert_eq!(won(model.claim(&claim_of("k", 1), at(5))), lease, "resumed");
    let refused = model.claim(&claim_of("k", 2), at(5));
    let refusal = Refusal::InProgress {
        since: at(0),
        deadline: at(LEASE_MS),
    };
    assert_eq!(
        refused,
        Claimed {
            now: at(5),
            ruling: Ruling::Refused(refusal)
        }
    );
    assert_eq!(won(model.claim(&claim_of("l", 3), at(5))).fence, Fence::new(2));
}

#[test]
fn a_lapse_is_written_by_the_claim_that_meets_it() {
    let mut model = Model::default();
    let fence = won(model.claim(&claim_of("k", 1), at(0))).fence;
    let refused = model.claim(&claim_of("k", 2), at(80));
    let refusal = Refusal::Unknown {
        since: at(LEASE_MS),
        cause: Cause::Lapsed,
        answer: None,
    };
    assert_eq!(refused.ruling, Ruling::Refused(refusal));
    assert_eq!(model.record(id("k")).unwrap().state.name(), StateName::Unknown);
    assert_eq!(
        model.finish(id("k"), fence, &answered(), at(90)),
        Finished::Applied { now: at(90) }
    );
}

#[test]
fn a_takeover_fences_the_holder_before() {
    let mut model = Model::default();
    let mut first = claim_of("k", 1);
    first.after_failure = AfterFailure::Retry;
    let old = won(model.claim(&first, at(0))).fence;
    let new = won(model.claim(&claim_of("k", 2), at(30))).fence;
    assert!(new > old);
    assert_eq!(model.renew(id("k"), old, ms(30), at(31)), Renewed::Fenced);
    let record = Box::new(model.record(id("k")).unwrap().clone());
    assert_eq!(
        model.finish(id("k"), old, &answered(), at(31)),
        Finished::Fenced {
            now: at(31),
            record: Some(record)
        }
    );
    assert_eq!(
        model.finish(id("k"), new, &answered(), at(32)),
        Finished::Applied { now: at(32) }
    );
}

#[test]
fn a_finish_is_answered_the_same_when_repeated() {
    let mut model = Model::default();
    let fence = won(model.claim(&claim_of("k", 1), at(0))).fence;
    assert_eq!(
        model.finish(id("k"), fence, &answered(), at(5)),
        Finished::Applied { now: at(5) }
    );
    let record = Box::new(model.record(id("k")).unwrap().clone());
    assert_eq!(
        model.finish(id("k"), fence, &released(0), at(9)),
        Finished::Already { now: at(9), record }
    );
    assert_eq!(
        model.finish(id("nothing"), fence, &answered(), at(9)),
        Finished::Fenced {
            now: at(9),
            record: None
        }
    );
}

#[test]
fn renewal_moves_the_deadline_up_to_max_run() {
    let mut model = Model::default();
    let fence = won(model.claim(&claim_of("k", 1), at(0))).fence;
    assert_eq!(model.renew(id("k"), fence, ms(30), at(20)), Renewed::Until(at(50)));
    let deadline = match model.record(id("k")).unwrap().state {
        State::Running { deadline, .. } => deadline,
        _ => panic!("not running"),
    };
    assert_eq!(deadline, at(50));
    assert_eq!(
        model.renew(id("k"), fence, ms(30), at(90)),
        Renewed::Until(at(MAX_RUN_MS))
    );
    assert_eq!(model.renew(id("k"), fence, ms(30), at(MAX_RUN_MS)), Renewed::Over);
    assert_eq!(model.renew(id("nothing"), fence, ms(30), at(1)), Renewed::Fenced);
}

#[test]
fn pages_are_oldest_first_and_end() {
    let mut model = Model::default();
    for (number, key) in ["b", "a", "c"].into_iter().enumerate() {
        model.claim(&claim_of(key, number as u8), at(number as i64));
    }
    // A later claim does not move a record to another page.
    won(model.claim(&claim_of("b", 0), at(3)));
    let keys = |page: &Page| -> Vec<String> { page.records.iter().map(|r| r.operation.key().to_string()).collect() };
    let all = Filter::default();
    let first = model.list(&all, None, 2, at(9));
    assert_eq!((keys(&first), first.now), (vec!["b".to_owned(), "a".to_owned()], at(9)));
    let second = model.list(&all, first.next, 2, at(9));
    assert_eq!((keys(&second), second.next), (vec!["c".to_owned()], None));
    assert_eq!(model.list(&all, None, 3, at(9)).next, None, "nothing after a full page");
    assert_eq!(model.list(&all, None, 0, at(9)).records.len(), 1, "at least one");
    assert!(model.list(&all, Some(Cursor(i64::MAX)), 1, at(9)).records.is_empty());

    let done = Filter {
        state: Some(StateName::Done),
        ..Filter::default()
    };
    assert!(model.list(&done, None, 9, at(9)).records.is_empty());
    model.finish(id("a"), Fence::new(2), &answered(), at(9));
    assert_eq!(keys(&model.list(&done, None, 9, at(9))), ["a"]);
    let lapsed = Filter {
        state: Some(StateName::Unknown),
        ..Filter::default()
    };
    assert_eq!(
        keys(&model.list(&lapsed, None, 9, at(31))),
        ["b"],
        "as at now, though nothing was written"
    );
}

#[test]
fn a_page_has_at_most_a_thousand() {
    let mut model = Model::default();
    for number in 0..1001 {
        model.claim(&claim_of(&number.to_string(), 1), at(0));
    }
    let page = model.list(&Filter::default(), None, usize::MAX, at(0));
    assert_eq!(page.records.len(), 1000);
    assert!(page.next.is_some());
}

#[test]
fn forgetting_frees_the_key_but_no_fence() {
    let mut model = Model::default();
    let forget = amendment(Amend::Forget { even_unknown: false });
    assert_eq!(model.amend(id("k"), &forget, at(0)), Amended::Absent);
    let fence = won(model.claim(&claim_of("k", 1), at(0))).fence;
    assert_eq!(
        model.amend(id("k"), &forget, at(0)),
        Amended::Refused(StateName::Running)
    );
    assert!(model.record(id("k")).is_some());
    model.finish(id("k"), fence, &answered(), at(1));
    assert_eq!(model.amend(id("k"), &forget, at(2)), Amended::Forgotten);
    assert!(model.record(id("k")).is_none());
    assert!(model.list(&Filter::default(), None, 9, at(2)).records.is_empty());
    assert!(won(model.claim(&claim_of("k", 2), at(3))).fence > fence);
}

#[test]
fn a_sweep_lapses_strips_forgets_and_keeps() {
    let mut model = Model::default();
    let look = MAX_RUN_MS + REPLAY_MS;
    let done = won(model.claim(&claim_of("done", 1), at(0))).fence;
    model.finish(id("done"), done, &answered(), at(50));
    let released = won(model.claim(&claim_of("released", 1), at(0))).fence;
    model.finish(id("released"), released, &self::released(0), at(0));
    let late = won(model.claim(&claim_of("late", 1), at(0))).fence;
    model.finish(id("late"), late, &self::released(5000), at(0));
    model.claim(&claim_of("lapsed", 1), at(0));

    assert_eq!(model.sweep(9, at(look - 1)), Swept::default(), "nobody's time has come");
    let swept = Swept {
        lapsed: 1,
        stripped: 1,
        forgotten: 1,
        looked_at: 4,
    };
    assert_eq!(model.sweep(9, at(look)), swept);
    let state = |model: &Model, key| model.record(id(key)).map(|record| record.state.clone());
    assert_eq!(
        state(&model, "done"),
        Some(State::Done(Outcome::NotKept(NotKept::Expired)))
    );
    assert_eq!(state(&model, "released"), None);
    assert_eq!(state(&model, "late"), Some(State::Waiting { due: at(5000) }));
    assert!(matches!(state(&model, "lapsed"), Some(State::Unknown { .. })));
    assert_eq!(model.sweep(9, at(look)), Swept::default(), "each got a new time");

    assert_eq!(model.sweep(9, at(5000 + REPLAY_MS)).forgotten, 1, "the late one");
    let end = at(50 + REMEMBER_MS);
    assert_eq!(
        model.sweep(9, at(50 + REMEMBER_MS - 1)).forgotten,
        0,
        "not before its time"
    );
    assert_eq!(model.sweep(9, end).forgotten, 1);
    let left = model.list(&Filter::default(), None, 9, end).records;
    assert_eq!(left.len(), 1, "an unknown outcome stays until somebody settles it");
}

#[test]
fn a_sweep_is_bounded_and_takes_the_longest_due_first() {
    let mut model = Model::default();
    for (number, key) in ["c", "b", "a"].into_iter().enumerate() {
        model.claim(&claim_of(key, 1), at(2 - number as i64));
    }
    let now = at(10 + MAX_RUN_MS + REPLAY_MS);
    let one = Swept {
        lapsed: 1,
        looked_at: 1,
        ..Swept::default()
    };
    for lapsed in ["a", "b", "c"] {
        assert_eq!(model.record(id(lapsed)).unwrap().state.name(), StateName::Running);
        assert_eq!(model.sweep(1, now), one);
        assert_eq!(model.record(id(lapsed)).unwrap().state.name(), StateName::Unknown);
    }
    assert_eq!(model.sweep(1, now), Swept::default());
}

fn enqueue_of(key: &str, number: u8) -> Enqueue {
    Enqueue {
        operation: operation("s", "n", key),
        attempt: attempt(number),
        delay: ms(0),
        ..enqueue()
    }
}

fn keys(taken: &Taken) -> Vec<String> {
    let record = |work: &Work| match work {
        Work::Run(record, _) | Work::Resolve(record) => record.operation.key().to_string(),
    };
    taken.work.iter().map(record).collect()
}

fn take_of(number: u8, limit: usize) -> Take {
    Take {
        attempt: attempt(number),
        limit,
        ..take()
    }
}

#[test]
fn enqueuing_writes_once_with_a_fence_of_its_own() {
    let mut model = Model::default();
    let accepted = Enqueued {
        now: at(0),
        refusal: None,
    };
    assert_eq!(model.enqueue(&enqueue_of("k", 1), at(0)), accepted);
    let record = model.record(id("k")).unwrap().clone();
    assert_eq!((record.fence, record.wake_at), (Fence::new(1), Some(at(0))));
    let again = Enqueued { now: at(5), ..accepted };
    assert_eq!(model.enqueue(&enqueue_of("k", 1), at(5)), again);
    assert_eq!(model.record(id("k")), Some(&record), "written once");
    let refusal = Some(Refusal::Later { due: at(0) });
    assert_eq!(
        model.enqueue(&enqueue_of("k", 2), at(6)),
        Enqueued { now: at(6), refusal }
    );
    assert_eq!(won(model.claim(&claim_of("l", 3), at(6))).fence, Fence::new(2));
    let refused = model.enqueue(&enqueue_of("l", 4), at(6 + LEASE_MS));
    assert!(matches!(refused.refusal, Some(Refusal::Unknown { .. })));
    assert_eq!(
        model.record(id("l")).unwrap().state.name(),
        StateName::Unknown,
        "the lapse is written"
    );
    // The record is looked at by the sweeper, and stays.
    let late = at(REPLAY_MS * 3);
    assert_eq!(model.sweep(9, late).looked_at, 2);
    assert!(model.record(id("k")).is_some());
    model.enqueue(&enqueue_of("m", 5), late);
    assert_eq!(model.record(id("m")).unwrap().fence, Fence::new(3));
}

#[test]
fn taking_gives_the_longest_due_first_and_each_once() {
    let mut model = Model::default();
    for (number, key) in ["c", "b", "a"].into_iter().enumerate() {
        model.enqueue(&enqueue_of(key, number as u8), at(3 - number as i64));
    }
    model.enqueue(
        &Enqueue {
            delay: ms(1000),
            ..enqueue_of("later", 4)
        },
        at(0),
    );
    let mut other = enqueue_of("x", 5);
    other.operation = operation("s", "other", "x");
    model.enqueue(&other, at(0));
    let first = model.take(&take_of(20, 2), at(10));
    assert_eq!((keys(&first), first.more), (vec!["a".into(), "b".into()], true));
    assert_eq!((first.now, first.suspects), (at(10), false));
    let second = model.take(&take_of(21, 2), at(10));
    assert_eq!((keys(&second), second.more), (vec!["c".into()], false));
    let third = model.take(&take_of(22, 2), at(999));
    assert_eq!(
        keys(&third),
        ["c", "b"],
        "taken over: all lapsed at once, and so the oldest first"
    );
}

#[test]
fn a_take_is_given_again_with_what_was_left() {
    let mut model = Model::default();
    for (number, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
        model.enqueue(&enqueue_of(key, number as u8), at(0));
    }
    let first = model.take(&take_of(20, 2), at(1));
    let again = Take {
        again: true,
        ..take_of(20, 3)
    };
    let second = model.take(&again, at(2));
    assert_eq!(second.work[..2], first.work, "the same leases");
    assert_eq!(
        (keys(&second), second.more),
        (vec!["a".into(), "b".into(), "c".into()], true)
    );
    let fresh = Take { again: false, ..again };
    assert_eq!(keys(&model.take(&fresh, at(3))), ["d"], "no repetition");
}

#[test]
fn fences_of_a_take_only_grow_by_what_was_run() {
    let mut model = Model::default();
    for key in ["a", "b"] {
        model.enqueue(&enqueue_of(key, 1), at(0));
    }
    model.take(&take_of(20, 9), at(0));
    let fences: Vec<_> = ["a", "b"].map(|key| model.record(id(key)).unwrap().fence.get()).into();
    assert_eq!(fences, [3, 4]);
    assert_eq!(won(model.claim(&claim_of("k", 1), at(0))).fence, Fence::new(5));
}

#[test]
fn a_take_says_what_it_left_and_what_it_ended() {
    let mut model = Model::default();
    let counting = |alone| {
        let mut take = take_of(if alone { 31 } else { 30 }, 9);
        take.alone = alone;
        take.names[0].crashes_count = true;
        take
    };
    for key in ["a", "b"] {
        model.enqueue(&enqueue_of(key, 1), at(0));
    }
    assert_eq!(keys(&model.take(&counting(false), at(0))), ["a", "b"]);
    model.enqueue(&enqueue_of("fresh", 1), at(LEASE_MS));
    // Both were in flight when the process died: suspects.
    let taken = model.take(&counting(false), at(LEASE_MS));
    assert_eq!((keys(&taken), taken.suspects), (vec!["fresh".into()], true));
    let alone = model.take(&counting(true), at(LEASE_MS));
    assert_eq!(
        (keys(&alone), alone.suspects, alone.more),
        (vec!["a".into()], false, true)
    );
    let mut spent = take_of(32, 9);
    spent.names[0].tries = 0;
    let ended = model.take(&spent, at(LEASE_MS));
    let reasons: Vec<_> = ended.ended.iter().map(|record| record.state.clone()).collect();
    assert_eq!(reasons, [dead(DeadReason::Exhausted)]);
    assert_eq!(model.record(id("b")), ended.ended.first(), "and wrote it");
}

#[test]
fn a_take_moves_the_time_of_what_is_not_to_be_run() {
    let mut model = Model::default();
    model.enqueue(&enqueue_of("k", 1), at(0));
    let taken = model.take(&take_of(20, 1), at(0));
    let Some(Work::Run(_, lease)) = taken.work.first() else {
        panic!("{taken:?}");
    };
    model.renew(id("k"), lease.fence, ms(50), at(20));
    assert_eq!(
        model.record(id("k")).unwrap().wake_at,
        Some(at(LEASE_MS)),
        "a heartbeat moves nothing"
    );
    assert!(model.take(&take_of(21, 1), at(LEASE_MS)).work.is_empty());
    assert_eq!(model.record(id("k")).unwrap().wake_at, Some(at(70)));
}

#[test]
fn an_unknown_outcome_is_given_to_one_resolver_at_a_time() {
    let mut model = Model::default();
    let attended = Claim {
        attended: true,
        ..claim_of("k", 1)
    };
    won(model.claim(&attended, at(0)));
    won(model.claim(&claim_of("unattended", 2), at(0)));
    let mut take = take_of(20, 9);
    take.names[0].resolves = true;
    assert_eq!(keys(&model.take(&take, at(LEASE_MS - 1))), [""; 0]);
    let first = model.take(&take, at(LEASE_MS));
    assert!(matches!(&first.work[..], [Work::Resolve(record)] if record.operation.key().as_str() == "k"));
    assert_eq!(model.record(id("k")).unwrap().state, unknown(Cause::Lapsed));
    assert!(model.take(&take, at(LEASE_MS + 999)).work.is_empty());
    assert_eq!(keys(&model.take(&take, at(LEASE_MS + 1000))), ["k"]);
}

#[test]
fn a_renewed_run_is_no_longer_alone() {
    let mut model = Model::default();
    let starter = |model: &Model| match model.record(id("k")).unwrap().state {
        State::Running { starter, .. } => starter,
        _ => panic!("not running"),
    };
    for (started, renewed) in [
        (Starter::Alone, Starter::System),
        (Starter::System, Starter::System),
        (Starter::Caller, Starter::Caller),
    ] {
        let claim = Claim {
            starter: started,
            ..claim_of("k", 1)
        };
        let fence = won(model.claim(&claim, at(0))).fence;
        assert_eq!(starter(&model), started);
        model.renew(id("k"), fence, ms(30), at(20));
        assert_eq!(starter(&model), renewed);
        model.finish(id("k"), fence, &answered(), at(20));
        model.amend(id("k"), &amendment(Amend::Forget { even_unknown: false }), at(20));
    }
}

fn dead_letter(model: &mut Model, key: &str, now: i64) -> Fence {
    let fence = won(model.claim(&claim_of(key, 1), at(now))).fence;
    let dead = Finish::Dead {
        reason: DeadReason::Refused,
        answer: None,
        last_error: None,
    };
    model.finish(id(key), fence, &dead, at(now));
    fence
}

#[test]
fn an_amendment_is_written_with_its_audit_and_a_new_fence() {
    let mut model = Model::default();
    let before = dead_letter(&mut model, "k", 0);
    let amended = model.amend(id("k"), &amendment(Amend::Redrive), at(5));
    let record = model.record(id("k")).unwrap().clone();
    assert_eq!(amended, Amended::Became(Box::new(record.clone())));
    assert_eq!((record.fence, record.state.name()), (Fence::new(2), StateName::Waiting));
    assert_eq!(
        model.finish(id("k"), before, &answered(), at(6)),
        Finished::Fenced {
            now: at(6),
            record: Some(Box::new(record))
        }
    );
    assert_eq!(won(model.claim(&claim_of("l", 2), at(6))).fence, Fence::new(3));
    let entry = AuditEntry {
        at: at(5),
        operation: operation("s", "n", "k"),
        action: "redrive".into(),
        audit: amendment(Amend::Redrive).audit,
        before: StateName::Dead,
        after: Some(StateName::Waiting),
    };
    assert_eq!(model.audit(None, None, 9), (vec![entry], None));
}

#[test]
fn what_was_not_carried_out_is_not_in_the_audit() {
    let mut model = Model::default();
    let fence = won(model.claim(&claim_of("k", 1), at(0))).fence;
    let guarded = Amendment {
        fence: Some(Fence::new(9)),
        ..amendment(Amend::Redrive)
    };
    assert_eq!(model.amend(id("nothing"), &guarded, at(0)), Amended::Absent);
    assert_eq!(
        model.amend(id("k"), &guarded, at(0)),
        Amended::Changed(StateName::Running)
    );
    let refused = model.amend(id("k"), &amendment(Amend::Redrive), at(0));
    assert_eq!(refused, Amended::Refused(StateName::Running));
    let doubt = Finish::Unknown {
        answer: None,
        last_error: None,
    };
    model.finish(id("k"), fence, &doubt, at(5));
    let not_done = amendment(resolve(Resolution::NotDone));
    assert_eq!(model.amend(id("k"), &not_done, at(6)), Amended::Unsettled(at(25)));
    assert_eq!(model.audit(None, None, 9), (vec![], None));
    // An audit says the state that everybody saw: a lapsed claim was unknown.
    won(model.claim(&claim_of("l", 2), at(6)));
    model.amend(id("l"), &amendment(resolve(Resolution::Dead)), at(99));
    let (entries, _) = model.audit(None, None, 9);
    assert_eq!(
        (entries[0].before, entries[0].after),
        (StateName::Unknown, Some(StateName::Dead))
    );
}

#[test]
fn the_audit_outlives_its_records_and_comes_in_pages() {
    let mut model = Model::default();
    for (now, key) in [(0, "a"), (1, "b"), (2, "a"), (3, "a")] {
        dead_letter(&mut model, key, now);
        let forget = amendment(Amend::Forget { even_unknown: false });
        assert_eq!(model.amend(id(key), &forget, at(now)), Amended::Forgotten);
    }
    let times = |entries: &[AuditEntry]| -> Vec<i64> { entries.iter().map(|entry| entry.at.as_millis()).collect() };
    let (page, next) = model.audit(None, None, 3);
    assert_eq!((times(&page), page[0].after), (vec![0, 1, 2], None));
    let (page, end) = model.audit(None, next, 3);
    assert_eq!((times(&page), end), (vec![3], None));
    assert_eq!(model.audit(None, None, 4).1, None, "nothing after a full page");
    let (page, next) = model.audit(Some(id("a")), None, 2);
    assert_eq!(times(&page), [0, 2]);
    assert_eq!(times(&model.audit(Some(id("a")), next, 2).0), [3]);
    assert_eq!(times(&model.audit(Some(id("b")), None, 0).0), [1], "at least one");
    assert!(model.audit(Some(id("c")), None, 9).0.is_empty());
    for _ in 0..1000 {
        dead_letter(&mut model, "c", 4);
        model.amend(id("c"), &amendment(Amend::Forget { even_unknown: false }), at(4));
    }
    assert_eq!(model.audit(None, None, usize::MAX).0.len(), 1000, "at most a thousand");
}

#[test]
fn the_census_counts_what_is_not_settled() {
    let mut model = Model::default();
    assert_eq!(model.census(true, at(0)), Census::default());
    for (key, after) in [("later", 500), ("due", 10), ("first", 5)] {
        let enqueue = Enqueue {
            delay: ms(after),
            ..enqueue_of(key, 1)
        };
        model.enqueue(&enqueue, at(0));
    }
    dead_letter(&mut model, "dead", 0);
    let mut tenant = claim_of("done", 1);
    tenant.operation = operation("r", "n", "done");
    let fence = won(model.claim(&tenant, at(0))).fence;
    model.finish(tenant.operation.id(), fence, &answered(), at(0));
    let released = won(model.claim(&claim_of("released", 1), at(0))).fence;
    model.finish(id("released"), released, &self::released(0), at(0));
    for (key, now) in [("doubt", 3), ("first doubt", 2)] {
        let fence = won(model.claim(&claim_of(key, 1), at(now))).fence;
        let doubt = Finish::Unknown {
            answer: None,
            last_error: None,
        };
        model.finish(id(key), fence, &doubt, at(now));
    }
    let attended = Claim {
        attended: true,
        ..claim_of("attended", 1)
    };
    won(model.claim(&attended, at(1)));
    won(model.claim(&claim_of("unattended", 1), at(0)));
    let census = Census {
        waiting: 4,
        unknown: 2,
        dead: 1,
        oldest_due: Some(at(5)),
        oldest_unknown: Some(at(2)),
        scopes: vec![],
    };
    assert_eq!(model.census(false, at(10)), census);
    assert_eq!(model.census(false, at(4)).oldest_due, None);
    let scope = |scope| crate::Scope::new(scope).unwrap();
    let scopes = vec![(scope("r"), 1), (scope("s"), 9)];
    assert_eq!(
        model.census(true, at(10)),
        Census {
            scopes,
            ..census.clone()
        }
    );
    let lapsed = Census {
        unknown: 3,
        oldest_unknown: Some(at(2)),
        ..census
    };
    assert_eq!(
        model.census(false, at(100)),
        lapsed,
        "what nobody attends counts once it was noticed"
    );
}

#[test]
fn a_recipe_has_one_number() {
    let mut model = Model::default();
    let (a, b) = (model.recipe("a"), model.recipe("b"));
    assert_eq!((a.get(), b.get()), (1, 2));
    assert_eq!(model.recipe("a"), a);
    assert_eq!((model.recipe_text(a), model.recipe_text(b)), (Some("a"), Some("b")));
    for number in [0, 3, u32::MAX] {
        assert_eq!(model.recipe_text(RecipeId::new(number)), None);
    }
}
