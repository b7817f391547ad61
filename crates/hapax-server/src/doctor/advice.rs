//! The SQL that protects a key, in each dialect.

use super::finding::{Finding, Step};
use super::shape::{Dialect, Part, Table, Unique};

/// A key in a table, for people.
pub(super) fn place(table: &Table, key: &[String]) -> String {
    format!("{} ({})", table.shown(), key.join(", "))
}

fn sql(text: String) -> Step {
    Step::Sql(text)
}

fn advise(text: impl Into<String>) -> Step {
    Step::Do(text.into())
}

/// A unique index on the key.
pub(super) fn unique(table: &Table, key: &[String]) -> Vec<Step> {
    let columns = table.dialect.list(key);
    let mut steps = vec![
        advise("find what is there twice already, and settle it first:"),
        sql(format!(
            "SELECT {columns}, count(*) FROM {} GROUP BY {columns} HAVING count(*) > 1;",
            table.sql()
        )),
    ];
    let outside: Vec<&String> = table.partitioned_by.iter().filter(|by| !key.contains(by)).collect();
    if outside.is_empty() {
        steps.push(sql(create_unique(table, key)));
    } else {
        steps.extend(beside_partitions(table, key));
    }
    steps
}

fn create_unique(table: &Table, key: &[String]) -> String {
    let dialect = table.dialect;
    let name = dialect.quoted(&free_name(table));
    match dialect {
        // Not possible concurrently on a partitioned table.
        Dialect::Postgres if table.partitioned_by.is_empty() => format!(
            "CREATE UNIQUE INDEX CONCURRENTLY {name} ON {} ({});",
            table.sql(),
            dialect.list(key)
        ),
        Dialect::Postgres => format!("CREATE UNIQUE INDEX {name} ON {} ({});", table.sql(), dialect.list(key)),
        Dialect::Mysql => format!(
            "ALTER TABLE {} ADD UNIQUE KEY {name} ({});",
            table.sql(),
            dialect.list(key)
        ),
        Dialect::Sqlite => {
            let index = match &table.schema {
                Some(schema) => format!("{}.{name}", dialect.quoted(schema)),
                None => name,
            };
            let on = dialect.quoted(&table.name);
            format!("CREATE UNIQUE INDEX {index} ON {on} ({});", dialect.list(key))
        }
    }
}

/// A unique index must have all columns that a table is partitioned by, so the key needs a table of its own.
fn beside_partitions(table: &Table, key: &[String]) -> Vec<Step> {
    let dialect = table.dialect;
    let of_key = Table {
        name: format!("{}_natural_key", table.name),
        ..table.clone()
    };
    let columns: Vec<String> = key
        .iter()
        .filter_map(|name| table.column(name))
        .map(|column| format!("{} {}", dialect.quoted(&column.name), column.kind))
        .collect();
    let list = dialect.list(key);
    vec![
        advise(format!(
            "{} is partitioned by {}, which every unique index on it must include: keep the keys in a table of their \
             own, and insert there first, in the same transaction:",
            table.shown(),
            table.partitioned_by.join(", ")
        )),
        sql(format!(
            "CREATE TABLE {} ({}, PRIMARY KEY ({list}));",
            of_key.sql(),
            columns.join(", ")
        )),
        sql(format!(
            "INSERT INTO {} ({list}) SELECT {list} FROM {};",
            of_key.sql(),
            table.sql()
        )),
        advise(format!(
            "then declare [guard.\"{}\"] instead of [guard.\"{}\"]",
            of_key.shown(),
            table.shown()
        )),
    ]
}

/// No index of that name is there yet.
fn free_name(table: &Table) -> String {
    // 63 bytes in PostgreSQL, 64 characters in MySQL.
    let stem: String = table.name.chars().take(40).collect();
    let stem = &stem[..stem.floor_char_boundary(44)];
    let mut name = format!("{stem}_natural_key");
    let mut number = 2;
    while table.uniques.iter().any(|unique| unique.name == name) {
        name = format!("{stem}_natural_key_{number}");
        number += 1;
    }
    name
}

/// A sound index, then without the unsound one.
pub(super) fn instead(table: &Table, key: &[String], old: &Unique) -> Vec<Step> {
    let dialect = table.dialect;
    let mut steps = unique(table, key);
    let name = dialect.quoted(&old.name);
    steps.push(match dialect {
        Dialect::Postgres if old.is_constraint => sql(format!("ALTER TABLE {} DROP CONSTRAINT {name};", table.sql())),
        Dialect::Postgres => {
            let schema = table.schema.as_deref().unwrap_or("public");
            let concurrently = if table.partitioned_by.is_empty() {
                " CONCURRENTLY"
            } else {
                ""
            };
            sql(format!("DROP INDEX{concurrently} {}.{name};", dialect.quoted(schema)))
        }
        Dialect::Mysql => sql(format!("ALTER TABLE {} DROP KEY {name};", table.sql())),
        Dialect::Sqlite if old.is_constraint => advise(format!(
            "then make {} anew without ON CONFLICT in its definition (SQLite cannot drop a constraint): new table, \
             INSERT … SELECT, drop the old one, rename",
            table.shown()
        )),
        Dialect::Sqlite => sql(format!("DROP INDEX {name};")),
    });
    steps
}

