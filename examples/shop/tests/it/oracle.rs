//! What the ledger counts.

use hapax_shop::{Error, Ledger};

use crate::world::{ORDER, World};

const POINTS: &str = r#"{"customer":"ann","points":7}"#;

#[tokio::test]
async fn an_effect_carries_the_headers_as_received() {
    let world = World::naive().await;
    let headers = [
        ("Idempotency-Key", r#""k-1""#),
        ("Hapax-Operation", "op-7"),
        ("Hapax-Fence", "18446744073709551615"),
    ];
    let id = world.post("/orders", &headers, ORDER).await.id();
    world.post("/points", &[], POINTS).await;
    world
        .post("/points", &[("Hapax-Fence", "1"), ("Hapax-Fence", "2")], POINTS)
        .await;

    let effects = world.ledger().effects().unwrap();
    let order = effects.iter().find(|e| e.kind == "order").unwrap();
    assert_eq!(order.id, id);
    assert_eq!(order.key.as_deref(), Some(r#""k-1""#));
    assert_eq!(order.bare_key().as_deref(), Some("k-1"));
    assert_eq!(order.operation.as_deref(), Some("op-7"));
    assert_eq!(order.fence.as_deref(), Some("18446744073709551615"));
    assert!(order.created_ms > 1_700_000_000_000);

    let points: Vec<_> = effects.iter().filter(|e| e.kind == "points").collect();
    assert_eq!(
        (&points[0].key, &points[0].operation, &points[0].fence),
        (&None, &None, &None)
    );
    assert_eq!(points[1].fence.as_deref(), Some("1, 2"));
}

#[tokio::test]
async fn doubles_are_effects_of_one_kind_under_one_key() {
    let world = World::naive().await;
    let order = |key: &'static str| async { world.post("/orders", &[("Idempotency-Key", key)], ORDER).await.id() };
    let once = order("once").await;
    let twice = [order("twice").await, order(r#""twice""#).await];
    world.post("/points", &[("Idempotency-Key", "once")], POINTS).await;
    for _ in 0..2 {
        world.post("/points", &[], POINTS).await;
    }
    assert_ne!(once, twice[0]);

    let ledger = world.ledger();
    assert_eq!(ledger.total_effects().unwrap(), 6);
    let by_key = ledger.effects_by_key().unwrap();
    assert_eq!(by_key, [("once".to_owned(), 2), ("twice".to_owned(), 2)].into());
    let doubles = ledger.doubles().unwrap();
    assert_eq!(doubles.len(), 1, "{doubles:?}");
    assert_eq!((doubles[0].kind.as_str(), doubles[0].key.as_str()), ("order", "twice"));
    assert_eq!(doubles[0].effects.iter().map(|e| e.id).collect::<Vec<_>>(), twice);
}

#[tokio::test]
async fn a_ledger_sees_what_is_committed_while_it_is_open() {
    let world = World::naive().await;
    let ledger = world.ledger();
    assert_eq!(ledger.total_effects().unwrap(), 0);
    world.post("/orders", &[("Idempotency-Key", "k")], ORDER).await;
    assert_eq!(ledger.total_effects().unwrap(), 1);
    assert_eq!(ledger.stock_left("nothing").unwrap(), None);
}

#[tokio::test]
async fn a_ledger_reads_a_shop_that_is_closed() {
    let world = World::naive().await;
    world.post("/orders", &[("Idempotency-Key", "k")], ORDER).await;
    world.shop.clone().close().await;
    assert_eq!(world.effects(), 1);
}

#[test]
fn a_file_that_is_no_shop_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.db");
    let error = Ledger::open(&missing).unwrap_err();
    assert!(matches!(error, Error::Database { .. }) && error.to_string().contains("missing.db"));
    assert!(!missing.exists());

    let empty = dir.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    assert!(Ledger::open(&empty).is_err());
}
