use super::*;
use crate::record::{AfterFailure, Cause};
use crate::sample::*;

const FORGET: Amend = Amend::Forget { even_unknown: false };
const FORGET_EVEN_UNKNOWN: Amend = Amend::Forget { even_unknown: true };

fn resolve_done() -> Amend {
    resolve(Resolution::Done(Outcome::Answer(answer(201))))
}

/// Every amendment, in the order of the columns of the table below.
fn amends() -> [Amend; 8] {
    [
        FORGET,
        FORGET_EVEN_UNKNOWN,
        resolve_done(),
        resolve(Resolution::NotDone),
        resolve(Resolution::Dead),
        Amend::Redrive,
        Amend::Discard,
        Amend::Undo,
    ]
}

/// What an amendment comes to: a state, forgetting, or (`None`) a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Comes {
    Forgotten,
    To(State),
    Refused,
    Unsettled(i64),
}

use Comes::{Forgotten, Refused, To, Unsettled};

/// What each amendment comes to at 60 on a record in each state.
fn table() -> Vec<(Record, [Comes; 8])> {
    let refused = || dead(DeadReason::Refused);
    let discarded = || not_kept(NotKept::Discarded);
    let nothing = [const { Refused }; 8];
    let mut only_forgotten = nothing.clone();
    (only_forgotten[0], only_forgotten[1]) = (Forgotten, Forgotten);
    let settled = [
        Refused,
        Forgotten,
        To(done()),
        To(waiting(60)),
        To(refused()),
        Refused,
        Refused,
        Refused,
    ];
    let mut unsettled = settled.clone();
    unsettled[3] = Unsettled(70);
    let letter = [
        Forgotten,
        Forgotten,
        To(done()),
        Refused,
        Refused,
        To(waiting(60)),
        To(discarded()),
        To(dead(DeadReason::Undone)),
    ];
    let mut undone = letter.clone();
    undone[5] = Refused;
    let mut live = running(AfterFailure::Hold);
    if let State::Running { deadline, .. } = &mut live.state {
        *deadline = at(61);
    }
    vec![
        (live, nothing.clone()),
        (running(AfterFailure::Hold), unsettled.clone()),
        (running(AfterFailure::Retry), nothing),
        (record(waiting(5), 0), only_forgotten.clone()),
        (record(waiting(500), 0), only_forgotten.clone()),
        (record(unknown(Cause::Lapsed), 40), settled.clone()),
        (record(unknown(Cause::Ambiguous), 50), unsettled),
        (record(unknown(Cause::Ambiguous), 40), settled),
        (record(done(), 0), only_forgotten.clone()),
        (record(not_kept(NotKept::Expired), 0), only_forgotten),
        (record(dead(DeadReason::Exhausted), 0), letter.clone()),
        (record(dead(DeadReason::Mismatch), 0), letter),
        (record(dead(DeadReason::Undone), 0), undone),
    ]
}

#[test]
fn each_amendment_in_each_state() {
    for (record, row) in table() {
        let shown = record.lapsed(at(60)).unwrap_or_else(|| record.clone()).state.name();
        for (amend, comes) in amends().into_iter().zip(row) {
            let verdict = record.amend(&amendment(amend.clone()), Fence::new(9), at(60));
            let place = format!("{amend:?} on {record:?}");
            match (comes, verdict) {
                (Forgotten, AmendVerdict::Forget) => {}
                (Refused, AmendVerdict::Refuse(state)) => assert_eq!(state, shown, "{place}"),
                (Unsettled(until), AmendVerdict::Unsettled(at)) => assert_eq!(at.as_millis(), until, "{place}"),
                (To(state), AmendVerdict::Becomes(after)) => {
                    assert_eq!((&after.state, after.since), (&state, at(60)), "{place}");
                    assert_eq!(after.fence, Fence::new(9), "{place}: no earlier attempt can finish it");
                    assert_eq!(after.attempt, record.attempt, "{place}");
                }
                (comes, verdict) => panic!("{place}: expected {comes:?}, got {verdict:?}"),
            }
        }
    }
}

#[test]
fn an_amendment_decided_on_another_fence_changes_nothing() {
    for (record, row) in table() {
        let shown = record.lapsed(at(60)).unwrap_or_else(|| record.clone()).state.name();
        for (amend, comes) in amends().into_iter().zip(row) {
            let guarded = |fence| {
                let amendment = Amendment {
                    fence: Some(Fence::new(fence)),
                    ..amendment(amend.clone())
                };
                record.amend(&amendment, Fence::new(9), at(60))
            };
            for fence in [6, 8] {
                assert_eq!(guarded(fence), AmendVerdict::Changed(shown), "{amend:?} on {record:?}");
            }
            let verdict = record.amend(&amendment(amend.clone()), Fence::new(9), at(60));
            assert_eq!(guarded(7), verdict, "the right one does as none: {comes:?}");
        }
    }
}