/// Columns that let nulls through, closed.
pub(super) fn not_null(table: &Table, key: &[String], unique: &Unique, columns: &[String]) -> Vec<Step> {
    let dialect = table.dialect;
    let (known, computed): (Vec<&String>, Vec<&String>) = columns.iter().partition(|name| table.column(name).is_some());
    let mut steps = set_not_null(table, &known);
    if !computed.is_empty() {
        steps.push(advise(
            "the index is on an expression that can be null: an index on the key's own columns cannot be fooled",
        ));
        steps.extend(self::unique(table, key));
    } else if table.can_equate_nulls {
        steps.push(advise(
            "or, if a missing value is a value like any other here, let nulls be the same:",
        ));
        let name = dialect.quoted(&free_name(table));
        let parts: Vec<String> = unique.parts.iter().map(|part| part_sql(dialect, part)).collect();
        steps.push(sql(format!(
            "CREATE UNIQUE INDEX CONCURRENTLY {name} ON {} ({}) NULLS NOT DISTINCT;",
            table.sql(),
            parts.join(", ")
        )));
    }
    steps
}

/// An index on the key's own columns, none of them null.
pub(super) fn own_columns(table: &Table, key: &[String]) -> Vec<Step> {
    let is_nullable = |name: &&String| table.column(name).is_some_and(|column| !column.not_null);
    let mut steps = set_not_null(table, &key.iter().filter(is_nullable).collect::<Vec<_>>());
    steps.extend(unique(table, key));
    steps
}

fn set_not_null(table: &Table, names: &[&String]) -> Vec<Step> {
    let dialect = table.dialect;
    if names.is_empty() {
        return Vec::new();
    }
    let is_null: Vec<String> = names
        .iter()
        .map(|name| format!("{} IS NULL", dialect.quoted(name)))
        .collect();
    let mut steps = vec![
        advise("give the rows without a value one first; this counts them:"),
        sql(format!(
            "SELECT count(*) FROM {} WHERE {};",
            table.sql(),
            is_null.join(" OR ")
        )),
    ];
    for name in names {
        let kind = table.column(name).map_or("", |column| &column.kind);
        let quoted = dialect.quoted(name);
        match dialect {
            Dialect::Postgres => steps.push(sql(format!(
                "ALTER TABLE {} ALTER COLUMN {quoted} SET NOT NULL;",
                table.sql()
            ))),
            Dialect::Mysql => {
                steps.push(sql(format!(
                    "ALTER TABLE {} MODIFY {quoted} {kind} NOT NULL;",
                    table.sql()
                )));
                steps.push(advise(MODIFY));
            }
            Dialect::Sqlite => steps.extend(["INSERT", "UPDATE"].map(|event| sql(trigger(table, name, event)))),
        }
    }
    steps
}

const MODIFY: &str = "MODIFY takes the whole definition: add the column's DEFAULT and COMMENT, if it has any";

fn part_sql(dialect: Dialect, part: &Part) -> String {
    match part {
        Part::Column { name, .. } => dialect.quoted(name),
        Part::Expression { text, .. } => format!("({text})"),
    }
}

/// SQLite cannot make a column NOT NULL afterwards.
fn trigger(table: &Table, column: &str, event: &str) -> String {
    let quote = |name: &str| table.dialect.quoted(name);
    let name = format!("{}_{column}_not_null_{}", table.name, event.to_ascii_lowercase());
    let message = format!("{}.{column} must not be null", table.name).replace('\'', "''");
    format!(
        "CREATE TRIGGER {} BEFORE {event} ON {} WHEN NEW.{} IS NULL BEGIN SELECT RAISE(ABORT, '{message}'); END;",
        quote(&name),
        quote(&table.name),
        quote(column)
    )
}

/// A column that is compared as it is.
pub(super) fn exact_column(table: &Table, name: &str) -> Vec<Step> {
    let dialect = table.dialect;
    let quoted = dialect.quoted(name);
    match dialect {
        Dialect::Postgres => vec![sql(format!(
            "ALTER TABLE {} ALTER COLUMN {quoted} TYPE text COLLATE \"C\";",
            table.sql()
        ))],
        Dialect::Mysql => {
            let kind = table.column(name).map_or("", |column| &column.kind);
            let kind = kind.split(" CHARACTER SET ").next().unwrap_or(kind);
            let not_null = if table.column(name).is_some_and(|column| column.not_null) {
                " NOT NULL"
            } else {
                ""
            };
            vec![
                sql(format!(
                    "ALTER TABLE {} MODIFY {quoted} {kind} CHARACTER SET utf8mb4 COLLATE {}{not_null};",
                    table.sql(),
                    if table.can_pad_none {
                        "utf8mb4_nopad_bin"
                    } else {
                        "utf8mb4_0900_bin"
                    }
                )),
                advise(MODIFY),
            ]
        }
        Dialect::Sqlite => vec![advise(format!(
            "make {} anew with {name} without COLLATE (SQLite cannot change it): new table, INSERT … SELECT, drop the \
             old one, rename; or allow it if keys that differ only so are the same to your callers",
            table.shown()
        ))],
    }
}

/// An index on whole values.
pub(super) fn whole_column(table: &Table, key: &[String], old: &Unique) -> Vec<Step> {
    let mut steps = vec![advise(
        "an index takes 3072 bytes: shorten the column's type first if it is longer, or keep a digest",
    )];
    steps.extend(instead(table, key, old));
    steps
}

/// For a table with heirs.
pub(super) fn inherited(table: &Table, key: &[String]) -> Finding {
    Finding::danger(
        "key-inherited",
        place(table, key),
        "it has child tables (INHERITS), which its unique indexes do not reach",
    )
    .why("a repetition that is inserted into a child table gets in beside the first")
    .advise(
        "give each child a unique index of its own and insert into one of them only, or use declarative partitioning",
    )
}
