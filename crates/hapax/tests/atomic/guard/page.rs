//! The statements of `docs/guards.md`, as they stand there, on real servers.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use hapax_testbed::{MariaDatabase, MariaDb};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::desk::{Desk, Place};

const PAGE: &str = include_str!("../../../../../docs/guards.md");

/// The statements of each section, for each database.
type Page = BTreeMap<(&'static str, &'static str), Vec<String>>;

fn page() -> Page {
    let mut page = Page::new();
    let (mut section, mut code) = ("", None);
    for line in PAGE.lines() {
        match (&mut code, line) {
            (None, "```sql") => code = Some(Vec::new()),
            (Some(lines), "```") => {
                let lines: Vec<&str> = std::mem::take(lines);
                let dialect = lines[0].strip_prefix("-- ").unwrap();
                let plain: Vec<&str> = lines.iter().map(|line| line.split("--").next().unwrap()).collect();
                let statements = plain.join("\n");
                let statements = statements.split(';').map(str::trim).filter(|part| !part.is_empty());
                let statements = statements.map(str::to_owned).collect();
                assert!(
                    page.insert((section, dialect), statements).is_none(),
                    "{section}, {dialect}"
                );
                code = None;
            }
            (Some(lines), _) => lines.push(line),
            (None, _) => {
                section = line
                    .strip_prefix("##")
                    .map_or(section, |text| text.trim_matches(['#', ' ']))
            }
        }
    }
    page
}

const TABLES: &str = "Any language, by SQL";
const TRANSITION: &str = "Transition";
const NEWER: &str = "Apply if newer";
const INSERT: &str = "Insert or get";
const MYSQL: &str = "MySQL, MariaDB";

/// What the guards are asked, and what they answer.
struct Case {
    section: &'static str,
    values: &'static [(&'static str, &'static str)],
    expected: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |section, values, expected| Case {
        section,
        values,
        expected,
    };
    vec![
        case(
            INSERT,
            &[("customer", "1"), ("number", "5"), ("amount", "20")],
            "1 applied",
        ),
        case(
            INSERT,
            &[("customer", "1"), ("number", "5"), ("amount", "20")],
            "1 already-applied",
        ),
        case(
            INSERT,
            &[("customer", "1"), ("number", "5"), ("amount", "21")],
            "1 rejected",
        ),
        case(
            TRANSITION,
            &[("id", "1"), ("from", "paid"), ("to", "shipped")],
            "new rejected",
        ),
        case(
            TRANSITION,
            &[("id", "1"), ("from", "new"), ("to", "paid")],
            "paid applied",
        ),
        case(
            TRANSITION,
            &[("id", "1"), ("from", "new"), ("to", "paid")],
            "paid already-applied",
        ),
        case(
            TRANSITION,
            &[("id", "1"), ("from", "paid"), ("to", "delivered")],
            "delivered applied",
        ),
        case(
            TRANSITION,
            &[("id", "1"), ("from", "new"), ("to", "paid")],
            "delivered stale",
        ),
        case(TRANSITION, &[("id", "9"), ("from", "new"), ("to", "paid")], ""),
        case(
            NEWER,
            &[("item", "tea"), ("version", "2"), ("price", "20")],
            "2 applied",
        ),
        case(
            NEWER,
            &[("item", "tea"), ("version", "2"), ("price", "20")],
            "2 already-applied",
        ),
        case(
            NEWER,
            &[("item", "tea"), ("version", "2"), ("price", "21")],
            "2 rejected",
        ),
        case(NEWER, &[("item", "tea"), ("version", "1"), ("price", "10")], "2 stale"),
        case(
            NEWER,
            &[("item", "tea"), ("version", "3"), ("price", "30")],
            "3 applied",
        ),
        case(
            NEWER,
            &[("item", "mate"), ("version", "0"), ("price", "1")],
            "0 applied",
        ),
    ]
}

const LEFT: &str = "SELECT state FROM orders";
const PRICE: &str = "SELECT price FROM prices WHERE item = 'tea'";

#[test]
fn every_section_has_its_statements_for_each_database() {
    let expected: Vec<(&str, &str)> = [NEWER, INSERT, TRANSITION]
        .into_iter()
        .flat_map(|section| [(section, "PostgreSQL"), (section, MYSQL), (section, "SQLite")])
        .collect();
    let page = page();
    let mut found: Vec<(&str, &str)> = page.keys().copied().filter(|(section, _)| *section != TABLES).collect();
    found.sort_by_key(|(section, _)| expected.iter().position(|(other, _)| other == section));
    assert_eq!(page.len(), 12);
    for key in expected {
        assert!(found.contains(&key), "{key:?} is not on the page");
        let statements = if key.1 == "PostgreSQL" { 1 } else { 2 };
        assert_eq!(page[&key].len(), statements, "{key:?}");
    }
}

