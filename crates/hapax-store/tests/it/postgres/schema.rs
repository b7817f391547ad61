//! Migrations, statements, constraints.

use hapax_core::{Amend, Amendment, Audit, DeadReason, Filter, Finish, StateName, Store, StoreErrorKind, Timestamp};
use hapax_store::postgres::{PostgresOptions, PostgresStore};
use hapax_testbed::Postgres;
use tokio_postgres::NoTls;
use tokio_postgres::types::Kind;

use super::world::{claim, connect, enqueue, lease, operation, take};

const TABLES: &str = "SELECT count(*) FROM pg_class WHERE relname LIKE 'hapax%' AND relkind IN ('r', 'S')";

#[tokio::test]
async fn migrates_up_and_down_and_up() {
    let database = Postgres::shared().database();
    assert_eq!(
        PostgresStore::migrations(database.url()).await.unwrap()[0].applied_at,
        None
    );
    assert_eq!(database.query(TABLES).trim(), "0", "asking changes nothing");
    let up = PostgresStore::migrate(database.url(), None).await.unwrap();
    assert!(up.iter().all(|migration| migration.applied_at.is_some()), "{up:?}");
    assert_eq!(PostgresStore::migrations(database.url()).await.unwrap(), up);
    let down = PostgresStore::migrate(database.url(), Some(0)).await.unwrap();
    assert!(down.iter().all(|migration| migration.applied_at.is_none()), "{down:?}");
    assert_eq!(database.query(TABLES).trim(), "1", "only hapax_migration is left");
    connect(database.url()).await.claim(claim("k")).await.unwrap();
}

#[tokio::test]
async fn records_in_every_state_survive_all_versions() {
    const STATES: &str = "SELECT state, count(*) FROM hapax_record GROUP BY state ORDER BY state";
    let database = Postgres::shared().database();
    PostgresStore::migrate(database.url(), Some(1)).await.unwrap();
    let old: [(&str, Columns); 6] = [
        (
            "1",
            &[
                ("deadline", "1"),
                ("run_until", "2"),
                ("after_failure", "'hold'"),
                ("state", "'running'"),
            ],
        ),
        ("2", &[("state", "'waiting'"), ("due", "1")]),
        ("3", &[("state", "'unknown'"), ("reason", "'lapsed'")]),
        ("4", &[("state", "'done'"), ("reason", "'too-large'")]),
        (
            "5",
            &[
                ("state", "'done'"),
                ("status", "200"),
                ("headers", "''"),
                ("body", "''"),
            ],
        ),
        ("6", &[("state", "'dead'"), ("reason", "'poison'")]),
    ];
    for (byte, columns) in old {
        let id = format!("decode(repeat('0{byte}', 16), 'hex')");
        database.query(&insert(&[columns, &[("id", &id)]].concat()));
    }
    let before = database.query(STATES);
    let versions = PostgresStore::migrations(database.url()).await.unwrap().len() as u32;
    assert_eq!(versions, 5);
    for version in 2..=versions {
        PostgresStore::migrate(database.url(), Some(version)).await.unwrap();
        assert_eq!(database.query(STATES), before, "up to {version}");
    }

    let store = connect(database.url()).await;
    let listed = async |state| {
        let filter = Filter {
            state: Some(state),
            ..Filter::default()
        };
        store.list(filter, None, 10).await.unwrap().records.len()
    };
    assert_eq!(listed(StateName::Waiting).await, 1);
    assert_eq!(listed(StateName::Unknown).await, 2, "the running one lapsed");
    assert_eq!(listed(StateName::Done).await, 2);
    assert_eq!(listed(StateName::Dead).await, 1);
    let census = store.census(false).await.unwrap();
    assert_eq!((census.waiting, census.unknown, census.dead), (1, 1, 1));
    assert_eq!(database.query(STATES), before);

    // Down with what only the newer version can hold.
    store.enqueue(enqueue("queued")).await.unwrap();
    let mut failing = take(1);
    failing.names[0].tries = 0;
    assert_eq!(store.take(failing).await.unwrap().ended.len(), 1);
    store.enqueue(enqueue("taken")).await.unwrap();
    assert_eq!(store.take(take(1)).await.unwrap().work.len(), 1);
    store.enqueue(enqueue("waits")).await.unwrap();
    let before = database.query(STATES);
    drop(store);
    for version in (1..versions).rev() {
        PostgresStore::migrate(database.url(), Some(version)).await.unwrap();
        assert_eq!(database.query(STATES), before, "down to {version}");
    }
    let store = connect(database.url()).await;
    assert_eq!(database.query(STATES), before);
    let (_, record) = store.read(operation("waits").id()).await.unwrap();
    let record = record.unwrap();
    assert_eq!((record.input, record.wake_at), (None, Some(Timestamp::FOREVER)));
    lease(store.claim(claim("waits")).await.unwrap());
}

