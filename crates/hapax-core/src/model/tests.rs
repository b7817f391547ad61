use super::*;
use crate::answer::{NotKept, Outcome};
use crate::decide::Refusal;
use crate::record::{AfterFailure, Cause, DeadReason, StateName};
use crate::sample::*;
use crate::store::{Amend, Lease, Resolution};

mod amending;
mod queue;

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

fn enqueue_of(key: &str, number: u8) -> Enqueue {
    Enqueue {
        operation: operation("s", "n", key),
        attempt: attempt(number),
        delay: ms(0),
        ..enqueue()
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
