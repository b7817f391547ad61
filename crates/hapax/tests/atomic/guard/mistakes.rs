//! What a guard says that was told something wrong.

use hapax::guard::Guard;
use hapax::store::joined::Fault;

use super::desk::{Desk, Place, V};
use super::suite::{ORDERS, PLACE, PRICES, SHIP, UPSERT};

async fn refused(desk: &mut Desk, guard: &Guard<'_>, values: &[V], parts: &[&str]) {
    desk.begin().await;
    let error = desk.ask(guard, values).await.unwrap_err();
    desk.execute("ROLLBACK").await;
    assert_eq!(error.fault(), Fault::Other, "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

pub(super) async fn are_told_clearly(place: Place) {
    let mut desk = place.desk().await;
    desk.execute(ORDERS).await;
    desk.execute(PRICES).await;
    let (id, paid, shipped) = (V::Int(1), V::Text("paid"), V::Text("shipped"));
    let desk = &mut desk;

    let guard = Guard::transition("order", &["id"], "state");
    refused(
        desk,
        &guard,
        &[id, paid, shipped],
        &["the guard of order (id)", "make the table"],
    )
    .await;
    let guard = Guard::transition("orders", &["id"], "status");
    refused(
        desk,
        &guard,
        &[id, paid, shipped],
        &["status", "compare the guard's names"],
    )
    .await;
    let guard = Guard::transition("orders", &["ID "], "state");
    refused(
        desk,
        &guard,
        &[id, paid, shipped],
        &["ID ", "compare the guard's names"],
    )
    .await;
    let guard = Guard::transition("orders", &["id"], "state").returning(&["totl"]);
    refused(
        desk,
        &guard,
        &[id, paid, shipped],
        &["totl", "compare the guard's names"],
    )
    .await;
    let guard = Guard::upsert_if_newer("orders", &["id"], "versoin");
    refused(desk, &guard, &[id, id], &["versoin", "compare the guard's names"]).await;
    let guard = Guard::insert_or_get("orders", &["number"]);
    refused(
        desk,
        &guard,
        &[id],
        &["a unique index on exactly the key's columns", "hapax doctor"],
    )
    .await;

    let two = &[id, paid][..];
    refused(
        desk,
        &SHIP,
        two,
        &["it takes 6 values (id, state from, state to, tracking,", "2 were given"],
    )
    .await;
    let guard = Guard::transition("orders", &[], "state");
    refused(desk, &guard, two, &["its key has no columns"]).await;
    let guard = SHIP.same(&["amount"]);
    refused(desk, &guard, two, &["`same` names amount, which `set` does not"]).await;
    let null = [V::NullInt, V::Int(1), V::Int(1), V::Int(1)];
    refused(desk, &PLACE, &null, &["a value of its key is null"]).await;
    if place.is_postgres() {
        let text = [V::Int(1), V::Int(1), V::Int(1)];
        refused(desk, &UPSERT, &text, &["give each value the type of its column"]).await;
    }
    assert_eq!(desk.value("SELECT count(*) FROM orders").await, "0");
}

pub(super) async fn a_key_of_several_rows_writes_none(place: Place) {
    let mut desk = place.desk().await;
    desk.execute(ORDERS).await;
    desk.execute("INSERT INTO orders (id, customer, state, number) VALUES (1, 7, 'paid', 1), (2, 7, 'paid', 1000)")
        .await;
    let values = [V::Int(7), "paid".into(), "shipped".into()];
    let guard = Guard::transition("orders", &["customer"], "state");
    let error = desk.ask(&guard, &values).await.unwrap_err().to_string();
    assert!(
        error.contains("several rows have this key, and none was written"),
        "{error}"
    );
    let guard = Guard::update_if_newer("orders", &["customer"], "number");
    let error = desk.ask(&guard, &[7.into(), 10.into()]).await.unwrap_err().to_string();
    assert!(
        error.contains("several rows have this key, and none was written"),
        "{error}"
    );
    assert_eq!(
        desk.value("SELECT count(*) FROM orders WHERE state = 'paid' AND number IN (1, 1000)")
            .await,
        "2"
    );
}
