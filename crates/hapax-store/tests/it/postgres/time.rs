//! The clock rule in SQL is the one in Rust.

use std::time::Duration;

use hapax_core::{Store, StoreClock, Timestamp};
use hapax_store::postgres::PostgresStore;
use hapax_testbed::Postgres;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio_postgres::{NoTls, types::Type};

use super::world::connect;

const WALL: &str = "floor(extract(epoch FROM clock_timestamp()) * 1000)";
const STEP: i64 = 1_000;

#[test]
fn sql_follows_the_rule_of_store_clock() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = Postgres::shared().database();
    let (client, read) = runtime.block_on(async {
        PostgresStore::migrate(database.url(), None).await.unwrap();
        let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = PostgresStore::statements()
            .iter()
            .find(|sql| sql.name == "read")
            .unwrap();
        assert!(sql.text.contains(WALL), "the clock is read elsewhere now");
        let types = [sql.types, &[Type::INT8]].concat();
        let text = sql.text.replace(WALL, "$6");
        let read = client.prepare_typed(&text, &types).await.unwrap();
        (client, read)
    });
    // Around the limit both ways, where a mistake would hide.
    let ahead = prop_oneof![-3 * STEP..3 * STEP, STEP - 2..STEP + 3, -STEP - 2..-STEP + 3];
    let triple = (0..1_000_000i64, 0..10_000u64, ahead);
    let mut runner = TestRunner::new(Config::with_cases(400));
    let outcome = runner.run(&triple, |(last, elapsed, ahead)| {
        let mut clock = StoreClock::new(Duration::from_millis(STEP as u64));
        clock.read(Timestamp::from_millis(last), Duration::ZERO);
        let monotonic = Duration::from_millis(elapsed);
        let (last, expected) = clock.bounds(monotonic).unwrap();
        let wall = expected.as_millis() + ahead;
        let row = runtime.block_on(client.query_one(
            &read,
            &[
                &last.as_millis(),
                &expected.as_millis(),
                &STEP,
                &None::<i64>,
                &Vec::<&[u8]>::new(),
                &wall,
            ],
        ));
        let now: i64 = row.unwrap().get("now");
        prop_assert_eq!(now, clock.read(Timestamp::from_millis(wall), monotonic).as_millis());
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn tells_the_time_of_the_database() {
    let database = Postgres::shared().database();
    let store = connect(database.url()).await;
    let before: i64 = database.query(&format!("SELECT {WALL}")).trim().parse().unwrap();
    let (now, jump) = store.time(false).await.unwrap();
    let after: i64 = database.query(&format!("SELECT {WALL}")).trim().parse().unwrap();
    assert!((before..=after).contains(&now.as_millis()), "{before} {now} {after}");
    assert_eq!(jump, None);
}
