//! What a SQLite file says of itself and of tables. It opens the file to read only, after it has looked at it as a file.

mod file;
mod ours;
mod schema;
mod text;

use rusqlite::{Connection, OpenFlags};

use hapax::store::Clock;

use super::shape::{Dialect, Table};
use super::target::SqliteFile;
use super::{Examined, keys, names};
use crate::config::guard::Guards;
use crate::exit::{Exit, Failure};

/// Examines a file.
///
/// # Errors
/// If it is not there or cannot be read.
pub(super) fn examine(target: &SqliteFile, guards: &Guards, clock: &Clock) -> Result<Examined, Failure> {
    let path = &target.path;
    if !path.exists() {
        let message = format!(
            "there is no file {}; give the one that your program uses",
            path.display()
        );
        return Err(Failure::new(Exit::Unreachable, message));
    }
    let failed = |error: rusqlite::Error| {
        let message = format!("cannot read {} as a SQLite database: {error}", path.display());
        Failure::new(Exit::Unreachable, message)
    };
    // The log is looked at before a connection can change it.
    let mut findings = file::look(path);
    findings.extend(
        target
            .parameters
            .iter()
            .filter_map(|(name, value)| file::parameter(name, value)),
    );
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .map_err(failed)?;
    connection.execute_batch("BEGIN").map_err(failed)?;
    let tables = schema::names(&connection).map_err(failed)?;
    for (name, guard) in guards {
        let folded = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let found = tables.iter().find(|(table, _)| {
            folded(table, &name.table) && name.schema.as_ref().is_none_or(|schema| folded(schema, "main"))
        });
        let Some((table, kind)) = found else {
            let known = tables.iter().map(|(table, _)| ("", table.as_str()));
            findings.push(names::missing_table(name, known, "main"));
            continue;
        };
        if kind != "table" {
            findings.push(names::not_a_table(table, &format!("a {kind}")));
            continue;
        }
        let table: Table = schema::read(&connection, table).map_err(failed)?;
        let (key, missing) = names::columns(&table, guard.natural_key.columns(), |name| name.to_ascii_lowercase());
        findings.extend(missing);
        if let Some(key) = key {
            findings.extend(keys::judge(&table, &key));
        }
    }
    let mut notes = ours::look(&connection, &tables, clock, &mut findings).map_err(failed)?;
    notes.push(
        "synchronous is a setting of each connection, which the file does not tell: see that your program does not turn it \
         off (give its own database URL to have the parameters looked at)"
            .to_owned(),
    );
    Ok(Examined {
        dialect: Dialect::Sqlite,
        label: format!("SQLite database {}", path.display()),
        version: rusqlite::version().to_owned(),
        findings,
        notes,
    })
}
