use super::*;
use crate::sample::*;

mod finishing;

#[test]
fn a_first_start() {
    let (record, lease) = Record::started(None, &claim(), Fence::new(9), at(1000));
    let expected = Record {
        operation: claim().operation,
        fingerprint: fingerprint(1, 1),
        fence: Fence::new(9),
        attempt: attempt(1),
        tries: 0,
        crashes: 0,
        created: at(1000),
        since: at(1000),
        retention: claim().retention,
        input: None,
        last_error: None,
        redriven: None,
        group: None,
        wake_at: None,
        state: State::Running {
            deadline: at(1030),
            run_until: at(1100),
            after_failure: AfterFailure::Hold,
            starter: Starter::Caller,
        },
    };
    assert_eq!(record, expected);
    let expected = Lease {
        fence: Fence::new(9),
        deadline: at(1030),
        run_until: at(1100),
        tries: 0,
    };
    assert_eq!(lease, expected);
}

#[test]
fn a_later_start_keeps_the_creation_and_takes_the_rest_from_its_claim() {
    let mut before = with_input(record(waiting(5), 5), 5);
    (before.crashes, before.last_error, before.redriven) = (2, failure("refused"), Some(at(4)));
    let mut claim = claim();
    claim.attempt = attempt(2);
    claim.starter = Starter::Caller;
    claim.after_failure = AfterFailure::Retry;
    claim.retention.replay_for = ms(1);
    let (record, lease) = Record::started(Some(&before), &claim, Fence::new(9), at(1000));
    assert_eq!((record.created, record.since), (at(0), at(1000)));
    assert_eq!((record.fence, record.attempt), (Fence::new(9), attempt(2)));
    assert_eq!(record.retention, claim.retention);
    assert!(matches!(
        record.state,
        State::Running {
            after_failure: AfterFailure::Retry,
            ..
        }
    ));
    assert_eq!((record.tries, lease.tries), (3, 3), "a caller's start is no try");
    assert_eq!(
        (record.crashes, record.input, record.last_error, record.redriven),
        (2, Some(input()), failure("refused"), Some(at(4)))
    );
}

#[test]
fn only_the_systems_starts_are_tries() {
    for (starter, first, later) in [(Starter::Caller, 0, 3), (Starter::System, 1, 4), (Starter::Alone, 1, 4)] {
        let mut claim = claim();
        claim.starter = starter;
        let (record, lease) = Record::started(None, &claim, Fence::new(1), at(0));
        assert_eq!((record.tries, lease.tries), (first, first), "{starter}");
        assert!(matches!(record.state, State::Running { starter: started, .. } if started == starter));
        let mut before = record_of_three_tries();
        let (record, _) = Record::started(Some(&before), &claim, Fence::new(9), at(0));
        assert_eq!(record.tries, later, "{starter}");
        before.tries = u32::MAX;
        let (record, _) = Record::started(Some(&before), &claim, Fence::new(9), at(0));
        assert_eq!(record.tries, u32::MAX, "{starter}");
    }
}

fn record_of_three_tries() -> Record {
    record(waiting(0), 0)
}

#[test]
fn a_runner_looks_at_the_deadline_of_what_it_attends_or_can_run() {
    let plain = record(waiting(0), 0);
    let stored = with_input(plain.clone(), 0);
    for (attended, before, wake_at) in [
        (false, None, None),
        (true, None, Some(at(1030))),
        (false, Some(&plain), None),
        (true, Some(&plain), Some(at(1030))),
        (false, Some(&stored), Some(at(1030))),
        (true, Some(&stored), Some(at(1030))),
    ] {
        let claim = Claim { attended, ..claim() };
        let (record, _) = Record::started(before, &claim, Fence::new(9), at(1000));
        assert_eq!(record.wake_at, wake_at, "attended {attended}, {before:?}");
    }
}

#[test]
fn a_claims_input_is_kept_unless_there_is_one() {
    let claim = Claim {
        input: Some(Input(bytes::Bytes::from_static(b"new"))),
        ..claim()
    };
    let plain = record(waiting(0), 0);
    let stored = with_input(plain.clone(), 0);
    for (before, kept) in [
        (None, &claim.input),
        (Some(&plain), &claim.input),
        (Some(&stored), &stored.input),
    ] {
        let (record, _) = Record::started(before, &claim, Fence::new(9), at(1000));
        assert_eq!((&record.input, record.wake_at), (kept, Some(at(1030))), "{before:?}");
    }
}

