//! The schema's way up, back, and what is refused.

use hapax_core::{Store, StoreErrorKind};
use hapax_store::SqliteStore;
use hapax_store::migration::Step;
use rusqlite::Connection;

use super::{open, run};

fn objects(path: &std::path::Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT name FROM sqlite_schema WHERE name LIKE 'hapax%' AND type IN ('table', 'index') ORDER BY name";
    let mut statement = connection.prepare(sql).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn migrations_go_up_and_back_and_up_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let steps = SqliteStore::migrate(&path, None).unwrap();
    assert!(matches!(steps[..], [Step::Up(migration)] if migration.version == 1));
    let all = [
        "hapax_meta",
        "hapax_migration",
        "hapax_namespace",
        "hapax_recipe",
        "hapax_record",
        "hapax_record_look_at",
    ];
    assert_eq!(objects(&path), all);
    assert!(SqliteStore::migration_status(&path).unwrap()[0].applied_at.is_some());
    assert_eq!(SqliteStore::migrate(&path, None).unwrap(), [], "nothing is left to do");

    assert!(matches!(
        SqliteStore::migrate(&path, Some(0)).unwrap()[..],
        [Step::Down(_)]
    ));
    assert_eq!(objects(&path), ["hapax_migration"]);
    assert!(SqliteStore::migration_status(&path).unwrap()[0].applied_at.is_none());

    // Opening brings the older schema up.
    run(&open(&path), "k", b"answer").await;
    assert_eq!(objects(&path), all);
}

#[test]
fn an_unknown_target_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error = SqliteStore::migrate(directory.path().join("hapax.db"), Some(9)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("from 0 to 1"), "{error}");
}

#[test]
fn a_newer_database_is_refused_with_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    SqliteStore::migrate(&path, None).unwrap();
    let sql = "INSERT INTO hapax_migration VALUES (2, 'later', 'x', 0)";
    Connection::open(&path).unwrap().execute(sql, []).unwrap();
    let error = SqliteStore::open(&path, Default::default()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    let text = error.to_string();
    assert!(
        text.contains("version 2") && text.contains("up to 1") && text.contains("hapax migrate"),
        "{text}"
    );
}

#[test]
fn a_changed_migration_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    SqliteStore::migrate(&path, None).unwrap();
    let sql = "UPDATE hapax_migration SET checksum = 'feed'";
    Connection::open(&path).unwrap().execute(sql, []).unwrap();
    let error = SqliteStore::open(&path, Default::default()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("feed"), "{error}");
}

#[test]
fn the_schema_is_found_missing_while_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    Connection::open(&path)
        .unwrap()
        .execute("DROP TABLE hapax_record", [])
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(store.claim(super::claim("k"))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema, "{error}");
}

/// Opening prepares every statement of the writer; the first look and listing prepare those of the readers.
#[tokio::test]
async fn every_statement_is_prepared_against_a_fresh_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    SqliteStore::migrate(&path, None).unwrap();
    let connection = Connection::open(&path).unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sqlite/sql");
    let mut prepared = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let sql = std::fs::read_to_string(&file).unwrap();
        connection
            .prepare(&sql)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        prepared += 1;
    }
    assert!(prepared >= 15, "only {prepared} statements in {folder}");
}

#[test]
fn the_hot_statements_use_their_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    SqliteStore::migrate(&path, None).unwrap();
    let connection = Connection::open(&path).unwrap();
    for (sql, index) in [
        (
            include_str!("../../../src/sqlite/sql/record.sql"),
            "sqlite_autoindex_hapax_record_1 (id=?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/due.sql"),
            "hapax_record_look_at (look_at<?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/become.sql"),
            "INTEGER PRIMARY KEY (rowid=?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/list.sql"),
            "INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        ),
    ] {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = plan.parameter_count();
        let details = plan
            .query_map(rusqlite::params_from_iter(vec![0; count]), |row| {
                row.get::<_, String>(3)
            })
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        assert!(details.len() == 1 && details[0].contains(index), "{sql}\n{details:?}");
    }
}
