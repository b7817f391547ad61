//! Tables, columns and unique indexes of a SQLite database.

use rusqlite::{Connection, OptionalExtension, Result};

use super::text;
use crate::doctor::shape::{Column, Dialect, Part, Table, Unique};

/// Tables, views and virtual tables by name, with what they are.
pub(super) fn names(connection: &Connection) -> Result<Vec<(String, String)>> {
    connection
        .prepare(
            "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// A table with its columns and unique indexes.
pub(super) fn read(connection: &Connection, name: &str) -> Result<Table> {
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)";
    let definition: String = connection.query_row(sql, [name], |row| row.get(0))?;
    let words = text::words(&definition);
    let mut columns = columns(connection, name, &words)?;
    let guarded = triggers(connection, name)?;
    for column in &mut columns {
        let is_never_null = |event: &str| guarded.iter().any(|words| refuses_null(words, &column.name, event));
        column.not_null |= is_never_null("insert") && is_never_null("update");
    }
    let mut uniques: Vec<Unique> = rowid(connection, name, &columns)?.into_iter().collect();
    uniques.extend(indexes(connection, name, &columns, &words)?);
    Ok(Table {
        dialect: Dialect::Sqlite,
        schema: None,
        name: name.to_owned(),
        columns,
        uniques,
        partitioned_by: Vec::new(),
        has_heirs: false,
        can_equate_nulls: false,
        can_pad_none: false,
    })
}

fn columns(connection: &Connection, table: &str, words: &[String]) -> Result<Vec<Column>> {
    let is_without_rowid = text::have(words, &["without", "rowid"]);
    let sql = "SELECT name, type, \"notnull\", pk, dflt_value, hidden FROM pragma_table_xinfo(?1)";
    let rows = connection
        .prepare(sql)?
        .query_map([table], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, bool>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, Option<String>>(4)?,
                row.get::<_, i64>(5)?,
            ))
        })?
        .collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = rows.iter().map(|row| row.0.clone()).collect();
    let is_rowid = |pk: i64, kind: &str| {
        pk == 1
            && kind.eq_ignore_ascii_case("integer")
            && !is_without_rowid
            && rows.iter().filter(|row| row.3 > 0).count() == 1
    };
    Ok(rows
        .iter()
        .map(|(name, kind, not_null, pk, default, hidden)| {
            let checked = text::have(words, &["check", "(", &name.to_lowercase(), "is", "not", "null", ")"]);
            // Hidden 2 and 3: generated columns.
            let generated = matches!(hidden, 2 | 3);
            Column {
                name: name.clone(),
                kind: kind.clone(),
                not_null: *not_null || checked || (*pk > 0 && is_without_rowid) || is_rowid(*pk, kind),
                made: made(is_rowid(*pk, kind), default.as_deref()),
                imprecise: imprecise(name, kind, generated),
                computed_from: if generated {
                    computed_from(words, name, &names)
                } else {
                    Vec::new()
                },
            }
        })
        .collect())
}

fn made(is_rowid: bool, default: Option<&str>) -> Option<String> {
    if is_rowid {
        return Some("INTEGER PRIMARY KEY, the row's number".to_owned());
    }
    let default = default?;
    let is_new = ["random", "current_", "now", "strftime", "unixepoch", "julianday"];
    let lower = default.to_ascii_lowercase();
    is_new
        .iter()
        .any(|part| lower.contains(part))
        .then(|| format!("DEFAULT {default}"))
}

fn imprecise(name: &str, kind: &str, generated: bool) -> Option<String> {
    let upper = kind.to_uppercase();
    // The rules of affinity, in their order.
    if upper.contains("INT") || upper.contains("CHAR") || upper.contains("CLOB") || upper.contains("TEXT") {
        return None;
    }
    if upper.is_empty() && !generated {
        return Some(format!(
            "{name} has no type: the text '7' and the number 7 are two keys"
        ));
    }
    ["REAL", "FLOA", "DOUB"]
        .iter()
        .any(|part| upper.contains(part))
        .then(|| format!("the key has a floating point number ({kind})"))
}

