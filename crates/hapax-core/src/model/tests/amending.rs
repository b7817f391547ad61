use super::*;

#[test]
fn an_amendment_is_written_with_its_audit_and_a_new_fence() {
    let mut model = Model::default();
    let before = dead_letter(&mut model, "k", 0);
    let amended = model.amend(id("k"), &amendment(Amend::Redrive), at(5));
    let record = model.record(id("k")).unwrap().clone();
    assert_eq!(amended, Amended::Became(Box::new(record.clone())));
    assert_eq!((record.fence, record.state.name()), (Fence::new(2), StateName::Waiting));
    assert_eq!(
        model.finish(id("k"), before, &answered(), at(6)),
        Finished::Fenced {
            now: at(6),
            record: Some(Box::new(record))
        }
    );
    assert_eq!(won(model.claim(&claim_of("l", 2), at(6))).fence, Fence::new(3));
    let entry = AuditEntry {
        at: at(5),
        operation: operation("s", "n", "k"),
        action: "redrive".into(),
        audit: amendment(Amend::Redrive).audit,
        before: StateName::Dead,
        after: Some(StateName::Waiting),
    };
    assert_eq!(model.audit(None, None, 9), (vec![entry], None));
}

#[test]
fn what_was_not_carried_out_is_not_in_the_audit() {
    let mut model = Model::default();
    let fence = won(model.claim(&claim_of("k", 1), at(0))).fence;
    let guarded = Amendment {
        fence: Some(Fence::new(9)),
        ..amendment(Amend::Redrive)
    };
    assert_eq!(model.amend(id("nothing"), &guarded, at(0)), Amended::Absent);
    assert_eq!(
        model.amend(id("k"), &guarded, at(0)),
        Amended::Changed(StateName::Running)
    );
    let refused = model.amend(id("k"), &amendment(Amend::Redrive), at(0));
    assert_eq!(refused, Amended::Refused(StateName::Running));
    let doubt = Finish::Unknown {
        answer: None,
        last_error: None,
    };
    model.finish(id("k"), fence, &doubt, at(5));
    let not_done = amendment(resolve(Resolution::NotDone));
    assert_eq!(model.amend(id("k"), &not_done, at(6)), Amended::Unsettled(at(25)));
    assert_eq!(model.audit(None, None, 9), (vec![], None));
    // An audit says the state that everybody saw: a lapsed claim was unknown.
    won(model.claim(&claim_of("l", 2), at(6)));
    model.amend(id("l"), &amendment(resolve(Resolution::Dead)), at(99));
    let (entries, _) = model.audit(None, None, 9);
    assert_eq!(
        (entries[0].before, entries[0].after),
        (StateName::Unknown, Some(StateName::Dead))
    );
}

#[test]
fn the_audit_outlives_its_records_and_comes_in_pages() {
    let mut model = Model::default();
    for (now, key) in [(0, "a"), (1, "b"), (2, "a"), (3, "a")] {
        dead_letter(&mut model, key, now);
        let forget = amendment(Amend::Forget { even_unknown: false });
        assert_eq!(model.amend(id(key), &forget, at(now)), Amended::Forgotten);
    }
    let times = |entries: &[AuditEntry]| -> Vec<i64> { entries.iter().map(|entry| entry.at.as_millis()).collect() };
    let (page, next) = model.audit(None, None, 3);
    assert_eq!((times(&page), page[0].after), (vec![0, 1, 2], None));
    let (page, end) = model.audit(None, next, 3);
    assert_eq!((times(&page), end), (vec![3], None));
    assert_eq!(model.audit(None, None, 4).1, None, "nothing after a full page");
    let (page, next) = model.audit(Some(id("a")), None, 2);
    assert_eq!(times(&page), [0, 2]);
    assert_eq!(times(&model.audit(Some(id("a")), next, 2).0), [3]);
    assert_eq!(times(&model.audit(Some(id("b")), None, 0).0), [1], "at least one");
    assert!(model.audit(Some(id("c")), None, 9).0.is_empty());
    for _ in 0..1000 {
        dead_letter(&mut model, "c", 4);
        model.amend(id("c"), &amendment(Amend::Forget { even_unknown: false }), at(4));
    }
    assert_eq!(model.audit(None, None, usize::MAX).0.len(), 1000, "at most a thousand");
}

#[test]
fn the_census_counts_what_is_not_settled() {
    let mut model = Model::default();
    assert_eq!(model.census(true, at(0)), Census::default());
    for (key, after) in [("later", 500), ("due", 10), ("first", 5)] {
        let enqueue = Enqueue {
            delay: ms(after),
            ..enqueue_of(key, 1)
        };
        model.enqueue(&enqueue, at(0));
    }
    dead_letter(&mut model, "dead", 0);
    let mut tenant = claim_of("done", 1);
    tenant.operation = operation("r", "n", "done");
    let fence = won(model.claim(&tenant, at(0))).fence;
    model.finish(tenant.operation.id(), fence, &answered(), at(0));
    let released = won(model.claim(&claim_of("released", 1), at(0))).fence;
    model.finish(id("released"), released, &self::released(0), at(0));
    for (key, now) in [("doubt", 3), ("first doubt", 2)] {
        let fence = won(model.claim(&claim_of(key, 1), at(now))).fence;
        let doubt = Finish::Unknown {
            answer: None,
            last_error: None,
        };
        model.finish(id(key), fence, &doubt, at(now));
    }
    let attended = Claim {
        attended: true,
        ..claim_of("attended", 1)
    };
    won(model.claim(&attended, at(1)));
    won(model.claim(&claim_of("unattended", 1), at(0)));
    let census = Census {
        waiting: 4,
        unknown: 2,
        dead: 1,
        oldest_due: Some(at(5)),
        oldest_unknown: Some(at(2)),
        scopes: vec![],
    };
    assert_eq!(model.census(false, at(10)), census);
    assert_eq!(model.census(false, at(4)).oldest_due, None);
    let scope = |scope| crate::Scope::new(scope).unwrap();
    let scopes = vec![(scope("r"), 1), (scope("s"), 9)];
    assert_eq!(
        model.census(true, at(10)),
        Census {
            scopes,
            ..census.clone()
        }
    );
    let lapsed = Census {
        unknown: 3,
        oldest_unknown: Some(at(2)),
        ..census
    };
    assert_eq!(
        model.census(false, at(100)),
        lapsed,
        "what nobody attends counts once it was noticed"
    );
}