/// With numbered parameters, and the names in their order.
fn numbered(sql: &str, values: &[(&str, &str)]) -> String {
    let numbered = values.iter().enumerate().fold(sql.to_owned(), |sql, (at, (name, _))| {
        sql.replace(&format!(":{name}"), &format!("${}", at + 1))
    });
    assert!(!numbered.contains(" :"), "{numbered}");
    numbered
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_answers_as_the_page_says() {
    let page = page();
    let place = Place::tokio_postgres();
    let mut desk = place.desk().await;
    desk.execute(&page[&(TABLES, "PostgreSQL")].join(";")).await;
    for case in cases() {
        let sql = numbered(&page[&(case.section, "PostgreSQL")][0], case.values);
        let Desk::TokioPostgres(client) = &desk else {
            unreachable!()
        };
        // The types are the server's to tell, as in most drivers.
        let prepared = client.prepare(&sql).await.unwrap();
        let values: Vec<Box<dyn tokio_postgres::types::ToSql + Sync>> = case
            .values
            .iter()
            .zip(prepared.params())
            .map(|((_, value), kind)| match *kind {
                tokio_postgres::types::Type::INT8 => Box::new(value.parse::<i64>().unwrap()) as Box<_>,
                _ => Box::new(*value) as Box<_>,
            })
            .collect();
        let values: Vec<_> = values.iter().map(|value| &**value).collect();
        let rows = client.query(&prepared, &values).await.unwrap();
        assert!(rows.len() <= 1);
        let said = rows.first().map(|row| {
            let first = row
                .try_get::<_, i64>(0)
                .map_or_else(|_| row.get(0), |number| number.to_string());
            format!("{first} {}", row.get::<_, &str>(1))
        });
        assert_eq!(
            said.unwrap_or_default(),
            case.expected,
            "{}: {:?}",
            case.section,
            case.values
        );
    }
    assert_eq!(
        (desk.value(LEFT).await, desk.value(PRICE).await),
        ("delivered".into(), "30".into())
    );
}

#[test]
fn sqlite_answers_as_the_page_says() {
    let page = page();
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(&page[&(TABLES, "SQLite")].join(";")).unwrap();
    let rows = |sql: &str, values: &[(&str, &str)]| -> Option<String> {
        let mut prepared = connection.prepare(sql).unwrap();
        for (name, value) in values {
            if let Some(at) = prepared.parameter_index(&format!(":{name}")).unwrap() {
                match value.parse::<i64>() {
                    Ok(number) => prepared.raw_bind_parameter(at, number).unwrap(),
                    Err(_) => prepared.raw_bind_parameter(at, value).unwrap(),
                }
            }
        }
        let mut rows = prepared.raw_query();
        let row = rows.next().unwrap()?;
        let first = match row.get(0).unwrap() {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => text,
            other => panic!("{other:?}"),
        };
        let said = format!("{first} {}", row.get::<_, String>(1).unwrap());
        assert!(rows.next().unwrap().is_none());
        Some(said)
    };
    for case in cases() {
        let [write, look] = &page[&(case.section, "SQLite")][..] else {
            panic!("{}", case.section)
        };
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let said = rows(write, case.values).or_else(|| rows(look, case.values));
        connection.execute_batch("COMMIT").unwrap();
        assert_eq!(
            said.unwrap_or_default(),
            case.expected,
            "{}: {:?}",
            case.section,
            case.values
        );
    }
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Value>(0)).unwrap();
    assert_eq!(
        (text(LEFT), text(PRICE)),
        (Value::Text("delivered".into()), Value::Integer(30))
    );
}

/// The guard as one session's script: affected rows, then the second statement's row.
fn script(page: &Page, case: &Case) -> String {
    let [write, look] = &page[&(case.section, MYSQL)][..] else {
        panic!("{}", case.section)
    };
    let script = format!("START TRANSACTION; {write}; SELECT ROW_COUNT(); {look}; COMMIT");
    case.values.iter().fold(script, |script, (name, value)| {
        script.replace(&format!(":{name}"), &format!("'{value}'"))
    })
}

fn mariadb_says(database: &MariaDatabase, script: &str) -> String {
    let said = database.query(script);
    let mut lines = said.lines();
    let affected = lines.next().unwrap();
    let row = lines.next().unwrap_or_default().replace('\t', " ");
    match (affected, row.split_once(' ')) {
        ("0", _) => row,
        ("1" | "2", Some((first, _))) => format!("{first} applied"),
        _ => panic!("{said}"),
    }
}

#[test]
fn mariadb_answers_as_the_page_says() {
    let page = page();
    let database = MariaDb::shared().database();
    database.query(&page[&(TABLES, MYSQL)].join(";"));
    for case in cases() {
        let said = mariadb_says(&database, &script(&page, &case));
        assert_eq!(said, case.expected, "{}: {:?}", case.section, case.values);
    }
    assert_eq!(
        (database.query(LEFT).trim(), database.query(PRICE).trim()),
        ("delivered", "30")
    );
}

#[test]
fn on_mariadb_one_of_many_applies() {
    const MANY: usize = 8;
    let page = page();
    let database = MariaDb::shared().database();
    database.query(&page[&(TABLES, MYSQL)].join(";"));
    for case in cases().iter().filter(|case| case.expected.ends_with(" applied")) {
        let script = script(&page, case);
        let barrier = Barrier::new(MANY);
        let said: Vec<String> = thread::scope(|scope| {
            let asked = (0..MANY).map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    mariadb_says(&database, &script)
                })
            });
            let asked: Vec<_> = asked.collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let applied = said.iter().filter(|said| said.ends_with(" applied")).count();
        let already = said.iter().filter(|said| said.ends_with(" already-applied")).count();
        assert_eq!((applied, already), (1, MANY - 1), "{said:?}");
    }
}
