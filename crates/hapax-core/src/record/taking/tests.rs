use super::*;
use crate::record::{AfterFailure, Cause, FinishVerdict};
use crate::sample::*;
use crate::store::Finish;

mod enqueuing;
mod order;

fn waiting_with_input(due: i64) -> Record {
    with_input(record(waiting(due), 0), due)
}

/// Running from 0 to 50 with input, `started` as told, after so many crashes.
fn crashed(starter: Starter, crashes: u32) -> Record {
    let mut record = with_input(running(AfterFailure::Retry), 50);
    if let State::Running { starter: started, .. } = &mut record.state {
        *started = starter;
    }
    Record { crashes, ..record }
}

/// A runner's ways: whether crashes count, whether it resolves, whether it is alone.
#[derive(Debug, Clone, Copy, Default)]
struct Ways {
    crashes_count: bool,
    resolves: bool,
    alone: bool,
}

fn taken(record: &Record, ways: Ways, now: i64) -> TakeVerdict {
    let mut name = take_name();
    (name.crashes_count, name.resolves) = (ways.crashes_count, ways.resolves);
    let take = Take {
        alone: ways.alone,
        ..take()
    };
    record.take(&take, &name, 0, Fence::new(9), at(now))
}

/// What is run, or what becomes of it.
fn record_of(verdict: TakeVerdict) -> Record {
    match verdict {
        TakeVerdict::Run(record, _) | TakeVerdict::Resolve(record) | TakeVerdict::Becomes(record) => *record,
        verdict => panic!("{verdict:?}"),
    }
}

const PLAIN: Ways = Ways {
    crashes_count: false,
    resolves: false,
    alone: false,
};
const COUNTS: Ways = Ways {
    crashes_count: true,
    ..PLAIN
};
const ALONE: Ways = Ways { alone: true, ..COUNTS };
const RESOLVES: Ways = Ways {
    resolves: true,
    ..PLAIN
};

#[test]
fn what_is_due_is_run_as_a_claim_by_the_system_would() {
    for (before, started) in [
        (waiting_with_input(50), Starter::System),
        (crashed(Starter::Caller, 1), Starter::Alone),
    ] {
        let mut before = before;
        (before.last_error, before.redriven) = (failure("refused"), Some(at(3)));
        let claim = Claim {
            attempt: attempt(9),
            starter: started,
            after_failure: AfterFailure::Retry,
            attended: true,
            ..claim()
        };
        let (record, lease) = Record::started(Some(&before), &claim, Fence::new(9), at(50));
        let ways = if started == Starter::Alone { ALONE } else { COUNTS };
        assert_eq!(
            taken(&before, ways, 50),
            TakeVerdict::Run(Box::new(record.clone()), lease)
        );
        assert_eq!((record.tries, lease.tries, record.wake_at), (4, 4, Some(at(80))));
        assert_eq!((record.input, record.last_error), (Some(input()), failure("refused")));
    }
}

#[test]
fn the_runner_says_how_what_it_takes_is_run() {
    let name = TakeName {
        lease: ms(7),
        max_run: ms(9),
        after_failure: AfterFailure::Hold,
        ..take_name()
    };
    let record = record_of(waiting_with_input(0).take(&take(), &name, 0, Fence::new(9), at(50)));
    let expected = State::Running {
        deadline: at(57),
        run_until: at(59),
        after_failure: AfterFailure::Hold,
        starter: Starter::System,
    };
    assert_eq!(record.state, expected);
}

#[test]
fn what_is_not_to_be_run_yet_only_moves_its_time() {
    let renewed = |after_failure| {
        let mut renewed = with_input(running(after_failure), 20);
        renewed.crashes = 1;
        renewed
    };
    let mut attended = running(AfterFailure::Retry);
    attended.wake_at = Some(at(50));
    for (record, now, at_) in [
        (waiting_with_input(50), 49, Some(50)),
        (with_input(record(waiting(50), 0), 20), 30, Some(50)),
        (with_input(record(waiting(20), 0), 50), 30, Some(50)),
        (renewed(AfterFailure::Retry), 30, Some(50)),
        (renewed(AfterFailure::Retry), 49, Some(50)),
        (renewed(AfterFailure::Hold), 49, Some(50)),
        (attended.clone(), 49, Some(50)),
        (attended, 50, None),
        (
            Record {
                wake_at: Some(at(0)),
                ..record(waiting(0), 0)
            },
            50,
            None,
        ),
        (
            Record {
                wake_at: Some(at(0)),
                ..record(unknown(Cause::Ambiguous), 0)
            },
            50,
            None,
        ),
        (with_input(record(dead(DeadReason::Poison), 0), 0), 50, None),
        (
            Record {
                wake_at: Some(at(0)),
                ..record(done(), 0)
            },
            50,
            None,
        ),
    ] {
        let at = at_.map_or(Timestamp::FOREVER, at);
        for ways in [PLAIN, COUNTS] {
            assert_eq!(taken(&record, ways, now), TakeVerdict::Later(at), "{record:?} at {now}");
        }
    }
}

