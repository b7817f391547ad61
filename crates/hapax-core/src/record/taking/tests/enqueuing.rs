use super::*;

fn written(verdict: EnqueueVerdict) -> Record {
    match verdict {
        EnqueueVerdict::Write(record) => *record,
        verdict => panic!("{verdict:?}"),
    }
}

fn enqueue_on(before: &Record, now: i64) -> EnqueueVerdict {
    Record::enqueue(Some(before), &enqueue(), Fence::new(9), at(now))
}

#[test]
fn a_new_operation_waits_with_its_input() {
    let expected = Record {
        operation: claim().operation,
        fingerprint: fingerprint(1, 1),
        fence: Fence::new(9),
        attempt: attempt(2),
        tries: 0,
        crashes: 0,
        created: at(100),
        since: at(100),
        retention: claim().retention,
        input: Some(input()),
        last_error: None,
        redriven: None,
        group: Some(group()),
        wake_at: Some(at(110)),
        state: waiting(110),
    };
    let enqueue = Enqueue {
        group: Some(group()),
        ..enqueue()
    };
    let verdict = Record::enqueue(None, &enqueue, Fence::new(9), at(100));
    assert_eq!(written(verdict), expected);
    let stranger = Enqueue {
        group: Some(OperationId::from_bytes([7; 16])),
        attempt: attempt(3),
        ..enqueue.clone()
    };
    let unasked = Record {
        input: None,
        ..expected.clone()
    };
    let verdict = Record::enqueue(Some(&unasked), &stranger, Fence::new(9), at(100));
    assert_eq!(written(verdict).group, Some(group()), "it stays where it was made");
    assert_eq!(
        Record::first_look_enqueued(&enqueue, at(100)),
        at(110 + REPLAY_MS),
        "not before it can have been run and its answer expired"
    );
}

#[test]
fn what_waits_for_an_arrival_gets_its_input_and_keeps_its_time() {
    // At 100, with a delay of 10.
    for (before, due) in [
        (record(waiting(5), 5), 110),
        (record(waiting(109), 5), 110),
        (record(waiting(500), 5), 500),
        (running(AfterFailure::Retry), 110),
    ] {
        let mut before = before;
        (before.last_error, before.redriven) = (failure("refused"), Some(at(3)));
        let expected = Record {
            fence: Fence::new(9),
            attempt: attempt(2),
            input: Some(input()),
            since: at(100),
            wake_at: Some(at(due)),
            state: waiting(due),
            ..before.clone()
        };
        assert_eq!(written(enqueue_on(&before, 100)), expected);
    }
}

#[test]
fn a_lost_reply_is_given_again() {
    let enqueued = written(Record::enqueue(None, &enqueue(), Fence::new(9), at(100)));
    for now in [100, 110, 1000] {
        assert_eq!(enqueue_on(&enqueued, now), EnqueueVerdict::Already);
    }
}

#[test]
fn an_operation_asked_for_before_is_told_as_an_arrival_would_be() {
    let refuse = |record: &Record, now| EnqueueVerdict::Refuse(record.refusal(at(now)));
    let mut live = running(AfterFailure::Retry);
    for now in [0, 49] {
        assert_eq!(enqueue_on(&live, now), refuse(&live, now), "it runs");
    }
    live.input = Some(input());
    assert_eq!(enqueue_on(&live, 60), refuse(&live, 60), "a runner will take it over");
    let mut same_attempt = running(AfterFailure::Retry);
    same_attempt.attempt = attempt(2);
    assert_eq!(enqueue_on(&same_attempt, 20), refuse(&same_attempt, 20));
    for record in [
        waiting_with_input(5),
        waiting_with_input(500),
        record(unknown(Cause::Ambiguous), 0),
        record(done(), 0),
        with_input(record(dead(DeadReason::Poison), 0), 0),
    ] {
        assert_eq!(enqueue_on(&record, 100), refuse(&record, 100));
    }
    let lapsed = running(AfterFailure::Hold).lapsed(at(50)).map(Box::new);
    for now in [50, 60] {
        assert_eq!(
            Some(enqueue_on(&running(AfterFailure::Hold), now)),
            lapsed.clone().map(EnqueueVerdict::Lapse)
        );
    }
    assert!(matches!(
        enqueue_on(&running(AfterFailure::Hold), 49),
        EnqueueVerdict::Refuse(_)
    ));
}

#[test]
fn a_mismatch_is_told_before_all_else() {
    let mut enqueue = enqueue();
    let mut same_attempt = waiting_with_input(5);
    same_attempt.attempt = enqueue.attempt;
    for record in [
        same_attempt,
        record(waiting(5), 0),
        running(AfterFailure::Hold),
        running(AfterFailure::Retry),
        record(unknown(Cause::Lapsed), 0),
        record(done(), 0),
        record(dead(DeadReason::Poison), 0),
    ] {
        for (recipe, digest, refusal) in [
            (1, 2, Refusal::Mismatch),
            (2, 1, Refusal::OtherRecipe(crate::RecipeId::new(1))),
            (2, 2, Refusal::OtherRecipe(crate::RecipeId::new(1))),
        ] {
            enqueue.fingerprint = fingerprint(recipe, digest);
            let verdict = Record::enqueue(Some(&record), &enqueue, Fence::new(9), at(60));
            assert_eq!(verdict, EnqueueVerdict::Refuse(refusal), "{record:?}");
        }
    }
}
