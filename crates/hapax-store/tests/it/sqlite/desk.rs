//! What people see and do: listings, the census, amendments and their audit.

use std::collections::BTreeMap;
use std::time::Duration;

use hapax_core::{
    Amend, Amended, Cursor, DeadReason, Filter, Finish, LastError, Name, Operation, Outcome, Resolution, Scope,
    StateName, Store, Summary,
};
use hapax_store::SqliteStore;

use super::{Hand, amendment, claim, done, enqueue, open, open_at, operation, win};

fn dead() -> Finish {
    Finish::Dead {
        reason: DeadReason::Refused,
        answer: None,
        last_error: Some(LastError::new("no such account")),
    }
}

/// The states, by key: 0 to 4 dead, 5 to 9 waiting, 10 to 14 done, 15 unknown, 16 a lapsed claim, 17 a lapsed one that
/// nobody attends.
async fn one_of_each(store: &SqliteStore) {
    for n in 0..18 {
        let mut claim = claim(&format!("k{n:02}"));
        let id = claim.operation.id();
        claim.attended = n == 16;
        claim.lease = if n > 15 { Duration::from_secs(1) } else { claim.lease };
        let lease = win(store, claim).await;
        let finish = match n {
            0..5 => dead(),
            5..10 => Finish::Release {
                after: Duration::ZERO,
                counts: false,
                last_error: None,
            },
            10..15 => done("ok"),
            15 => Finish::Unknown {
                answer: None,
                last_error: None,
            },
            _ => continue,
        };
        store.finish(id, lease.fence, finish).await.unwrap();
    }
}

async fn listed(store: &SqliteStore, filter: &Filter, limit: usize) -> Vec<Summary> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(filter.clone(), after, limit).await.unwrap();
        assert!(page.records.len() <= limit);
        all.extend(page.records);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn listings_through_the_index_and_without_it_agree() {
    let directory = tempfile::tempdir().unwrap();
    let hand = Hand::at(1_000_000);
    let store = open_at(&directory.path().join("hapax.db"), hand.clock());
    one_of_each(&store).await;
    hand.advance(Duration::from_secs(2));
    store.enqueue(enqueue("late")).await.unwrap();
    let all = listed(&store, &Filter::default(), 1000).await;
    assert_eq!(all.len(), 19);
    let base = Filter::default;
    let middle = Some(hapax_core::Timestamp::from_millis(1_001_000));
    let state = |state| Filter {
        state: Some(state),
        ..base()
    };
    for (filter, count) in [
        (state(StateName::Dead), 5),
        (state(StateName::Waiting), 6),
        (state(StateName::Done), 5),
        (state(StateName::Unknown), 3),
        (state(StateName::Running), 0),
        (
            Filter {
                dead: Some(DeadReason::Refused),
                ..base()
            },
            5,
        ),
        (
            Filter {
                dead: Some(DeadReason::Poison),
                ..base()
            },
            0,
        ),
        (
            Filter {
                dead: Some(DeadReason::Refused),
                ..state(StateName::Waiting)
            },
            0,
        ),
        (
            Filter {
                dead: Some(DeadReason::Refused),
                ..state(StateName::Unknown)
            },
            0,
        ),
        (
            Filter {
                since: middle,
                ..state(StateName::Waiting)
            },
            1,
        ),
        (
            Filter {
                before: middle,
                ..state(StateName::Waiting)
            },
            5,
        ),
        (
            Filter {
                since: middle,
                ..state(StateName::Unknown)
            },
            2,
        ),
        (
            Filter {
                before: middle,
                ..base()
            },
            16,
        ),
        (
            Filter {
                since: middle,
                ..base()
            },
            3,
        ),
        (
            Filter {
                scope: Some("nobody".into()),
                ..state(StateName::Dead)
            },
            0,
        ),
        (
            Filter {
                name: Some("default".into()),
                ..state(StateName::Dead)
            },
            5,
        ),
        (
            Filter {
                key: Some("k02".into()),
                ..state(StateName::Dead)
            },
            1,
        ),
    ] {
        let expected: Vec<_> = all.iter().filter(|summary| filter.holds(summary)).cloned().collect();
        assert_eq!(expected.len(), count, "{filter:?}");
        for limit in [1, 2, 1000] {
            assert_eq!(listed(&store, &filter, limit).await, expected, "{filter:?}");
        }
    }
    let late = &all[18];
    assert!(late.has_input && late.last_error.is_none());
    assert_eq!(
        (all[0].dead, all[0].last_error.clone()),
        (Some(DeadReason::Refused), Some(LastError::new("no such account")))
    );
}

