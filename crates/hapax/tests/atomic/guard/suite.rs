//! What each guard answers to each row.

use hapax::guard::Guarded::{AlreadyApplied, Applied, Rejected, Stale};
use hapax::guard::{Guard, Guarded};

use super::desk::{Desk, Place, Said, V};

pub(super) const ORDERS: &str = "CREATE TABLE orders (
    id BIGINT PRIMARY KEY, customer BIGINT, number BIGINT, amount BIGINT, state TEXT, tracking TEXT,
    UNIQUE (customer, number))";
pub(super) const PRICES: &str = "CREATE TABLE prices (item TEXT PRIMARY KEY, version BIGINT, price BIGINT)";

pub(super) const SHIP: Guard<'_> = Guard::transition("orders", &["id"], "state").set(&["tracking"]).past(2);
pub(super) const UPDATE: Guard<'_> = Guard::update_if_newer("prices", &["item"], "version").set(&["price"]);
pub(super) const UPSERT: Guard<'_> = Guard::upsert_if_newer("prices", &["item"], "version").set(&["price"]);
pub(super) const PLACE: Guard<'_> = Guard::insert_or_get("orders", &["customer", "number"])
    .set(&["id", "amount"])
    .returning(&["id"]);

pub(super) fn ship(id: i64) -> [V; 6] {
    [
        id.into(),
        "paid".into(),
        "shipped".into(),
        "T-1".into(),
        "delivered".into(),
        "returned".into(),
    ]
}

fn with(answer: Guarded, row: &str) -> Said {
    (answer, Some(row.to_owned()))
}

async fn ask(desk: &mut Desk, guard: &Guard<'_>, values: &[V]) -> Said {
    desk.ask(guard, values).await.unwrap()
}

pub(super) async fn a_transition_answers_by_the_state_it_finds(place: Place) {
    let mut desk = place.desk().await;
    desk.execute(ORDERS).await;
    let states = ["'paid'", "'shipped'", "'delivered'", "'returned'", "'new'", "NULL"];
    for (id, state) in states.iter().enumerate() {
        desk.execute(&format!("INSERT INTO orders (id, state) VALUES ({id}, {state})"))
            .await;
    }
    let expected = [
        with(Applied, "shipped"),
        with(AlreadyApplied, "shipped"),
        with(Stale, "delivered"),
        with(Stale, "returned"),
        with(Rejected, "new"),
        with(Rejected, "null"),
        (Rejected, None),
    ];
    desk.begin().await;
    for (id, expected) in expected.iter().enumerate() {
        assert_eq!(ask(&mut desk, &SHIP, &ship(id as i64)).await, *expected, "order {id}");
    }
    // In the same transaction, and by itself.
    assert_eq!(ask(&mut desk, &SHIP, &ship(0)).await, with(AlreadyApplied, "shipped"));
    desk.execute("COMMIT").await;
    assert_eq!(ask(&mut desk, &SHIP, &ship(0)).await, with(AlreadyApplied, "shipped"));
    let written = "SELECT count(*) FROM orders WHERE tracking = 'T-1' AND id = 0 OR tracking IS NULL AND id > 0";
    assert_eq!(desk.value(written).await, "6");
}

pub(super) async fn an_update_answers_by_the_version_it_finds(place: Place) {
    let mut desk = place.desk().await;
    desk.execute(PRICES).await;
    desk.execute("INSERT INTO prices VALUES ('tea', 5, 500), ('mate', NULL, 1)")
        .await;
    versions(&mut desk, &UPDATE).await;
    assert_eq!(
        ask(&mut desk, &UPDATE, &["cake".into(), 1.into(), 1.into()]).await,
        (Rejected, None)
    );
}

pub(super) async fn an_upsert_answers_by_the_version_it_finds(place: Place) {
    let mut desk = place.desk().await;
    desk.execute(PRICES).await;
    desk.execute("INSERT INTO prices VALUES ('mate', NULL, 1)").await;
    let tea = ask(&mut desk, &UPSERT, &["tea".into(), 5.into(), 500.into()]).await;
    assert_eq!(tea, with(Applied, "5"));
    versions(&mut desk, &UPSERT).await;
}

async fn versions(desk: &mut Desk, guard: &Guard<'_>) {
    for (item, version, expected) in [
        ("tea", V::Int(4), with(Stale, "5")),
        ("tea", V::Int(5), with(AlreadyApplied, "5")),
        ("tea", V::NullInt, with(Rejected, "5")),
        ("tea", V::Int(6), with(Applied, "6")),
        ("tea", V::Int(6), with(AlreadyApplied, "6")),
        ("mate", V::Int(0), with(Applied, "0")),
    ] {
        let price = match version {
            V::Int(version) => version * 100,
            _ => -1,
        };
        let said = ask(desk, guard, &[item.into(), version, price.into()]).await;
        assert_eq!(said, expected, "{item} {version:?}");
    }
    assert_eq!(desk.value("SELECT price FROM prices WHERE item = 'tea'").await, "600");
    assert_eq!(desk.value("SELECT price FROM prices WHERE item = 'mate'").await, "0");
}

pub(super) async fn an_insert_answers_by_the_row_it_finds(place: Place) {
    let mut desk = place.desk().await;
    desk.execute(ORDERS).await;
    let order = |id: i64, number: i64| [V::Int(1), number.into(), id.into(), 20.into()];
    assert_eq!(ask(&mut desk, &PLACE, &order(100, 1)).await, with(Applied, "100"));
    assert_eq!(
        ask(&mut desk, &PLACE, &order(101, 1)).await,
        with(AlreadyApplied, "100")
    );
    assert_eq!(ask(&mut desk, &PLACE, &order(102, 2)).await, with(Applied, "102"));
    assert_eq!(desk.value("SELECT count(*) FROM orders").await, "2");
    // Without `set` and `returning` too; the key comes back.
    let bare = Guard::insert_or_get("orders", &["id"]);
    desk.execute("DELETE FROM orders").await;
    assert_eq!(ask(&mut desk, &bare, &[7.into()]).await, with(Applied, "7"));
    assert_eq!(ask(&mut desk, &bare, &[7.into()]).await, with(AlreadyApplied, "7"));
    if place.is_postgres() {
        repetitions_take_no_numbers(&mut desk).await;
    }
}

