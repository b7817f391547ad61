use hapax_core::{
    AfterFailure, AttemptId, Claim, Fingerprint, Key, Name, Operation, RecipeId, Retention, Starter, Store,
};
use hapax_store::{Clock, MemoryStore};

use super::*;
use crate::engine::EngineOptions;

const SECOND: Duration = Duration::from_secs(1);

fn scope(name: &str) -> Scope {
    Scope::new(name).unwrap()
}

fn engine() -> (Engine, MemoryStore) {
    let store = MemoryStore::new(Clock::default(), [7; 32]);
    (Engine::new(store.clone(), EngineOptions::default(), ()), store)
}

fn quotas(quota: Quota) -> Arc<Quotas> {
    Arc::new(Quotas::new(quota))
}

fn limit(entered: Result<Place, Hit>) -> Option<QuotaLimit> {
    entered.err().map(|hit| hit.limit)
}

#[tokio::test(start_paused = true)]
async fn starts_a_second_are_a_bucket_of_each_scope() {
    let (engine, _) = engine();
    let quotas = quotas(Quota {
        new_per_second: Some(2.5),
        ..Quota::default()
    });
    let start = |name: &str| {
        let mut place = quotas.enter(&scope(name), &engine)?;
        place.used();
        Ok(())
    };
    assert_eq!((start("a"), start("a")), (Ok(()), Ok(())));
    let hit: Hit = start("a").unwrap_err();
    assert_eq!(
        (hit.limit, hit.retry_after.as_millis()),
        (QuotaLimit::NewPerSecond, 200)
    );
    assert_eq!(start("b"), Ok(()), "another scope");
    tokio::time::advance(hit.retry_after).await;
    assert_eq!(start("a"), Ok(()));
    assert!(start("a").is_err());
    tokio::time::advance(1000 * SECOND).await;
    assert_eq!(
        (start("a"), start("a")),
        (Ok(()), Ok(())),
        "a burst is one second's worth"
    );
    assert!(start("a").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_rate_lets_one_through_at_a_time() {
    let (engine, _) = engine();
    let quotas = quotas(Quota {
        new_per_second: Some(0.1),
        ..Quota::default()
    });
    quotas.enter(&scope("a"), &engine).unwrap().used();
    let hit = quotas.enter(&scope("a"), &engine).unwrap_err();
    assert_eq!(hit.retry_after.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_not_used_gives_all_of_it_back() {
    let (engine, _) = engine();
    let quotas = quotas(Quota {
        new_per_second: Some(1.0),
        in_flight: Some(1),
        records: Some(1),
    });
    let place = quotas.enter(&scope("a"), &engine).unwrap();
    assert!(quotas.enter(&scope("a"), &engine).is_err());
    drop(place);
    let mut place = quotas.enter(&scope("a"), &engine).unwrap();
    place.used();
    drop(place);
    assert_eq!(limit(quotas.enter(&scope("a"), &engine)), Some(QuotaLimit::Records));
    assert_eq!(limit(quotas.enter_known(&scope("a"))), Some(QuotaLimit::NewPerSecond));
}

#[tokio::test]
async fn places_are_held_by_what_is_in_flight() {
    let (engine, _) = engine();
    let quotas = quotas(Quota {
        in_flight: Some(2),
        ..Quota::default()
    });
    let places = [1, 2].map(|_| quotas.enter(&scope("a"), &engine).unwrap());
    assert_eq!(limit(quotas.enter(&scope("a"), &engine)), Some(QuotaLimit::InFlight));
    assert!(quotas.enter(&scope("b"), &engine).is_ok());
    drop(places);
    assert!(quotas.enter(&scope("a"), &engine).is_ok());
}

#[tokio::test(start_paused = true)]
async fn records_are_counted_in_the_store_and_here() {
    let (engine, store) = engine();
    let claim = |scope: &str, key: &str| {
        store.claim(Claim {
            operation: Operation::new(
                Scope::new(scope).unwrap(),
                Name::new("n").unwrap(),
                Key::new(key).unwrap(),
            ),
            fingerprint: Fingerprint::new(RecipeId::new(1), [1; 32]),
            attempt: AttemptId::from_bytes([1; 16]),
            starter: Starter::Caller,
            lease: SECOND,
            max_run: SECOND,
            after_failure: AfterFailure::Hold,
            attended: false,
            retention: Retention::default(),
            input: None,
            group: None,
        })
    };
    claim("a", "1").await.unwrap();
    claim("a", "2").await.unwrap();
    let quotas = quotas(Quota {
        records: Some(3),
        ..Quota::default()
    });
    let start = |name: &str| {
        let place = quotas.enter(&scope(name), &engine);
        place.map(|mut place| place.used()).map_err(|hit| hit.limit)
    };
    // The census that this begins sees the two, and what is added meanwhile counts beside them.
    assert_eq!(start("a"), Ok(()));
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    claim("b", "1").await.unwrap();
    assert_eq!(start("a"), Ok(()), "what was added before the census is in it");
    assert_eq!(start("a"), Err(QuotaLimit::Records));
    assert_eq!(start("b"), Ok(()));
    tokio::time::advance(CENSUS).await;
    assert_eq!(
        start("a"),
        Err(QuotaLimit::Records),
        "the old count stands until there is a new one"
    );
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(start("a"), Ok(()), "two in the store");
}

#[tokio::test(start_paused = true)]
async fn idle_scopes_are_dropped() {
    let (engine, _) = engine();
    let quotas = quotas(Quota {
        new_per_second: Some(1.0),
        ..Quota::default()
    });
    let held = quotas.enter(&scope("held"), &engine).unwrap();
    for n in 0..3 * SCOPES {
        drop(quotas.enter(&scope(&n.to_string()), &engine).unwrap());
        assert!(quotas.table().scopes.len() <= SCOPES + 1);
    }
    assert!(quotas.table().scopes.contains_key(&held.scope));
}

#[test]
fn impossible_quotas_are_refused() {
    let none = Quota::default();
    assert_eq!(none.nonsense(), None);
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let new_per_second = Some(rate);
        let text = Quota { new_per_second, ..none }.nonsense().unwrap();
        assert!(
            text.contains("quota.new_per_second") && text.contains("above 0"),
            "{text}"
        );
    }
    let text = Quota {
        in_flight: Some(0),
        ..none
    }
    .nonsense()
    .unwrap();
    assert!(text.contains("quota.in_flight"), "{text}");
    let text = Quota {
        records: Some(0),
        ..none
    }
    .nonsense()
    .unwrap();
    assert!(text.contains("quota.records"), "{text}");
}