#[tokio::test]
async fn a_census_counts_what_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let hand = Hand::at(1_000_000);
    let store = open_at(&directory.path().join("hapax.db"), hand.clock());
    assert_eq!(store.census(true).await.unwrap(), hapax_core::Census::default());
    one_of_each(&store).await;
    hand.advance(Duration::from_secs(2));
    let mut other = enqueue("due");
    other.operation = Operation::new(
        Scope::new("another").unwrap(),
        Name::new("n").unwrap(),
        operation("k").key().clone(),
    );
    store.enqueue(other).await.unwrap();
    hand.advance(Duration::from_secs(7));
    let census = store.census(false).await.unwrap();
    assert_eq!((census.waiting, census.unknown, census.dead), (6, 2, 5));
    assert_eq!(census.oldest_due.unwrap().as_millis(), 1_002_000);
    assert_eq!(census.oldest_unknown.unwrap().as_millis(), 1_000_000);
    assert_eq!(census.scopes, []);
    let scopes = store.census(true).await.unwrap().scopes;
    let scopes: Vec<_> = scopes.iter().map(|(scope, count)| (scope.as_str(), *count)).collect();
    assert_eq!(scopes, [("another", 1), ("tenant", 18)]);
    // The one that nobody attends counts once the sweeper, or an arrival, has noticed.
    let mut late = claim("k17");
    late.attempt = hapax_core::AttemptId::from_bytes([9; 16]);
    store.claim(late).await.unwrap();
    assert_eq!(store.census(false).await.unwrap().unknown, 3);
}

#[tokio::test]
async fn the_audit_tells_who_did_what_in_the_order_it_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    one_of_each(&store).await;
    let id = operation("k00").id();
    let resolve = Amend::Resolve {
        resolution: Resolution::Done(Outcome::NotKept(hapax_core::NotKept::TooLarge)),
        settle: Duration::ZERO,
    };
    for (key, amend) in [
        ("k00", Amend::Redrive),
        ("k10", Amend::Redrive),
        ("k15", resolve),
        ("k00", Amend::Forget { even_unknown: false }),
        ("k01", Amend::Discard),
    ] {
        store.amend(operation(key).id(), amendment(amend)).await.unwrap();
    }
    store.close();
    let store = open(&path);
    let mut lines = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let (page, next) = store.audit(None, after, 3).await.unwrap();
        lines.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line.operation.key().as_str(),
                line.action.as_str(),
                line.before.as_str(),
                line.after.map(StateName::as_str),
            )
        })
        .collect();
    let expected = [
        ("k00", "redrive", "dead", Some("waiting")),
        ("k15", "resolve-done", "unknown", Some("done")),
        ("k00", "forget", "waiting", None),
        ("k01", "discard", "dead", Some("done")),
    ];
    assert_eq!(told, expected);
    assert!(lines.iter().all(|line| line.audit == amendment(Amend::Redrive).audit));
    let (of_one, next) = store.audit(Some(id), None, 2).await.unwrap();
    assert_eq!((of_one, next), (vec![lines[0].clone(), lines[2].clone()], None));
}

#[tokio::test]
async fn a_record_that_moved_is_not_amended() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("hapax.db"));
    one_of_each(&store).await;
    let id = operation("k00").id();
    let (_, record) = store.read(id).await.unwrap();
    let mut by_fence: BTreeMap<&str, _> = BTreeMap::new();
    for who in ["first", "second"] {
        let mut amendment = amendment(Amend::Redrive);
        amendment.fence = record.as_ref().map(|record| record.fence);
        by_fence.insert(who, store.amend(id, amendment).await.unwrap());
    }
    assert!(matches!(by_fence["first"], Amended::Became(_)), "{by_fence:?}");
    assert_eq!(by_fence["second"], Amended::Changed(StateName::Waiting));
    assert_eq!(store.audit(None, None, 10).await.unwrap().0.len(), 1);
}
