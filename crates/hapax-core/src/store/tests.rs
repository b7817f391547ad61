use super::*;
use crate::answer::NotKept;
use crate::record::AfterFailure;
use crate::sample::*;

#[test]
fn each_finish_leads_to_its_state() {
    let kept = Outcome::Answer(answer(201));
    assert_eq!(Finish::Done(kept.clone()).state(at(5)), State::Done(kept));
    for (after, due) in [(ms(7), at(12)), (Duration::MAX, at(i64::MAX))] {
        let release = Finish::Release {
            after,
            counts: true,
            last_error: None,
        };
        assert_eq!(release.state(at(5)), State::Waiting { due });
    }
    let (cause, reason) = (Cause::Ambiguous, DeadReason::Refused);
    for answer in [None, Some(answer(502))] {
        let finish = Finish::Unknown {
            answer: answer.clone(),
            last_error: None,
        };
        let answer_of = answer.clone();
        assert_eq!(finish.state(at(5)), State::Unknown { cause, answer });
        let finish = Finish::Dead {
            reason,
            answer: answer_of.clone(),
            last_error: None,
        };
        let answer = answer_of;
        assert_eq!(finish.state(at(5)), State::Dead { reason, answer });
    }
}

#[test]
fn each_finish_but_done_may_say_what_went_wrong() {
    for last_error in [None, failure("refused")] {
        for finish in [
            Finish::Release {
                after: ms(0),
                counts: true,
                last_error: last_error.clone(),
            },
            Finish::Unknown {
                answer: None,
                last_error: last_error.clone(),
            },
            Finish::Dead {
                reason: DeadReason::Refused,
                answer: None,
                last_error: last_error.clone(),
            },
        ] {
            assert_eq!(finish.last_error(), last_error.as_ref());
        }
    }
    assert_eq!(Finish::Done(Outcome::Answer(answer(201))).last_error(), None);
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
        dead: None,
        last_error: None,
        has_input: false,
        redriven: None,
        group: None,
    };
    assert_eq!(summary(lapsed), expected);
    let mut carrying = with_input(record(dead(DeadReason::Poison), 4), 0);
    (carrying.last_error, carrying.redriven) = (failure("refused"), Some(at(2)));
    carrying.group = Some(group());
    let expected = Summary {
        state: StateName::Dead,
        dead: Some(DeadReason::Poison),
        last_error: failure("refused"),
        has_input: true,
        redriven: Some(at(2)),
        group: Some(group()),
        ..expected
    };
    assert_eq!(Summary::of(&carrying, at(49)), expected);
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
    let summary = Summary {
        group: Some(group()),
        ..summary(dead(DeadReason::Poison))
    };
    let text = |text: &str| Some(text.to_owned());
    let right = Filter {
        state: Some(StateName::Dead),
        scope: text("s"),
        name: text("n"),
        key: text("k"),
        dead: Some(DeadReason::Poison),
        since: Some(at(4)),
        before: Some(at(5)),
        group: Some(group()),
    };
    assert!(Filter::default().holds(&summary));
    assert!(right.holds(&summary));
    let wrong: [fn(&mut Filter); 8] = [
        |filter| filter.state = Some(StateName::Done),
        |filter| filter.scope = Some("n".into()),
        |filter| filter.name = Some("k".into()),
        |filter| filter.key = Some("s".into()),
        |filter| filter.dead = Some(DeadReason::Refused),
        |filter| filter.since = Some(at(5)),
        |filter| filter.before = Some(at(4)),
        |filter| filter.group = Some(OperationId::from_bytes([7; 16])),
    ];
    for spoil in wrong {
        let mut filter = right.clone();
        spoil(&mut filter);
        assert!(!filter.holds(&summary), "{filter:?}");
    }
    let only_dead = Filter {
        dead: Some(DeadReason::Poison),
        ..Filter::default()
    };
    assert!(!only_dead.holds(&Summary::of(&record(waiting(60), 4), at(49))));
}

#[test]
fn each_amendment_has_its_word_and_only_one_says_it_did_not_happen() {
    let happened = Resolution::Done(Outcome::NotKept(NotKept::TooLarge));
    for (amend, word, not_done) in [
        (Amend::Forget { even_unknown: false }, "forget", false),
        (Amend::Forget { even_unknown: true }, "forget", false),
        (resolve(happened), "resolve-done", false),
        (resolve(Resolution::NotDone), "resolve-not-done", true),
        (resolve(Resolution::Dead), "resolve-dead", false),
        (Amend::Redrive, "redrive", false),
        (Amend::Discard, "discard", false),
        (Amend::Undo, "undo", false),
    ] {
        assert_eq!((amend.as_str(), amend.is_not_done()), (word, not_done));
    }
}

#[test]
fn a_fence_is_not_raised_out_of_reach() {
    assert!(check_raise(Fence::HIGHEST_RAISE).is_ok());
    let error = check_raise(Fence::new(Fence::HIGHEST_RAISE.get() + 1)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("4611686018427387905"), "{error}");
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