#[test]
fn a_group_is_given_once_and_what_is_in_one_stays_findable() {
    let claim = Claim {
        group: Some(group()),
        ..claim()
    };
    let (member, _) = Record::started(None, &claim, Fence::new(9), at(0));
    assert_eq!(
        (member.group, member.wake_at),
        (Some(group()), Some(Timestamp::FOREVER))
    );
    let stranger = Claim {
        group: Some(OperationId::from_bytes([7; 16])),
        ..claim.clone()
    };
    let (again, _) = Record::started(Some(&member), &stranger, Fence::new(9), at(0));
    assert_eq!((again.group, again.wake_at), (Some(group()), Some(Timestamp::FOREVER)));
    let loner = record(waiting(0), 0);
    let (again, _) = Record::started(Some(&loner), &claim, Fence::new(9), at(0));
    assert_eq!((again.group, again.wake_at), (None, None));
    let attended = Claim {
        attended: true,
        ..claim
    };
    let (record, _) = Record::started(None, &attended, Fence::new(9), at(0));
    assert_eq!(record.wake_at, Some(at(LEASE_MS)));
    // Nobody attends it: what became of it is a person's to say.
    let lapsed = member.lapsed(at(LEASE_MS)).unwrap();
    assert_eq!(
        (lapsed.group, lapsed.wake_at),
        (Some(group()), Some(Timestamp::FOREVER))
    );
    let ambiguous = Finish::Unknown {
        answer: None,
        last_error: None,
    };
    for (finish, wake_at) in [
        (ambiguous, Some(Timestamp::FOREVER)),
        (Finish::Done(Outcome::NotKept(NotKept::TooLarge)), None),
    ] {
        let FinishVerdict::Becomes(after) = member.finish(Fence::new(9), &finish, at(1)) else {
            panic!("refused");
        };
        assert_eq!((after.group, after.wake_at), (Some(group()), wake_at));
    }
}

#[test]
fn a_lease_is_no_longer_than_max_run() {
    let mut claim = claim();
    claim.lease = ms(MAX_RUN_MS + 1);
    let (_, lease) = Record::started(None, &claim, Fence::new(1), at(0));
    assert_eq!((lease.deadline, lease.run_until), (at(MAX_RUN_MS), at(MAX_RUN_MS)));
    claim.lease = Duration::MAX;
    claim.max_run = Duration::MAX;
    let (_, lease) = Record::started(None, &claim, Fence::new(1), at(1));
    assert_eq!((lease.deadline, lease.run_until), (at(i64::MAX), at(i64::MAX)));
}

#[test]
fn the_first_look_is_when_the_answer_may_expire() {
    assert_eq!(Record::first_look(&claim(), at(7)), at(7 + MAX_RUN_MS + REPLAY_MS));
}

#[test]
fn only_a_claim_in_hold_mode_lapses_and_not_before_its_deadline() {
    assert_eq!(running(AfterFailure::Hold).lapsed(at(49)), None);
    for now in [50, 51, i64::MAX] {
        let lapsed = record(unknown(Cause::Lapsed), 50);
        assert_eq!(running(AfterFailure::Hold).lapsed(at(now)), Some(lapsed));
        for state in [
            running(AfterFailure::Retry).state,
            waiting(0),
            unknown(Cause::Ambiguous),
            done(),
            dead(DeadReason::Poison),
        ] {
            assert_eq!(record(state, 0).lapsed(at(now)), None);
        }
    }
}

#[test]
fn a_lapse_keeps_what_the_record_carries_and_wakes_who_attends_it() {
    let mut running = with_input(running(AfterFailure::Hold), 40);
    (running.crashes, running.last_error, running.redriven) = (1, failure("refused"), Some(at(2)));
    let lapsed = Record {
        since: at(50),
        wake_at: Some(at(50)),
        state: unknown(Cause::Lapsed),
        ..running.clone()
    };
    assert_eq!(running.lapsed(at(60)), Some(lapsed));
    running.wake_at = None;
    let wake_at = running.lapsed(at(60)).and_then(|record| record.wake_at);
    assert_eq!(wake_at, Some(Timestamp::FOREVER), "nobody attends it");
}

