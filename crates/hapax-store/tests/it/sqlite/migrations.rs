//! The schema's way up, back, and what is refused.

use std::path::Path;

use hapax_core::{Starter, State, Store, StoreErrorKind, Timestamp};
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
    let versions = steps.iter().map(|step| match step {
        Step::Up(migration) => migration.version,
        Step::Down(_) => 0,
    });
    assert_eq!(versions.collect::<Vec<_>>(), [1, 2, 3]);
    let all = [
        "hapax_audit",
        "hapax_audit_id",
        "hapax_meta",
        "hapax_migration",
        "hapax_namespace",
        "hapax_recipe",
        "hapax_record",
        "hapax_record_group",
        "hapax_record_id",
        "hapax_record_line",
        "hapax_record_look_at",
        "hapax_record_open",
        "hapax_record_wake_at",
    ];
    assert_eq!(objects(&path), all);
    assert!(SqliteStore::migration_status(&path).unwrap()[0].applied_at.is_some());
    assert_eq!(SqliteStore::migrate(&path, None).unwrap(), [], "nothing is left to do");

    assert!(matches!(
        SqliteStore::migrate(&path, Some(0)).unwrap()[..],
        [Step::Down(_), Step::Down(_), Step::Down(_)]
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
    assert!(error.to_string().contains("from 0 to 3"), "{error}");
}

#[test]
fn a_newer_database_is_refused_with_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    SqliteStore::migrate(&path, None).unwrap();
    let sql = "INSERT INTO hapax_migration VALUES (4, 'later', 'x', 0)";
    Connection::open(&path).unwrap().execute(sql, []).unwrap();
    let error = SqliteStore::open(&path, Default::default()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    let text = error.to_string();
    assert!(
        text.contains("version 4") && text.contains("up to 3") && text.contains("hapax migrate"),
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
    assert!(prepared >= 30, "only {prepared} statements in {folder}");
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
            "INDEX hapax_record_id (id=?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/known.sql"),
            "INDEX hapax_record_id (id=?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/due.sql"),
            "hapax_record_look_at (look_at<?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/finish_first.sql"),
            "INTEGER PRIMARY KEY (rowid=?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/write.sql"),
            "INTEGER PRIMARY KEY (rowid=?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/next_woken.sql"),
            "COVERING INDEX hapax_record_wake_at (name=? AND state=? AND wake_at>? AND wake_at<?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/taken_before.sql"),
            "INDEX hapax_record_open (state=?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/census_lapsed.sql"),
            "INDEX hapax_record_open (state=?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/list_open.sql"),
            "INDEX hapax_record_open (state=? AND position>? AND position<?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/list_group.sql"),
            "INDEX hapax_record_group (group_id=? AND rowid>? AND rowid<?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/audit_of.sql"),
            "INDEX hapax_audit_id (id=? AND rowid>?)",
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

/// Every row of the records, column by column, in the older schema.
fn older_rows(path: &Path) -> Vec<Vec<rusqlite::types::Value>> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT * FROM hapax_record ORDER BY position")
        .unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect());
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// The text of each table and index.
fn schema(path: &Path) -> Vec<Option<String>> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT sql FROM sqlite_schema ORDER BY name")
        .unwrap();
    let texts = statement.query_map([], |row| row.get(0)).unwrap();
    texts.collect::<Result<_, _>>().unwrap()
}

/// A record in each state, as the first version of the schema keeps them: their keys, states and wake-up times after.
const OLDER: [(&str, &str, Option<i64>); 7] = [
    (
        "held",
        "'running', 900, 950, 'hold', NULL, NULL, NULL, NULL, NULL",
        None,
    ),
    (
        "retried",
        "'running', 900, 950, 'retry', NULL, NULL, NULL, NULL, NULL",
        None,
    ),
    (
        "waiting",
        "'waiting', NULL, NULL, NULL, 800, NULL, NULL, NULL, NULL",
        Some(i64::MAX),
    ),
    (
        "unknown",
        "'unknown', NULL, NULL, NULL, NULL, 'ambiguous', 502, x'', x'6f'",
        Some(i64::MAX),
    ),
    ("done", "'done', NULL, NULL, NULL, NULL, NULL, 201, x'', x'6f6b'", None),
    (
        "not kept",
        "'done', NULL, NULL, NULL, NULL, 'expired', NULL, NULL, NULL",
        None,
    ),
    (
        "dead",
        "'dead', NULL, NULL, NULL, NULL, 'refused', NULL, NULL, NULL",
        Some(i64::MAX),
    ),
];

fn make_older(path: &Path) {
    SqliteStore::migrate(path, Some(1)).unwrap();
    let connection = Connection::open(path).unwrap();
    for (position, (key, columns, _)) in (1..).zip(OLDER) {
        let sql = format!(
            "INSERT INTO hapax_record (position, fence, id, look_at, created, since, tries, replay_for, remember_for,
                recipe, fingerprint, attempt, scope, name, key,
                state, deadline, run_until, after_failure, due, reason, status, headers, body)
            VALUES ({position}, {position} + 100, ?1, 5000, 100, 200, 2, 1000, 2000,
                1, zeroblob(32), zeroblob(16), 'tenant', 'default', ?2, {columns})"
        );
        let id = super::operation(key).id();
        connection.execute(&sql, (id.as_bytes(), key)).unwrap();
    }
    connection
        .execute("UPDATE hapax_meta SET last_fence = 107", [])
        .unwrap();
}