async fn repetitions_take_no_numbers(desk: &mut Desk) {
    desk.execute("CREATE TABLE places (id BIGSERIAL PRIMARY KEY, number BIGINT UNIQUE)")
        .await;
    let place = Guard::insert_or_get("places", &["number"]).returning(&["id"]);
    for (number, expected) in [(1, "1"), (1, "1"), (1, "1"), (2, "2")] {
        let said = ask(desk, &place, &[number.into()]).await;
        assert_eq!(said.1.as_deref(), Some(expected));
    }
}

pub(super) async fn what_must_be_the_same_is_compared(place: Place) {
    let mut desk = place.desk().await;
    desk.execute(ORDERS).await;
    desk.execute(PRICES).await;
    desk.execute("INSERT INTO orders (id, state) VALUES (1, 'paid'), (2, 'shipped')")
        .await;
    let ship_same = SHIP.same(&["tracking"]);
    assert_eq!(ask(&mut desk, &ship_same, &ship(1)).await, with(Applied, "shipped"));
    assert_eq!(
        ask(&mut desk, &ship_same, &ship(1)).await,
        with(AlreadyApplied, "shipped")
    );
    assert_eq!(ask(&mut desk, &ship_same, &ship(2)).await, with(Rejected, "shipped"));
    let upsert = UPSERT.same(&["price"]);
    for (price, expected) in [
        (V::NullInt, Applied),
        (V::NullInt, AlreadyApplied),
        (V::Int(1), Rejected),
    ] {
        let said = ask(&mut desk, &upsert, &["tea".into(), 1.into(), price]).await;
        assert_eq!(said, with(expected, "1"), "{price:?}");
    }
    let place = PLACE.same(&["amount"]);
    for (id, amount, expected) in [(10, 5, Applied), (11, 5, AlreadyApplied), (12, 6, Rejected)] {
        let values = [V::Int(1), 1.into(), id.into(), amount.into()];
        assert_eq!(ask(&mut desk, &place, &values).await, with(expected, "10"), "{amount}");
    }
}

/// Values take the types of their columns where the driver lets them.
#[tokio::test(flavor = "multi_thread")]
async fn texts_without_a_type_fit_any_column() {
    let place = Place::tokio_postgres();
    let mut desk = place.desk().await;
    desk.execute("CREATE TYPE stage AS ENUM ('open', 'closed')").await;
    desk.execute("CREATE TABLE tickets (name VARCHAR(9) PRIMARY KEY, stage stage, about JSON, seen INT)")
        .await;
    let open = Guard::insert_or_get("tickets", &["name"]).set(&["stage", "about"]);
    let values = ["a".into(), "open".into(), "{\"b\": 1}".into()];
    for expected in [Applied, AlreadyApplied] {
        assert_eq!(ask(&mut desk, &open, &values).await, with(expected, "a"));
    }
    let close = Guard::transition("tickets", &["name"], "stage").returning(&["name"]);
    for expected in [Applied, AlreadyApplied] {
        let said = ask(&mut desk, &close, &["a".into(), "open".into(), "closed".into()]).await;
        assert_eq!(said, with(expected, "a"));
    }
    let see = Guard::upsert_if_newer("tickets", &["name"], "seen")
        .set(&["about", "stage"])
        .returning(&["name"]);
    for expected in [Applied, AlreadyApplied] {
        let said = ask(&mut desk, &see, &["b".into(), 1.into(), "[]".into(), "open".into()]).await;
        assert_eq!(said, with(expected, "b"));
    }
}

pub(super) async fn names_are_quoted(place: Place) {
    let mut desk = place.desk().await;
    let (schema, table) = match place.is_postgres() {
        true => {
            desk.execute("CREATE SCHEMA \"My \"\"Shop\"").await;
            ("My \"Shop", "\"My \"\"Shop\".\"or\"\"der; --\"")
        }
        false => ("main", "\"or\"\"der; --\""),
    };
    desk.execute(&format!(
        "CREATE TABLE {table} (\"select\" BIGINT PRIMARY KEY, \"St a.te\" TEXT, \"order\" BIGINT, \"v'\" BIGINT)"
    ))
    .await;
    let name = "or\"der; --";
    let insert = Guard::insert_or_get(name, &["select"])
        .in_schema(schema)
        .set(&["St a.te"]);
    let values = [V::Int(1), "a'b\" -- $1 ?1".into()];
    assert_eq!(ask(&mut desk, &insert, &values).await, with(Applied, "1"));
    let step = Guard::transition(name, &["select"], "St a.te")
        .in_schema(schema)
        .set(&["order"]);
    let values = [V::Int(1), "a'b\" -- $1 ?1".into(), "c".into(), 9.into()];
    assert_eq!(ask(&mut desk, &step, &values).await, with(Applied, "c"));
    for guard in [Guard::update_if_newer, Guard::upsert_if_newer] {
        let guard = guard(name, &["select"], "v'").in_schema(schema).set(&["order"]);
        for expected in [Applied, AlreadyApplied] {
            let said = ask(&mut desk, &guard, &[1.into(), 3.into(), 10.into()]).await;
            assert_eq!(said, with(expected, "3"));
        }
        desk.execute(&format!("UPDATE {table} SET \"v'\" = 2")).await;
    }
}
