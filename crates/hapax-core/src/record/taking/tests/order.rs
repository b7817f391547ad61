use super::*;

fn in_line(before: usize, record: &Record, name: &TakeName, now: i64) -> TakeVerdict {
    record.take(&take(), name, before, Fence::new(9), at(now))
}

#[test]
fn only_a_record_of_a_group_waits_for_its_turn_and_only_where_order_is_kept() {
    let ordered = TakeName {
        ordered: true,
        ..take_name()
    };
    let alone = waiting_with_input(0);
    let member = Record {
        group: Some(group()),
        ..alone.clone()
    };
    assert_eq!(member.line(&ordered), Some(group()));
    for (record, name) in [(&alone, &ordered), (&member, &take_name()), (&alone, &take_name())] {
        assert_eq!(record.line(name), None);
    }
}

#[test]
fn what_is_behind_others_is_not_started_and_looked_at_later() {
    let counting = TakeName {
        crashes_count: true,
        ..take_name()
    };
    let spent = TakeName {
        tries: 0,
        ..take_name()
    };
    for record in [waiting_with_input(50), crashed(Starter::System, 0)] {
        for name in [&take_name(), &spent] {
            assert!(!matches!(in_line(0, &record, name, 50), TakeVerdict::Later(_)));
            assert_eq!(in_line(1, &record, name, 50), TakeVerdict::Later(at(50 + 5_000)));
            for many in [2, 3] {
                assert_eq!(in_line(many, &record, name, 50), TakeVerdict::Later(at(50 + 60_000)));
            }
        }
    }
    // Told apart before the turn matters.
    assert_eq!(
        in_line(1, &waiting_with_input(51), &take_name(), 50),
        TakeVerdict::Later(at(51))
    );
    assert_eq!(
        in_line(1, &crashed(Starter::System, 0), &counting, 50),
        TakeVerdict::Suspect
    );
    let unasked = record(waiting(0), 0);
    let unasked = Record {
        wake_at: Some(at(0)),
        ..unasked
    };
    assert_eq!(
        in_line(1, &unasked, &take_name(), 50),
        TakeVerdict::Later(Timestamp::FOREVER)
    );
}

#[test]
fn an_unknown_outcome_is_looked_into_whatever_is_before_it() {
    let resolving = TakeName {
        resolves: true,
        ..take_name()
    };
    let record = with_input(record(unknown(Cause::Ambiguous), 0), 0);
    assert!(matches!(in_line(2, &record, &resolving, 50), TakeVerdict::Resolve(_)));
}

#[test]
fn whose_turn_comes_is_looked_at_as_if_it_had_not_been_put_off() {
    let put_off = Record {
        wake_at: Some(at(5_000)),
        ..waiting_with_input(50)
    };
    assert_eq!(put_off.turn(at(50)), Some(at(50)));
    assert_eq!(put_off.turn(at(49)), None, "it waits for its time");
    assert_eq!(record(waiting(50), 0).turn(at(50)), None, "it waits for an arrival");
    assert_eq!(with_input(running(AfterFailure::Retry), 50).turn(at(60)), None);
    assert_eq!(with_input(record(dead(DeadReason::Poison), 0), 0).turn(at(60)), None);
}
