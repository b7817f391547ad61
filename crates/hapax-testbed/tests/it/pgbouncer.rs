use hapax_testbed::{PgBouncer, Postgres};

use crate::query;

#[test]
fn pgbouncer_passes_transactions_to_its_server() {
    let database = Postgres::shared().database();
    let pgbouncer = PgBouncer::start(database.url(), 2);
    let url = pgbouncer.url(database.name());
    let seen = query(&url, "SELECT current_database()").unwrap();
    assert_eq!(seen, database.name());

    let sessions = query(
        &url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
    );
    assert_eq!(sessions.unwrap(), "1");
    drop(pgbouncer);
    query(&url, "SELECT 1").unwrap_err();
}
