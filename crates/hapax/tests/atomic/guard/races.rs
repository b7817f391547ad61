//! Guards of several transactions at once.

use std::sync::Arc;

use hapax::guard::Guarded::{AlreadyApplied, Applied, Rejected, Stale};
use hapax::guard::{Guard, Guarded};
use hapax::store::joined::Fault;
use hapax_testbed::PgBouncer;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::desk::{Desk, Place, Said, V};
use super::suite::{ORDERS, PLACE, PRICES, SHIP, UPDATE, UPSERT, ship};

const TABLES: [&str; 4] = [
    ORDERS,
    PRICES,
    "INSERT INTO orders (id, state) VALUES (1, 'paid')",
    "INSERT INTO prices VALUES ('tea', 5, 500)",
];

fn order(id: i64) -> [V; 4] {
    [1.into(), 1.into(), id.into(), 20.into()]
}

async fn prepare(place: &Place) -> Desk {
    let mut desk = place.desk().await;
    for sql in TABLES {
        desk.execute(sql).await;
    }
    desk
}

/// Asks the same of each guard at once, in so many transactions.
async fn together(place: &Place, at: &str, guard: Guard<'static>, values: impl Fn(i64) -> Vec<V>) -> Vec<Said> {
    const MANY: i64 = 20;
    let barrier = Arc::new(Barrier::new(MANY as usize));
    let mut tasks = JoinSet::new();
    for number in 0..MANY {
        let (mut desk, values, barrier) = (place.desk_at(at).await, values(number), Arc::clone(&barrier));
        tasks.spawn(async move {
            barrier.wait().await;
            desk.begin().await;
            let said = desk.ask(&guard, &values).await.unwrap();
            desk.execute("COMMIT").await;
            said
        });
    }
    tasks.join_all().await
}

fn count(said: &[Said], answer: Guarded) -> usize {
    said.iter().filter(|said| said.0 == answer).count()
}

pub(super) async fn of_twenty_one_applies(place: Place) {
    let mut desk = prepare(&place).await;
    let pooler = place.is_postgres().then(|| PgBouncer::start(place.url(), 8));
    let pooled = pooler
        .as_ref()
        .map(|pooler| pooler.url(place.url().rsplit('/').next().unwrap()));
    for at in [Some(place.url()), pooled.as_deref()].into_iter().flatten() {
        let shipped = together(&place, at, SHIP, |_| ship(1).to_vec()).await;
        assert_eq!(count(&shipped, Applied), 1, "{shipped:?}");
        assert_eq!(count(&shipped, AlreadyApplied), 19, "{shipped:?}");
        desk.execute("UPDATE orders SET state = 'paid'").await;

        let placed = together(&place, at, PLACE, |number| order(100 + number).to_vec()).await;
        assert_eq!(count(&placed, Applied), 1, "{placed:?}");
        assert_eq!(count(&placed, AlreadyApplied), 19, "{placed:?}");
        assert!(placed.iter().all(|said| said.1 == placed[0].1), "{placed:?}");
        desk.execute("DELETE FROM orders WHERE id >= 100").await;
    }
}

pub(super) async fn the_highest_version_stays(place: Place) {
    let mut desk = prepare(&place).await;
    desk.execute("CREATE TABLE seen (version BIGINT)").await;
    for (guard, item) in [(UPDATE, "tea"), (UPSERT, "tea"), (UPSERT, "mate")] {
        desk.execute("UPDATE prices SET version = -1").await;
        // Ten versions, each twice, in disorder.
        let versions = |number: i64| {
            let version = (number * 7) % 10;
            vec![item.into(), version.into(), (version * 100).into()]
        };
        let said = together(&place, place.url(), guard, versions).await;
        let kept = desk
            .value(&format!("SELECT price FROM prices WHERE item = '{item}'"))
            .await;
        assert_eq!(kept, "900", "{said:?}");
        let applied: Vec<&Said> = said.iter().filter(|said| said.0 == Applied).collect();
        let mut versions: Vec<&str> = applied.iter().filter_map(|said| said.1.as_deref()).collect();
        versions.sort_unstable();
        assert!(versions.contains(&"9"), "{said:?}");
        let all = versions.len();
        versions.dedup();
        assert_eq!(versions.len(), all, "a version was applied twice: {said:?}");
        assert_eq!(
            count(&said, Applied) + count(&said, AlreadyApplied) + count(&said, Stale),
            20
        );
    }
}

