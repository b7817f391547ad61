use super::*;
use crate::answer::NotKept;
use crate::record::AfterFailure;
use crate::sample::*;

#[test]
fn each_finish_leads_to_its_state() {
    let kept = Outcome::Answer(answer(201));
    assert_eq!(Finish::Done(kept.clone()).state(at(5)), State::Done(kept));
    assert_eq!(
        Finish::Release { after: ms(7) }.state(at(5)),
        State::Waiting { due: at(12) }
    );
    let forever = Finish::Release { after: Duration::MAX };
    assert_eq!(forever.state(at(5)), State::Waiting { due: at(i64::MAX) });
    for answer in [None, Some(answer(502))] {
        let (cause, reason) = (Cause::Ambiguous, DeadReason::Refused);
        let unknown = Finish::Unknown { answer: answer.clone() };
        assert_eq!(
            unknown.state(at(5)),
            State::Unknown {
                cause,
                answer: answer.clone()
            }
        );
        let dead = Finish::Dead {
            reason,
            answer: answer.clone(),
        };
        assert_eq!(dead.state(at(5)), State::Dead { reason, answer });
    }
}

fn summary(state: State) -> Summary {
    Summary::of(&record(state, 4), at(49))
}

#[test]
fn a_summary_shows_the_record_without_its_answer() {
    let lapsed = State::Unknown {
        cause: Cause::Lapsed,
        answer: None,
    };
    let expected = Summary {
        operation: operation("s", "n", "k"),
        state: StateName::Unknown,
        fence: Fence::new(7),
        tries: 3,
        created: at(0),
        since: at(4),
        until: None,
        status: None,
    };
    assert_eq!(summary(lapsed), expected);
}

#[test]
fn a_summary_has_until_or_status_where_the_state_does() {
    let reason = DeadReason::Poison;
    let cause = Cause::Ambiguous;
    let some = |status| Some(answer(status));
    for (state, name, until, status) in [
        (
            running(AfterFailure::Hold).state,
            StateName::Running,
            Some(at(50)),
            None,
        ),
        (State::Waiting { due: at(60) }, StateName::Waiting, Some(at(60)), None),
        (
            State::Unknown {
                cause,
                answer: some(502),
            },
            StateName::Unknown,
            None,
            Some(502),
        ),
        (
            State::Dead {
                reason,
                answer: some(500),
            },
            StateName::Dead,
            None,
            Some(500),
        ),
        (State::Dead { reason, answer: None }, StateName::Dead, None, None),
        (
            State::Done(Outcome::Answer(answer(201))),
            StateName::Done,
            None,
            Some(201),
        ),
        (
            State::Done(Outcome::NotKept(NotKept::TooLarge)),
            StateName::Done,
            None,
            None,
        ),
    ] {
        let summary = summary(state);
        assert_eq!((summary.state, summary.until, summary.status), (name, until, status));
    }
}

#[test]
fn a_lapsed_claim_is_listed_as_unknown() {
    let state = |mode, now| Summary::of(&running(mode), at(now)).state;
    assert_eq!(state(AfterFailure::Hold, 49), StateName::Running);
    assert_eq!(state(AfterFailure::Hold, 50), StateName::Unknown);
    assert_eq!(state(AfterFailure::Retry, 50), StateName::Running);
    assert_eq!(Summary::of(&running(AfterFailure::Hold), at(70)).since, at(50));
}

#[test]
fn a_filter_needs_all_its_parts() {
    let summary = summary(State::Waiting { due: at(60) });
    let text = |text: &str| Some(text.to_owned());
    let right = Filter {
        state: Some(StateName::Waiting),
        scope: text("s"),
        name: text("n"),
        key: text("k"),
    };
    assert!(Filter::default().holds(&summary));
    assert!(right.holds(&summary));
    for wrong in [
        Filter {
            state: Some(StateName::Done),
            ..right.clone()
        },
        Filter {
            scope: text("n"),
            ..right.clone()
        },
        Filter {
            name: text("k"),
            ..right.clone()
        },
        Filter {
            key: text("s"),
            ..right
        },
    ] {
        assert!(!wrong.holds(&summary), "{wrong:?}");
    }
}

#[test]
fn errors_say_whether_a_retry_helps_and_keep_their_cause() {
    for (kind, transient) in [
        (StoreErrorKind::Unavailable, true),
        (StoreErrorKind::Full, true),
        (StoreErrorKind::Schema, false),
        (StoreErrorKind::Corrupt, false),
        (StoreErrorKind::Invalid, false),
    ] {
        let error = StoreError::new(kind, "no store at x");
        assert_eq!((error.kind(), error.is_transient()), (kind, transient));
        assert_eq!(error.to_string(), "no store at x");
        assert!(error.source().is_none());
    }
    let error = StoreError::new(StoreErrorKind::Full, "cannot write").caused_by("disk full");
    assert_eq!(error.to_string(), "cannot write: disk full");
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("disk full"));
}