#[test]
fn suspects_run_in_solitude_and_nothing_else_does() {
    for starter in Starter::ALL {
        let record = crashed(*starter, 0);
        assert_eq!(taken(&record, COUNTS, 50), TakeVerdict::Suspect);
        assert!(matches!(taken(&record, ALONE, 50), TakeVerdict::Run(..)));
        assert!(
            matches!(taken(&record, PLAIN, 50), TakeVerdict::Run(..)),
            "no crash counts"
        );
        let nobody = Ways { alone: true, ..PLAIN };
        assert_eq!(taken(&record, nobody, 50), TakeVerdict::Leave);
    }
    let mut without_input = running(AfterFailure::Retry);
    without_input.wake_at = Some(at(50));
    for record in [
        waiting_with_input(0),
        without_input,
        with_input(running(AfterFailure::Hold), 50),
        record(unknown(Cause::Ambiguous), 0),
    ] {
        let record = Record {
            wake_at: Some(at(0)),
            ..record
        };
        let alone = Ways {
            resolves: true,
            ..ALONE
        };
        assert_eq!(taken(&record, alone, 50), TakeVerdict::Leave, "{record:?}");
    }
    let renewed = with_input(running(AfterFailure::Retry), 20);
    assert_eq!(taken(&renewed, ALONE, 49), TakeVerdict::Leave, "it lives");
    assert_eq!(taken(&waiting_with_input(51), ALONE, 50), TakeVerdict::Later(at(51)));
}

#[test]
fn crashes_and_tries_after_a_crash() {
    // Who started it, crashes before; then crashes and tries (of three) once it is started again.
    for (starter, crashes, counted, uncounted) in [
        (Starter::Caller, 0, (1, 4), (0, 4)),
        (Starter::Caller, 1, (1, 4), (1, 4)),
        (Starter::System, 0, (1, 3), (0, 3)),
        (Starter::System, 1, (1, 4), (1, 3)),
        (Starter::System, 2, (2, 4), (2, 3)),
        (Starter::Alone, 0, (1, 3), (0, 3)),
        (Starter::Alone, 1, (2, 4), (1, 3)),
    ] {
        for (ways, expected) in [(ALONE, counted), (PLAIN, uncounted)] {
            let record = record_of(taken(&crashed(starter, crashes), ways, 50));
            assert_eq!(
                (record.crashes, record.tries),
                expected,
                "{starter}, {crashes} crashes, {ways:?}"
            );
        }
    }
    let first = Record {
        tries: 0,
        ..crashed(Starter::System, 0)
    };
    assert_eq!(record_of(taken(&first, ALONE, 50)).tries, 1, "no less than none");
}

#[test]
fn what_is_spent_or_poison_dies_with_its_last_error() {
    let spent = |tries, record| Record { tries, ..record };
    let poison = |crashes| crashed(Starter::Alone, crashes);
    for (record, ways, reason, crashes) in [
        (spent(5, waiting_with_input(0)), COUNTS, DeadReason::Exhausted, 0),
        (spent(6, waiting_with_input(0)), PLAIN, DeadReason::Exhausted, 0),
        (spent(5, crashed(Starter::System, 1)), ALONE, DeadReason::Exhausted, 1),
        (spent(5, crashed(Starter::Caller, 0)), PLAIN, DeadReason::Exhausted, 0),
        (poison(2), ALONE, DeadReason::Poison, 3),
        (spent(5, poison(2)), ALONE, DeadReason::Poison, 3),
        (poison(7), ALONE, DeadReason::Poison, 8),
    ] {
        let before = Record {
            last_error: failure("refused"),
            ..record
        };
        let TakeVerdict::Becomes(record) = taken(&before, ways, 50) else {
            panic!("{before:?} was run");
        };
        let expected = Record {
            crashes,
            since: at(50),
            wake_at: Some(Timestamp::FOREVER),
            state: dead(reason),
            tries: before.tries,
            ..before
        };
        assert_eq!(*record, expected);
    }
    for alive in [
        spent(4, waiting_with_input(0)),
        spent(5, crashed(Starter::System, 0)),
        poison(1),
    ] {
        assert!(
            matches!(taken(&alive, ALONE, 50), TakeVerdict::Run(..) | TakeVerdict::Leave),
            "{alive:?}"
        );
        assert!(matches!(taken(&alive, PLAIN, 50), TakeVerdict::Run(..)), "{alive:?}");
    }
}

/// Starts it, and lets its process die; the start after that, or its end.
fn start_and_crash(record: Record, alone: bool, renewed: bool, now: &mut i64) -> Record {
    let ways = if alone { ALONE } else { COUNTS };
    let mut record = record_of(taken(&record, ways, *now));
    if let State::Running { starter, .. } = &mut record.state {
        if renewed {
            *starter = Starter::System;
        }
        *now += LEASE_MS;
    }
    record
}