#[test]
fn renewal_stops_at_max_run_and_never_shortens() {
    for mode in AfterFailure::ALL {
        let renew = |lease, now| running(*mode).renew(Fence::new(7), ms(lease), at(now));
        assert_eq!(renew(30, 40), RenewVerdict::Until(at(70)));
        assert_eq!(renew(5, 40), RenewVerdict::Until(at(50)), "never shorter than it was");
        assert_eq!(renew(30, 90), RenewVerdict::Until(at(100)), "at most max_run");
        assert_eq!(
            renew(30, 60),
            RenewVerdict::Until(at(90)),
            "late, but nobody took it over"
        );
        assert_eq!(renew(1, 99), RenewVerdict::Until(at(100)));
        assert_eq!(renew(30, 100), RenewVerdict::Over);
        assert_eq!(renew(30, 101), RenewVerdict::Over);
    }
}

#[test]
fn only_the_holder_renews() {
    for (fence, now) in [(6, 10), (8, 10), (6, 100), (8, 200)] {
        let verdict = running(AfterFailure::Hold).renew(Fence::new(fence), ms(30), at(now));
        assert_eq!(verdict, RenewVerdict::Fenced);
    }
    for state in [
        waiting(0),
        unknown(Cause::Lapsed),
        unknown(Cause::Ambiguous),
        done(),
        dead(DeadReason::Exhausted),
    ] {
        let verdict = record(state, 0).renew(Fence::new(7), ms(30), at(10));
        assert_eq!(verdict, RenewVerdict::Fenced);
    }
}

#[test]
fn tending_lapses_strips_and_forgets_at_the_boundary() {
    let lapsed = record(unknown(Cause::Lapsed), 50);
    assert_eq!(
        running(AfterFailure::Hold).tend(at(60)),
        Tended::Becomes(Box::new(lapsed), at(60 + REPLAY_MS))
    );

    let stripped = record(not_kept(NotKept::Expired), 0);
    assert_eq!(
        record(done(), 0).tend(at(REPLAY_MS - 1000)),
        Tended::Keep(at(REPLAY_MS))
    );
    assert_eq!(
        record(done(), 0).tend(at(REPLAY_MS)),
        Tended::Becomes(Box::new(stripped.clone()), at(REMEMBER_MS))
    );

    let before_end = at(REMEMBER_MS - 1000);
    for state in [
        stripped.state,
        not_kept(NotKept::TooLarge),
        not_kept(NotKept::Discarded),
        dead(DeadReason::Exhausted),
    ] {
        assert_eq!(record(state.clone(), 0).tend(before_end), Tended::Keep(at(REMEMBER_MS)));
        assert_eq!(record(state, 0).tend(at(REMEMBER_MS)), Tended::Forget);
    }
    assert_eq!(record(done(), 0).tend(at(REMEMBER_MS)), Tended::Forget);

    let waiting = record(State::Waiting { due: at(50) }, 0);
    assert_eq!(waiting.tend(at(60)), Tended::Keep(at(50 + REPLAY_MS)));
    assert_eq!(waiting.tend(at(50 + REPLAY_MS)), Tended::Forget);
    let retried = running(AfterFailure::Retry);
    assert_eq!(retried.tend(at(60)), Tended::Keep(at(50 + REPLAY_MS)));
    assert_eq!(retried.tend(at(50 + REPLAY_MS)), Tended::Forget, "nobody asked again");
}

#[test]
fn tending_never_ends_what_is_claimed_or_unknown() {
    let mut short = running(AfterFailure::Hold);
    short.retention = Retention {
        replay_for: Duration::ZERO,
        remember_for: Duration::ZERO,
    };
    assert_eq!(
        short.tend(at(49)),
        Tended::Keep(at(49 + 1000)),
        "no look comes back at once"
    );
    assert_eq!(
        running(AfterFailure::Hold).tend(at(-5000)),
        Tended::Keep(at(50)),
        "when it lapses"
    );
    for cause in Cause::ALL {
        let mut record = record(unknown(*cause), 0);
        assert_eq!(record.tend(at(REMEMBER_MS)), Tended::Keep(at(REMEMBER_MS + REPLAY_MS)));
        record.retention = short.retention;
        assert_eq!(record.tend(at(5)), Tended::Keep(at(1005)));
    }
}