#[tokio::test]
async fn refuses_a_newer_or_foreign_schema() {
    let database = Postgres::shared().database();
    connect(database.url()).await;
    database.query("UPDATE hapax_migration SET checksum = 'other'");
    let error = PostgresStore::connect(database.url(), PostgresOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("checksum other"), "{error}");

    database.query("INSERT INTO hapax_migration VALUES (99, 'future', 'x', 0)");
    let error = PostgresStore::connect(database.url(), PostgresOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    for part in ["version 99", "versions up to 5", database.name()] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn an_empty_database_is_refused_where_it_may_not_migrate() {
    let database = Postgres::shared().database();
    let options = PostgresOptions {
        migrate: false,
        ..PostgresOptions::default()
    };
    let error = PostgresStore::connect(database.url(), options).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("hapax migrate"), "{error}");
}

#[tokio::test]
async fn many_processes_start_at_once() {
    let database = Postgres::shared().database();
    let stores: Vec<_> = (0..8)
        .map(|_| {
            let url = database.url().to_owned();
            tokio::spawn(async move { connect(&url).await })
        })
        .collect();
    let mut secrets = Vec::new();
    for store in stores {
        secrets.push(store.await.unwrap().secret());
    }
    assert!(secrets.iter().all(|secret| *secret == secrets[0]), "one secret for all");
    assert_ne!(secrets[0], [0; 32]);
    assert_eq!(connect(database.url()).await.secret(), secrets[0], "and it stays");
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = Postgres::shared().database();
    PostgresStore::migrate(database.url(), None).await.unwrap();
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(PostgresStore::statements().len(), 32);
    for sql in PostgresStore::statements() {
        let prepared = client.prepare_typed(sql.text, sql.types).await;
        let statement = prepared.unwrap_or_else(|error| panic!("{}: {error:?}", sql.name));
        assert_eq!(statement.params().len(), sql.types.len(), "{}", sql.name);
    }
}

/// A plan is kept for as long as its connection, and the first ones are made when there are no records yet.
#[tokio::test]
async fn no_plan_reads_a_whole_index_because_it_was_made_when_there_were_no_records() {
    const WALK: [&str; 7] = [
        "list_all",
        "list_dead",
        "list_waiting",
        "list_group",
        "census",
        "scopes",
        "taken",
    ];
    let database = Postgres::shared().database();
    PostgresStore::migrate(database.url(), None).await.unwrap();
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("VACUUM (ANALYZE) hapax_record").await.unwrap();
    // As the store's own sessions have them.
    let settings = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;
        SET enable_hashjoin = off; SET enable_mergejoin = off";
    client.batch_execute(settings).await.unwrap();
    let mut scans = 0;
    for sql in PostgresStore::statements() {
        if WALK.contains(&sql.name) {
            continue;
        }
        let types: Vec<String> = sql
            .types
            .iter()
            .map(|r#type| match r#type.kind() {
                Kind::Array(member) => format!("{}[]", member.name()),
                _ => r#type.name().to_owned(),
            })
            .collect();
        let (types, nulls) = match types.len() {
            0 => (String::new(), String::new()),
            count => (
                format!("({})", types.join(", ")),
                format!("({})", vec!["NULL"; count].join(", ")),
            ),
        };
        let (name, text) = (sql.name, sql.text);
        client
            .batch_execute(&format!("PREPARE {name}{types} AS {text}"))
            .await
            .unwrap();
        let plan = client
            .query(&format!("EXPLAIN EXECUTE {name}{nulls}"), &[])
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        for (scan, below) in plan.iter().zip(&plan[1..]) {
            if scan.contains("Scan using hapax_record") {
                scans += 1;
                assert!(below.contains("Index Cond:"), "{name}:\n{}", plan.join("\n"));
            }
        }
    }
    assert!(scans > 20, "{scans}");
}