/// Waits until this many sessions of the test's database wait for a lock.
async fn waiting(desk: &mut Desk) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while desk.value(sql).await != "1" {
        assert!(std::time::Instant::now() < limit, "nobody waits");
        tokio::task::yield_now().await;
    }
}

/// Lets `second` ask in a transaction while `first` is open, ends `first`, and gives what each was told.
async fn behind(
    place: &Place,
    begin: &'static str,
    end: &'static str,
    guard: Guard<'static>,
    [first, second]: [Vec<V>; 2],
) -> Result<Said, Fault> {
    let (mut one, mut other, mut watch) = (place.desk().await, place.desk().await, place.desk().await);
    one.execute(begin).await;
    one.ask(&guard, &first).await.unwrap();
    other.execute(begin).await;
    // It looks at the database before the first commits.
    other.value("SELECT count(*) FROM orders").await;
    let behind = tokio::spawn(async move {
        let said = other.ask(&guard, &second).await.map_err(|error| error.fault());
        let end = if said.is_ok() { "COMMIT" } else { "ROLLBACK" };
        other.execute(end).await;
        said
    });
    waiting(&mut watch).await;
    one.execute(end).await;
    behind.await.unwrap()
}

async fn whoever_waits_is_told_what_is_left(place: Place) {
    let mut desk = prepare(&place).await;
    let tea = |version: i64| vec!["tea".into(), version.into(), 0.into()];
    let cases: [(Guard<'static>, [Vec<V>; 2], Guarded, &str); 7] = [
        (SHIP, [ship(1).to_vec(), ship(1).to_vec()], AlreadyApplied, "shipped"),
        (UPDATE, [tea(7), tea(6)], Stale, "7"),
        (UPDATE, [tea(6), tea(6)], AlreadyApplied, "6"),
        (UPDATE, [tea(6), tea(7)], Applied, "7"),
        (UPSERT, [tea(7), tea(6)], Stale, "7"),
        (UPSERT, [tea(6), tea(7)], Applied, "7"),
        (PLACE, [order(100).to_vec(), order(101).to_vec()], AlreadyApplied, "100"),
    ];
    for (guard, values, expected, row) in cases {
        for (begin, end) in [
            ("BEGIN", "COMMIT"),
            ("BEGIN", "ROLLBACK"),
            ("BEGIN ISOLATION LEVEL REPEATABLE READ", "COMMIT"),
            ("BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT"),
        ] {
            desk.execute("UPDATE orders SET state = 'paid'; DELETE FROM orders WHERE id > 1")
                .await;
            desk.execute("UPDATE prices SET version = 5").await;
            let said = behind(&place, begin, end, guard, values.clone()).await;
            match (begin, end) {
                ("BEGIN", "COMMIT") => assert_eq!(said, Ok((expected, Some(row.to_owned()))), "{values:?}"),
                ("BEGIN", _) => assert_eq!(said.map(|said| said.0), Ok(Applied), "{values:?}"),
                _ => assert_eq!(said, Err(Fault::Conflict), "{begin}, {values:?}"),
            }
        }
    }
    // A row that nobody could see before, and one that goes while it is waited for.
    desk.execute("DELETE FROM prices").await;
    let said = behind(&place, "BEGIN", "COMMIT", UPSERT, [tea(7), tea(6)]).await;
    assert_eq!(said, Ok((Stale, Some("7".to_owned()))));
    let (mut one, mut other) = (place.desk().await, place.desk().await);
    one.execute("BEGIN; DELETE FROM orders").await;
    let gone = tokio::spawn(async move { other.ask(&SHIP, &ship(1)).await.unwrap() });
    waiting(&mut desk).await;
    one.execute("COMMIT").await;
    assert_eq!(gone.await.unwrap(), (Rejected, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokio_postgres_whoever_waits_is_told_what_is_left() {
    whoever_waits_is_told_what_is_left(Place::tokio_postgres()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_sqlx_whoever_waits_is_told_what_is_left() {
    whoever_waits_is_told_what_is_left(Place::sqlx_postgres()).await;
}