#[test]
fn not_done_counts_from_the_moment_it_is_settled() {
    let record = record(unknown(Cause::Ambiguous), 50);
    let amend = |amend: Amend, now| record.amend(&amendment(amend), Fence::new(9), at(now));
    let unsettled = AmendVerdict::Unsettled(at(70));
    assert_eq!(amend(resolve(Resolution::NotDone), 69), unsettled);
    assert!(matches!(
        amend(resolve(Resolution::NotDone), 70),
        AmendVerdict::Becomes(_)
    ));
    for known in [resolve_done(), resolve(Resolution::Dead)] {
        assert!(matches!(amend(known, 51), AmendVerdict::Becomes(_)));
    }
}

/// What the amendment makes at 60 of a record with input, an error, two crashes and three tries.
fn amended(state: State, amend: Amend) -> Record {
    let mut before = with_input(record(state, 0), 5);
    (before.crashes, before.last_error) = (2, failure("refused"));
    match before.amend(&amendment(amend), Fence::new(9), at(60)) {
        AmendVerdict::Becomes(record) => *record,
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn what_is_settled_carries_nothing_and_what_is_not_all() {
    let (unknown, letter) = (|| unknown(Cause::Lapsed), || dead(DeadReason::Poison));
    for (record, wake_at) in [
        (amended(unknown(), resolve(Resolution::NotDone)), at(60)),
        (amended(unknown(), resolve(Resolution::Dead)), Timestamp::FOREVER),
        (amended(letter(), Amend::Redrive), at(60)),
    ] {
        // A dead letter's error belongs to the life that ended.
        let last_error = if record.redriven.is_some() {
            None
        } else {
            failure("refused")
        };
        assert_eq!((&record.input, &record.last_error), (&Some(input()), &last_error));
        assert_eq!((record.wake_at, record.crashes), (Some(wake_at), 0), "{record:?}");
    }
    for record in [
        amended(unknown(), resolve_done()),
        amended(letter(), resolve_done()),
        amended(letter(), Amend::Discard),
    ] {
        assert_eq!(
            (&record.input, &record.last_error, record.wake_at),
            (&None, &None, None)
        );
        assert_eq!(record.crashes, 0);
    }
}

#[test]
fn only_a_redrive_begins_the_tries_anew() {
    let redriven = amended(dead(DeadReason::Exhausted), Amend::Redrive);
    assert_eq!((redriven.tries, redriven.redriven), (0, Some(at(60))));
    for record in [
        amended(dead(DeadReason::Exhausted), Amend::Discard),
        amended(dead(DeadReason::Exhausted), Amend::Undo),
        amended(dead(DeadReason::Exhausted), resolve_done()),
        amended(unknown(Cause::Lapsed), resolve(Resolution::NotDone)),
        amended(unknown(Cause::Lapsed), resolve(Resolution::Dead)),
    ] {
        assert_eq!((record.tries, record.redriven), (3, None));
    }
}

#[test]
fn without_input_what_is_sent_back_waits_for_an_arrival() {
    for (state, amend) in [
        (dead(DeadReason::Exhausted), Amend::Redrive),
        (unknown(Cause::Lapsed), resolve(Resolution::NotDone)),
    ] {
        let AmendVerdict::Becomes(after) = record(state, 0).amend(&amendment(amend), Fence::new(9), at(60)) else {
            panic!("refused");
        };
        assert_eq!((&after.state, after.wake_at), (&waiting(60), Some(Timestamp::FOREVER)));
    }
}

#[test]
fn a_verdict_of_dead_keeps_the_ambiguous_answer() {
    let state = State::Unknown {
        cause: Cause::Ambiguous,
        answer: Some(answer(502)),
    };
    let dead = State::Dead {
        reason: DeadReason::Refused,
        answer: Some(answer(502)),
    };
    assert_eq!(amended(state, resolve(Resolution::Dead)).state, dead);
}

#[test]
fn what_is_being_undone_keeps_what_it_failed_with() {
    let state = |reason| State::Dead {
        reason,
        answer: Some(answer(500)),
    };
    let undone = amended(state(DeadReason::Exhausted), Amend::Undo);
    assert_eq!(undone.state, state(DeadReason::Undone));
    assert_eq!(
        (&undone.input, &undone.last_error),
        (&Some(input()), &failure("refused"))
    );
    assert_eq!(undone.wake_at, Some(Timestamp::FOREVER));
}

#[test]
fn a_late_finish_is_fenced_after_an_amendment() {
    use crate::record::FinishVerdict;
    let late = crate::store::Finish::Done(Outcome::Answer(answer(200)));
    for (state, amend) in [
        (unknown(Cause::Lapsed), resolve(Resolution::NotDone)),
        (unknown(Cause::Lapsed), resolve_done()),
        (dead(DeadReason::Poison), Amend::Redrive),
    ] {
        let verdict = amended(state, amend).finish(Fence::new(7), &late, at(70));
        assert_eq!(verdict, FinishVerdict::Fenced);
    }
}