/// The columns in a generated column's expression, from the definition's text.
fn computed_from(words: &[String], name: &str, columns: &[String]) -> Vec<String> {
    let name = name.to_lowercase();
    let starts = words
        .iter()
        .enumerate()
        .filter(|(_, word)| **word == name)
        .map(|(at, _)| at);
    for start in starts {
        // A comma at the same depth ends the column's definition.
        let (mut depth, mut expression, mut is_generated) = (0_i32, Vec::new(), false);
        for word in &words[start + 1..] {
            match word.as_str() {
                "(" => depth += 1,
                ")" => depth -= 1,
                "as" if depth == 0 => is_generated = true,
                "," if depth == 0 => break,
                _ => {}
            }
            if depth < 0 {
                break;
            }
            if is_generated {
                expression.push(word.clone());
            }
        }
        if is_generated {
            return mentioned(&expression, columns);
        }
    }
    Vec::new()
}

fn mentioned(words: &[String], columns: &[String]) -> Vec<String> {
    columns
        .iter()
        .filter(|column| words.contains(&column.to_lowercase()))
        .cloned()
        .collect()
}

fn triggers(connection: &Connection, table: &str) -> Result<Vec<Vec<String>>> {
    connection
        .prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = lower(?1)")?
        .query_map([table], |row| Ok(text::words(&row.get::<_, String>(0)?)))?
        .collect()
}

/// A trigger that lets no null into a column.
fn refuses_null(words: &[String], column: &str, event: &str) -> bool {
    let column = column.to_lowercase();
    text::have(words, &["before", event, "on"])
        && (text::have(words, &["when", "new", ".", &column, "is", "null", "begin"]))
        && ["abort", "fail", "rollback"]
            .iter()
            .any(|how| text::have(words, &["select", "raise", "(", how]))
}

/// The row's number is unique without an index.
fn rowid(connection: &Connection, table: &str, columns: &[Column]) -> Result<Option<Unique>> {
    let sql = "SELECT name FROM pragma_table_info(?1) WHERE pk = 1 AND lower(type) = 'integer'
        AND NOT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE pk > 1)
        AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')";
    let name: Option<String> = connection.query_row(sql, [table], |row| row.get(0)).optional()?;
    Ok(name
        .filter(|name| columns.iter().any(|column| column.name == *name))
        .map(|name| Unique {
            name: "the primary key".to_owned(),
            is_constraint: true,
            parts: vec![Part::Column {
                name,
                coarse: None,
                prefix: None,
            }],
            predicate: None,
            invalid: None,
            nulls_differ: true,
            is_deferrable: false,
            on_conflict: None,
        }))
}

fn indexes(connection: &Connection, table: &str, columns: &[Column], words: &[String]) -> Result<Vec<Unique>> {
    let sql = "SELECT l.name, l.origin, s.sql FROM pragma_index_list(?1) AS l
        LEFT JOIN sqlite_schema AS s ON s.type = 'index' AND s.name = l.name WHERE l.\"unique\"";
    let found: Vec<(String, String, Option<String>)> = connection
        .prepare(sql)?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_>>()?;
    let resolved = ["replace", "ignore"]
        .into_iter()
        .find(|how| text::have(words, &["on", "conflict", how]));
    found
        .into_iter()
        .map(|(name, origin, sql)| {
            let is_constraint = origin != "c";
            Ok(Unique {
                parts: parts(connection, &name, sql.as_deref(), columns)?,
                predicate: sql.as_deref().and_then(text::predicate),
                // Which of a table's constraints has it, the catalog does not tell.
                on_conflict: resolved.filter(|_| is_constraint).map(str::to_uppercase),
                name,
                is_constraint,
                invalid: None,
                nulls_differ: true,
                is_deferrable: false,
            })
        })
        .collect()
}

fn parts(connection: &Connection, index: &str, sql: Option<&str>, columns: &[Column]) -> Result<Vec<Part>> {
    let texts = sql.map(text::index_parts).unwrap_or_default();
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    connection
        .prepare("SELECT seqno, cid, name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?
        .query_map([index], |row| {
            let (at, cid): (u32, i64) = (row.get(0)?, row.get(1)?);
            let name: Option<String> = row.get(2)?;
            let collation: String = row.get(3)?;
            let coarse = match collation.to_uppercase().as_str() {
                "BINARY" => None,
                other => Some(format!("its collation is {other}")),
            };
            Ok(match name {
                Some(name) => Part::Column {
                    name,
                    coarse,
                    prefix: None,
                },
                None if cid == -1 => Part::Expression {
                    text: "rowid".to_owned(),
                    columns: Vec::new(),
                },
                None => {
                    let text = texts
                        .get(at as usize)
                        .cloned()
                        .unwrap_or_else(|| "an expression".to_owned());
                    Part::Expression {
                        columns: mentioned(&text::words(&text), &names),
                        text,
                    }
                }
            })
        })?
        .collect()
}