#[test]
fn what_is_forgotten_when() {
    let forget_at = |state, since| record(state, since).forget_at();
    assert_eq!(running(AfterFailure::Hold).forget_at(), None);
    assert_eq!(running(AfterFailure::Retry).forget_at(), Some(at(50 + REPLAY_MS)));
    assert_eq!(forget_at(unknown(Cause::Ambiguous), 0), None);
    assert_eq!(forget_at(State::Waiting { due: at(9) }, 5), Some(at(9 + REPLAY_MS)));
    assert_eq!(forget_at(State::Waiting { due: at(5) }, 9), Some(at(9 + REPLAY_MS)));
    for state in [
        running(AfterFailure::Hold).state,
        running(AfterFailure::Retry).state,
        waiting(9),
    ] {
        let stored = with_input(record(state, 5), 0);
        assert_eq!(stored.forget_at(), None, "a runner will run it: {stored:?}");
        assert_eq!(
            stored.tend(at(10)),
            Tended::Keep(if stored.lapsed(at(50)).is_some() {
                at(1010)
            } else {
                at(10 + REPLAY_MS)
            })
        );
    }
    for state in [done(), dead(DeadReason::Refused)] {
        assert_eq!(with_input(record(state, 5), 0).forget_at(), Some(at(5 + REMEMBER_MS)));
    }
    assert_eq!(forget_at(done(), 5), Some(at(5 + REMEMBER_MS)));
    assert_eq!(forget_at(dead(DeadReason::Exhausted), 5), Some(at(5 + REMEMBER_MS)));
    assert_eq!(record(done(), 5).answer_until(), at(5 + REPLAY_MS));
}

#[test]
fn an_answer_is_told_until_the_millisecond_it_expires() {
    let record = record(done(), 5);
    let outcome_at = |now| match record.refusal(at(now)) {
        Refusal::Done { at: since, outcome } if since == at(5) => outcome,
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome_at(5 + REPLAY_MS - 1), Outcome::Answer(answer(201)));
    assert_eq!(outcome_at(5 + REPLAY_MS), Outcome::NotKept(NotKept::Expired));
}

#[test]
fn default_retention_is_a_day_and_thirty() {
    let retention = Retention::default();
    assert_eq!(retention.replay_for.as_secs(), 86_400);
    assert_eq!(retention.remember_for.as_secs(), 2_592_000);
}

#[test]
fn states_know_their_names() {
    for (state, name) in [
        (running(AfterFailure::Hold).state, StateName::Running),
        (waiting(0), StateName::Waiting),
        (unknown(Cause::Lapsed), StateName::Unknown),
        (done(), StateName::Done),
        (dead(DeadReason::Exhausted), StateName::Dead),
    ] {
        assert_eq!(state.name(), name);
    }
}

macro_rules! round_trip {
    ($type:ident: $($text:literal),+) => {
        let texts: Vec<_> = $type::ALL.iter().map(|value| value.to_string()).collect();
        assert_eq!(texts, [$($text),+]);
        for value in $type::ALL {
            assert_eq!($type::parse(value.as_str()), Some(*value));
        }
        for text in ["", "Running", "running ", "nonsense"] {
            assert_eq!($type::parse(text), None);
        }
    };
}

#[test]
fn text_codes_are_stable_and_round_trip() {
    round_trip!(StateName: "running", "waiting", "unknown", "done", "dead");
    round_trip!(Starter: "caller", "system", "alone");
    round_trip!(AfterFailure: "hold", "retry");
    round_trip!(Cause: "lapsed", "ambiguous");
    round_trip!(DeadReason: "exhausted", "poison", "mismatch", "refused", "undone");
    round_trip!(NotKept: "expired", "too-large", "discarded");
}
