use super::*;

fn finishes() -> [Finish; 5] {
    let release = |counts| Finish::Release {
        after: ms(20),
        counts,
        last_error: failure("released"),
    };
    [
        Finish::Done(Outcome::Answer(answer(201))),
        release(true),
        release(false),
        Finish::Unknown {
            answer: Some(answer(502)),
            last_error: failure("in doubt"),
        },
        Finish::Dead {
            reason: DeadReason::Poison,
            answer: Some(answer(500)),
            last_error: failure("dead"),
        },
    ]
}

/// What a finish makes of a record without input that nobody attends.
fn finished(finish: &Finish, now: i64) -> Record {
    Record {
        last_error: finish.last_error().cloned(),
        ..record(finish.state(at(now)), now)
    }
}

#[test]
fn the_holder_finishes_even_late() {
    let running = [running(AfterFailure::Hold), running(AfterFailure::Retry)];
    for before in running {
        for finish in finishes() {
            for now in [10, 50, 1000] {
                let becomes = finished(&finish, now);
                let verdict = before.finish(Fence::new(7), &finish, at(now));
                assert_eq!(verdict, FinishVerdict::Becomes(Box::new(becomes)));
            }
        }
    }
}

#[test]
fn an_unknown_run_reports_what_became_of_it_but_no_second_doubt() {
    for cause in Cause::ALL {
        let before = record(unknown(*cause), 50);
        for finish in finishes() {
            let expected = match &finish {
                Finish::Unknown { .. } => FinishVerdict::Already,
                known => FinishVerdict::Becomes(Box::new(finished(known, 90))),
            };
            assert_eq!(before.finish(Fence::new(7), &finish, at(90)), expected);
        }
    }
}

#[test]
fn the_first_finish_stands() {
    for state in [
        waiting(0),
        done(),
        not_kept(NotKept::Expired),
        dead(DeadReason::Exhausted),
    ] {
        for finish in finishes() {
            let verdict = record(state.clone(), 0).finish(Fence::new(7), &finish, at(90));
            assert_eq!(verdict, FinishVerdict::Already);
        }
    }
}

#[test]
fn another_fence_finishes_nothing_in_any_state() {
    for state in [
        running(AfterFailure::Hold).state,
        running(AfterFailure::Retry).state,
        waiting(0),
        unknown(Cause::Lapsed),
        done(),
        dead(DeadReason::Exhausted),
    ] {
        for finish in finishes() {
            for fence in [6, 8] {
                let verdict = record(state.clone(), 0).finish(Fence::new(fence), &finish, at(90));
                assert_eq!(verdict, FinishVerdict::Fenced);
            }
        }
    }
}

/// What each finish makes of a record that carries input, an error, two crashes and three tries.
fn finished_with_input(starter: Starter, finish: &Finish) -> Record {
    let mut before = with_input(running(AfterFailure::Retry), 50);
    (before.crashes, before.last_error, before.redriven) = (2, failure("before"), Some(at(1)));
    if let State::Running { starter: started, .. } = &mut before.state {
        *started = starter;
    }
    match before.finish(Fence::new(7), finish, at(40)) {
        FinishVerdict::Becomes(record) => *record,
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn a_finish_keeps_what_the_next_run_needs_and_drops_it_when_done() {
    let [done, released, uncounted, unknown, dead] = finishes();
    for (finish, input, wake_at) in [
        (done, None, None),
        (released, Some(input()), Some(at(60))),
        (uncounted, Some(input()), Some(at(60))),
        (unknown, Some(input()), Some(at(40))),
        (dead, Some(input()), Some(Timestamp::FOREVER)),
    ] {
        let record = finished_with_input(Starter::System, &finish);
        assert_eq!((record.input, record.wake_at), (input, wake_at), "{finish:?}");
        assert_eq!(record.last_error.as_ref(), finish.last_error(), "{finish:?}");
        assert_eq!((record.crashes, record.redriven), (0, Some(at(1))), "{finish:?}");
        assert_eq!((record.fence, record.attempt), (Fence::new(7), attempt(1)));
    }
}

#[test]
fn only_a_release_without_effect_gives_the_systems_start_back() {
    for starter in Starter::ALL {
        for finish in finishes() {
            let back = matches!(finish, Finish::Release { counts: false, .. }) && *starter != Starter::Caller;
            let tries = finished_with_input(*starter, &finish).tries;
            assert_eq!(tries, if back { 2 } else { 3 }, "{starter}, {finish:?}");
        }
    }
    let mut unknown = record(unknown(Cause::Ambiguous), 0);
    unknown.crashes = 1;
    for finish in finishes() {
        if let FinishVerdict::Becomes(record) = unknown.finish(Fence::new(7), &finish, at(9)) {
            assert_eq!(
                (record.tries, record.crashes),
                (3, 0),
                "who started it is not known any more"
            );
        }
    }
}

#[test]
fn a_doubt_about_what_a_runner_attends_is_its_to_resolve_at_once() {
    let doubt = Finish::Unknown {
        answer: None,
        last_error: None,
    };
    for (before, after) in [(None, Timestamp::FOREVER), (Some(at(50)), at(40))] {
        let mut running = running(AfterFailure::Hold);
        running.wake_at = before;
        let FinishVerdict::Becomes(record) = running.finish(Fence::new(7), &doubt, at(40)) else {
            panic!("the holder finishes");
        };
        assert_eq!(record.wake_at, Some(after));
    }
}
