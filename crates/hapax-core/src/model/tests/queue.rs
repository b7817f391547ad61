use super::*;

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

fn ordered(number: u8, limit: usize) -> Take {
    let mut take = take_of(number, limit);
    take.names[0].ordered = true;
    take
}

fn member(key: &str, number: u8) -> Enqueue {
    Enqueue {
        group: Some(group()),
        ..enqueue_of(key, number)
    }
}

fn woken(model: &Model, key: &str) -> Option<Timestamp> {
    model.record(id(key)).unwrap().wake_at
}

#[test]
fn a_line_moves_on_when_its_first_is_done() {
    let mut model = Model::default();
    for key in ["a", "b", "c"] {
        model.enqueue(&member(key, 1), at(10));
    }
    model.enqueue(&enqueue_of("loner", 1), at(10));
    let first = model.take(&ordered(20, 9), at(10));
    assert_eq!((keys(&first), first.more), (vec!["a".into(), "loner".into()], false));
    assert_eq!(
        (woken(&model, "b"), woken(&model, "c")),
        (Some(at(5_010)), Some(at(60_010)))
    );
    let [Work::Run(_, lease), _] = &first.work[..] else {
        panic!("{first:?}");
    };
    model.finish(id("a"), lease.fence, &released(1), at(11));
    assert_eq!(woken(&model, "b"), Some(at(5_010)), "it is not over");
    let second = model.take(&ordered(21, 9), at(12));
    assert_eq!(keys(&second), ["a"]);
    let [Work::Run(_, lease)] = &second.work[..] else {
        panic!("{second:?}");
    };
    model.finish(id("a"), lease.fence, &answered(), at(13));
    assert_eq!(
        (woken(&model, "b"), woken(&model, "c")),
        (Some(at(10)), Some(at(60_010)))
    );
    model.enqueue(&member("d", 1), at(13));
    let third = model.take(&ordered(22, 9), at(13));
    assert_eq!(keys(&third), ["b"]);
    assert_eq!(woken(&model, "d"), Some(at(60_013)), "two are before it");
    assert_eq!(
        keys(&model.take(&take_of(23, 9), at(60_013))).len(),
        4,
        "without order all go"
    );
}

#[test]
fn a_dead_letter_holds_up_its_line_until_somebody_closes_it() {
    let mut model = Model::default();
    for key in ["a", "b"] {
        model.enqueue(&member(key, 1), at(0));
    }
    let mut spent = ordered(20, 9);
    spent.names[0].tries = 0;
    assert_eq!(model.take(&spent, at(1)).ended.len(), 1, "a only");
    assert!(model.take(&ordered(21, 9), at(5_001)).work.is_empty());
    model.amend(id("a"), &amendment(Amend::Undo), at(5_002));
    assert_eq!(woken(&model, "b"), Some(at(10_001)), "dead is not done");
    model.amend(id("a"), &amendment(Amend::Discard), at(5_003));
    assert_eq!(woken(&model, "b"), Some(at(0)));
    assert_eq!(keys(&model.take(&ordered(22, 9), at(5_003))), ["b"]);
}

#[test]
fn whoever_is_forgotten_holds_up_nobody() {
    let mut model = Model::default();
    let claim = Claim {
        group: Some(group()),
        ..claim_of("a", 1)
    };
    let fence = won(model.claim(&claim, at(0))).fence;
    model.enqueue(&member("b", 1), at(0));
    assert!(model.take(&ordered(20, 9), at(0)).work.is_empty());
    model.finish(id("a"), fence, &released(0), at(1));
    model.amend(id("a"), &amendment(Amend::Forget { even_unknown: false }), at(1));
    assert_eq!(keys(&model.take(&ordered(21, 9), at(5_000))), ["b"]);
}

#[test]
fn a_take_puts_off_only_so_many() {
    let mut model = Model::default();
    for number in 0..=Take::MOST_PUT_OFF + 1 {
        model.enqueue(&member(&number.to_string(), 1), at(0));
    }
    model.enqueue(&enqueue_of("loner", 1), at(0));
    let first = model.take(&ordered(20, 9), at(0));
    assert_eq!((keys(&first), first.more), (vec!["0".into()], true));
    let second = model.take(&ordered(21, 9), at(0));
    assert_eq!((keys(&second), second.more), (vec!["loner".into()], false));
}

#[test]
fn a_fence_is_only_raised() {
    let mut model = Model::default();
    model.raise_fence(Fence::new(40));
    model.raise_fence(Fence::new(7));
    assert_eq!(won(model.claim(&claim_of("k", 1), at(0))).fence, Fence::new(41));
}

#[test]
fn a_group_is_listed_by_age() {
    let mut model = Model::default();
    for key in ["b", "a"] {
        model.enqueue(&member(key, 1), at(0));
    }
    model.enqueue(&enqueue_of("loner", 1), at(0));
    let filter = Filter {
        group: Some(group()),
        ..Filter::default()
    };
    let page = model.list(&filter, None, 9, at(0));
    let keys: Vec<_> = page
        .records
        .iter()
        .map(|record| record.operation.key().as_str())
        .collect();
    assert_eq!(keys, ["b", "a"]);
}