#[test]
fn three_kills_end_as_poison_and_bystanders_lose_nothing() {
    let mut now = 0;
    let fresh = Record {
        tries: 0,
        ..waiting_with_input(0)
    };
    let beside = start_and_crash(fresh, false, false, &mut now);
    // The killer: twice more, alone.
    let mut killer = beside.clone();
    let mut killed_at = now;
    for kills in 2..=3 {
        assert_eq!(
            taken(&killer, COUNTS, killed_at),
            TakeVerdict::Suspect,
            "after {} kills",
            kills - 1
        );
        killer = start_and_crash(killer, true, false, &mut killed_at);
        assert_eq!(killer.state.name().as_str(), "running", "kill {kills}");
    }
    killer = start_and_crash(killer, true, false, &mut killed_at);
    assert_eq!((killer.state, killer.crashes), (dead(DeadReason::Poison), 3));
    // A bystander: alone once, and it ends done with one try.
    let bystander = start_and_crash(beside, true, false, &mut now);
    assert_eq!((bystander.tries, bystander.crashes), (1, 1));
    let done = Finish::Done(crate::Outcome::Answer(answer(201)));
    let FinishVerdict::Becomes(ended) = bystander.finish(Fence::new(9), &done, at(now)) else {
        panic!("fenced");
    };
    assert_eq!((ended.state.name().as_str(), ended.crashes), ("done", 0));
}

#[test]
fn a_killer_that_outlives_its_first_heartbeat_spends_its_tries() {
    let mut now = 0;
    let mut record = Record {
        tries: 0,
        ..waiting_with_input(0)
    };
    record = start_and_crash(record, false, true, &mut now);
    for starts in 1..=5 {
        record = start_and_crash(record, true, true, &mut now);
        assert_eq!(
            (record.state.name().as_str(), record.tries, record.crashes),
            ("running", starts, 1)
        );
    }
    record = start_and_crash(record, true, true, &mut now);
    assert_eq!(record.state, dead(DeadReason::Exhausted));
}

#[test]
fn an_unknown_outcome_is_looked_into_after_a_pause() {
    let asked = |record: Record, since, pause: i64| Record {
        since: at(since),
        wake_at: Some(at(100_000 + pause)),
        state: record.state.clone(),
        ..record
    };
    for (since, pause) in [(99_999, 1000), (90_000, 1000), (80_000, 2000), (-99_900_000, 600_000)] {
        for cause in Cause::ALL {
            let before = Record {
                wake_at: Some(at(99_999)),
                ..record(unknown(*cause), since)
            };
            let verdict = taken(&before, RESOLVES, 100_000);
            assert_eq!(verdict, TakeVerdict::Resolve(Box::new(asked(before, since, pause))));
        }
    }
    for (stored, ways) in [
        (true, RESOLVES),
        (false, RESOLVES),
        (
            true,
            Ways {
                resolves: true,
                ..COUNTS
            },
        ),
    ] {
        let mut held = with_input(running(AfterFailure::Hold), 50);
        held.input = held.input.filter(|_| stored);
        let lapsed = held.lapsed(at(50)).unwrap();
        let verdict = taken(&held, ways, 100_000);
        assert_eq!(
            verdict,
            TakeVerdict::Resolve(Box::new(asked(lapsed, 50, 9_995))),
            "a lapse that nobody noticed"
        );
    }
}

#[test]
fn an_unknown_outcome_that_nobody_can_find_out_waits_for_a_person() {
    let held = with_input(running(AfterFailure::Hold), 50);
    let expected = Record {
        wake_at: Some(Timestamp::FOREVER),
        ..held.lapsed(at(60)).unwrap()
    };
    for ways in [PLAIN, COUNTS] {
        assert_eq!(taken(&held, ways, 60), TakeVerdict::Becomes(Box::new(expected.clone())));
    }
}

#[test]
fn a_repeated_take_finds_what_it_took_while_it_holds_it() {
    let TakeVerdict::Run(record, lease) = taken(&waiting_with_input(0), PLAIN, 10) else {
        panic!("not run");
    };
    for now in [10, 39] {
        assert_eq!(record.taken_by(&take(), at(now)), Some(lease));
    }
    assert_eq!(record.taken_by(&take(), at(40)), None, "lapsed");
    let other = Take {
        attempt: attempt(8),
        ..take()
    };
    assert_eq!(record.taken_by(&other, at(10)), None);
    let ended = Record {
        attempt: attempt(9),
        ..record_of(taken(
            &Record {
                tries: 9,
                ..waiting_with_input(0)
            },
            PLAIN,
            10,
        ))
    };
    assert_eq!(ended.taken_by(&take(), at(10)), None);
}

#[test]
fn the_pause_is_a_tenth_of_the_age_within_bounds() {
    for (age_s, pause_ms) in [
        (0, 1000),
        (10, 1000),
        (11, 1100),
        (5_990, 599_000),
        (6_000, 600_000),
        (999_999, 600_000),
    ] {
        assert_eq!(
            take_name().resolve_pause(ms(age_s * 1000)),
            ms(pause_ms),
            "after {age_s} s"
        );
    }
}