#[tokio::test]
async fn records_of_the_first_version_come_along_and_go_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    make_older(&path);
    let (rows, tables) = (older_rows(&path), schema(&path));
    assert_eq!(rows.len(), OLDER.len());

    let store = super::open_at(&path, super::Hand::at(300).clock());
    for (key, columns, wake_at) in OLDER {
        let (_, record) = store.read(super::operation(key).id()).await.unwrap();
        let record = record.unwrap();
        assert!(columns.starts_with(&format!("'{}'", record.state.name())), "{key}");
        assert_eq!(record.wake_at.map(Timestamp::as_millis), wake_at, "{key}");
        assert_eq!((record.tries, record.crashes, record.created.as_millis()), (2, 0, 100));
        assert_eq!((record.input, record.last_error, record.redriven), (None, None, None));
        if let State::Running { starter, .. } = record.state {
            assert_eq!(starter, Starter::Caller, "{key}");
        }
    }
    store.close();
    assert_eq!(
        SqliteStore::migrate(&path, Some(1)).unwrap().len(),
        2,
        "all but the first are undone"
    );
    assert_eq!(older_rows(&path), rows);
    assert_eq!(schema(&path), tables);
}

#[tokio::test]
async fn what_only_the_second_version_knows_is_lost_on_the_way_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    store.enqueue(super::enqueue("with input")).await.unwrap();
    run(&store, "done", b"answer").await;
    store.close();
    SqliteStore::migrate(&path, Some(1)).unwrap();
    SqliteStore::migrate(&path, None).unwrap();
    let store = open(&path);
    let (_, record) = store.read(super::operation("with input").id()).await.unwrap();
    let record = record.unwrap();
    assert_eq!((record.input, record.wake_at), (None, Some(Timestamp::FOREVER)));
    // It waits for an arrival, and an arrival runs it.
    let mut claim = super::claim("with input");
    claim.attempt = hapax_core::AttemptId::from_bytes([9; 16]);
    super::win(&store, claim).await;
    let (_, record) = store.read(super::operation("done").id()).await.unwrap();
    assert_eq!(record.unwrap().state.name(), hapax_core::StateName::Done);
}

#[test]
fn the_statements_of_a_line_use_its_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    SqliteStore::migrate(&path, None).unwrap();
    let connection = Connection::open(&path).unwrap();
    for (sql, index) in [
        (
            include_str!("../../../src/sqlite/sql/line_before.sql"),
            "INDEX hapax_record_line (group_id=? AND rowid<?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/pass_turn.sql"),
            "INDEX hapax_record_line (group_id=? AND rowid>?)",
        ),
        (
            include_str!("../../../src/sqlite/sql/group_stretch.sql"),
            "COVERING INDEX hapax_record_group (group_id=? AND rowid>?)",
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
        assert!(
            details.iter().any(|detail| detail.contains(index)),
            "{sql}\n{details:?}"
        );
        assert!(
            !details.iter().any(|detail| detail.contains("TEMP B-TREE")),
            "{details:?}"
        );
    }
}

#[tokio::test]
async fn groups_are_lost_on_the_way_back_and_compensation_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    let group = Some(super::operation("group").id());
    let mut laid = super::enqueue("laid");
    laid.group = group;
    store.enqueue(laid).await.unwrap();
    let mut claim = super::claim("running");
    claim.group = group;
    super::win(&store, claim).await;
    let lease = super::win(&store, super::claim("undone")).await;
    let id = super::operation("undone").id();
    let dead = hapax_core::Finish::Dead {
        reason: hapax_core::DeadReason::Exhausted,
        answer: None,
        last_error: None,
    };
    store.finish(id, lease.fence, dead).await.unwrap();
    let amendment = |amend| hapax_core::Amendment {
        amend,
        fence: None,
        audit: hapax_core::Audit {
            actor: "ann".into(),
            reason: "cancelled".into(),
        },
    };
    store.amend(id, amendment(hapax_core::Amend::Undo)).await.unwrap();
    store.close();
    let tables = schema(&path);
    let error = SqliteStore::migrate(&path, Some(2)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("migration 3 (groups) failed; nothing was changed"),
        "{error}"
    );
    assert_eq!(schema(&path), tables);

    let store = open(&path);
    store.amend(id, amendment(hapax_core::Amend::Discard)).await.unwrap();
    store.close();
    SqliteStore::migrate(&path, Some(2)).unwrap();
    SqliteStore::migrate(&path, None).unwrap();
    assert_eq!(schema(&path), tables);
    let store = open(&path);
    for (key, has_input) in [("laid", true), ("running", false)] {
        let (_, record) = store.read(super::operation(key).id()).await.unwrap();
        let record = record.unwrap();
        assert_eq!((record.group, record.input.is_some()), (None, has_input), "{key}");
        assert_eq!(record.wake_at.is_some(), has_input, "{key}");
    }
}