type Columns = &'static [(&'static str, &'static str)];

/// A row of `hapax_record` with these columns changed, as an INSERT.
fn insert(changes: &[(&str, &str)]) -> String {
    let mut columns = vec![
        ("id", "decode(repeat('01', 16), 'hex')"),
        ("attempt", "decode(repeat('02', 16), 'hex')"),
        ("fingerprint", "decode(repeat('03', 32), 'hex')"),
        ("scope", "'s'"),
        ("name", "'n'"),
        ("key", "'k'"),
        ("fence", "1"),
        ("recipe", "1"),
        ("tries", "0"),
        ("created", "0"),
        ("since", "0"),
        ("replay_for", "1"),
        ("remember_for", "1"),
        ("look_at", "0"),
    ];
    for change in changes {
        columns.retain(|(name, _)| *name != change.0);
        columns.push(*change);
    }
    let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    format!(
        "INSERT INTO hapax_record ({}) VALUES ({})",
        names.join(", "),
        values.join(", ")
    )
}

#[tokio::test]
async fn constraints_hold_state_and_columns_together() {
    const RUNNING: Columns = &[
        ("state", "'running'"),
        ("deadline", "1"),
        ("run_until", "2"),
        ("after_failure", "'hold'"),
        ("starter", "'caller'"),
    ];
    const WAITING: Columns = &[("state", "'waiting'"), ("due", "1"), ("wake_at", "1")];
    const LAPSED: Columns = &[("state", "'unknown'"), ("reason", "'lapsed'"), ("wake_at", "1")];
    const AMBIGUOUS: Columns = &[("state", "'unknown'"), ("reason", "'ambiguous'"), ("wake_at", "1")];
    const DONE: Columns = &[
        ("state", "'done'"),
        ("status", "200"),
        ("headers", "''"),
        ("body", "''"),
    ];
    const NOT_KEPT: Columns = &[("state", "'done'"), ("reason", "'too-large'")];
    const DEAD: Columns = &[("state", "'dead'"), ("reason", "'poison'"), ("wake_at", "1")];
    const NOTES: Columns = &[("input", "''"), ("last_error", "repeat('x', 1000)"), ("redriven", "1")];
    const ANSWER: Columns = &[("status", "500"), ("headers", "''"), ("body", "''")];

    const GROUP: Columns = &[("group_id", "decode(repeat('04', 16), 'hex')")];

    let database = Postgres::shared().database();
    PostgresStore::migrate(database.url(), None).await.unwrap();
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let good: [&[Columns]; 17] = [
        &[RUNNING],
        &[RUNNING, NOTES],
        &[RUNNING, &[("wake_at", "1")]],
        &[WAITING],
        &[WAITING, NOTES],
        &[AMBIGUOUS, NOTES],
        &[DEAD, NOTES],
        &[LAPSED],
        &[AMBIGUOUS],
        &[AMBIGUOUS, ANSWER],
        &[DONE],
        &[NOT_KEPT],
        &[DEAD],
        &[DEAD, ANSWER],
        &[DEAD, &[("reason", "'undone'")]],
        &[DONE, GROUP],
        &[RUNNING, GROUP, &[("wake_at", "1")]],
    ];
    for parts in good {
        client.batch_execute(&insert(&parts.concat())).await.unwrap();
        client.batch_execute("DELETE FROM hapax_record").await.unwrap();
    }
    let bad: &[(Columns, Columns)] = &[
        (RUNNING, &[("deadline", "NULL")]),
        (RUNNING, &[("run_until", "NULL")]),
        (RUNNING, &[("after_failure", "NULL")]),
        (RUNNING, &[("after_failure", "'maybe'")]),
        (RUNNING, &[("deadline", "3")]),
        (RUNNING, &[("due", "1")]),
        (RUNNING, &[("reason", "'lapsed'")]),
        (RUNNING, ANSWER),
        (RUNNING, &[("starter", "NULL")]),
        (RUNNING, &[("starter", "'nobody'")]),
        (WAITING, &[("starter", "'caller'")]),
        (LAPSED, &[("starter", "'caller'")]),
        (DONE, &[("starter", "'caller'")]),
        (DEAD, &[("starter", "'caller'")]),
        (WAITING, &[("wake_at", "NULL")]),
        (LAPSED, &[("wake_at", "NULL")]),
        (AMBIGUOUS, &[("wake_at", "NULL")]),
        (DEAD, &[("wake_at", "NULL")]),
        (DONE, &[("wake_at", "1")]),
        (DONE, &[("input", "''")]),
        (DONE, &[("last_error", "''")]),
        (NOT_KEPT, &[("input", "''")]),
        (DEAD, &[("last_error", "repeat('x', 1001)")]),
        (DEAD, &[("crashes", "-1")]),
        (WAITING, &[("due", "NULL")]),
        (WAITING, &[("deadline", "1")]),
        (WAITING, &[("run_until", "1")]),
        (WAITING, &[("after_failure", "'hold'")]),
        (WAITING, &[("reason", "'lapsed'")]),
        (WAITING, ANSWER),
        (LAPSED, &[("reason", "NULL")]),
        (LAPSED, &[("reason", "'poison'")]),
        (LAPSED, &[("due", "1")]),
        (LAPSED, &[("deadline", "1")]),
        (LAPSED, ANSWER),
        (DONE, &[("reason", "'expired'")]),
        (DONE, &[("status", "NULL")]),
        (DONE, &[("headers", "NULL")]),
        (DONE, &[("body", "NULL")]),
        (DONE, &[("due", "1")]),
        (DONE, &[("run_until", "1")]),
        (NOT_KEPT, &[("reason", "NULL")]),
        (NOT_KEPT, &[("reason", "'lapsed'")]),
        (DEAD, &[("reason", "NULL")]),
        (DEAD, &[("reason", "'expired'")]),
        (DEAD, &[("due", "1")]),
        (DEAD, &[("status", "500")]),
        (DEAD, &[("state", "'asleep'")]),
        (DEAD, &[("state", "NULL")]),
        (WAITING, &[("id", "''")]),
        (WAITING, &[("attempt", "''")]),
        (WAITING, &[("fingerprint", "''")]),
        (WAITING, &[("fence", "0")]),
        (WAITING, &[("tries", "-1")]),
        (DONE, &[("status", "-1")]),
        (RUNNING, GROUP),
        (WAITING, &[("group_id", "''")]),
    ];
    for (state, change) in bad {
        let sql = insert(&[*state, *change].concat());
        let refused = client.batch_execute(&sql).await;
        let code = refused
            .as_ref()
            .err()
            .and_then(|error| error.code())
            .map(|code| code.code());
        assert!(matches!(code, Some("23514" | "23502")), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn groups_are_lost_on_the_way_back_and_compensation_is_not() {
    let database = Postgres::shared().database();
    let store = connect(database.url()).await;
    let mut laid = enqueue("laid");
    laid.group = Some(operation("group").id());
    store.enqueue(laid).await.unwrap();
    let mut running = claim("running");
    running.group = Some(operation("group").id());
    lease(store.claim(running).await.unwrap());
    let held = lease(store.claim(claim("undone")).await.unwrap());
    let id = operation("undone").id();
    let dead = Finish::Dead {
        reason: DeadReason::Exhausted,
        answer: None,
        last_error: None,
    };
    store.finish(id, held.fence, dead).await.unwrap();
    let amendment = |amend| Amendment {
        amend,
        fence: None,
        audit: Audit {
            actor: "ann".into(),
            reason: "cancelled".into(),
        },
    };
    store.amend(id, amendment(Amend::Undo)).await.unwrap();
    let error = PostgresStore::migrate(database.url(), Some(3)).await.unwrap_err();
    assert!(error.to_string().contains("hapax_record_state"), "{error}");
    let groups = "SELECT count(*) FROM hapax_record WHERE group_id IS NOT NULL";
    assert_eq!(database.query(groups).trim(), "2", "nothing was changed");

    store.amend(id, amendment(Amend::Discard)).await.unwrap();
    drop(store);
    PostgresStore::migrate(database.url(), Some(3)).await.unwrap();
    let store = connect(database.url()).await;
    for (key, has_input) in [("laid", true), ("running", false)] {
        let (_, record) = store.read(operation(key).id()).await.unwrap();
        let record = record.unwrap();
        assert_eq!((record.group, record.input.is_some()), (None, has_input), "{key}");
        assert_eq!(record.wake_at.is_some(), has_input, "{key}");
    }
}
