//! hapax's own tables in a SQLite file.

use hapax::core::Timestamp;
use hapax::store::migration::Applied;
use hapax::store::{Clock, SqliteStore};
use rusqlite::{Connection, OptionalExtension, Result};

use crate::doctor::finding::Finding;
use crate::doctor::ours::{self, Used};

/// A store's time may be ahead of the clock by so much.
const AHEAD_MS: i64 = 1_000;

/// Looks at what hapax has in the file; says what it has.
pub(super) fn look(
    connection: &Connection,
    tables: &[(String, String)],
    clock: &Clock,
    findings: &mut Vec<Finding>,
) -> Result<Vec<String>> {
    let has = |name: &str| tables.iter().any(|(table, _)| table == name);
    if has("hapax_migration") {
        let applied: Vec<Applied> = connection
            .prepare("SELECT version, name, checksum, applied_at FROM hapax_migration ORDER BY version")?
            .query_map([], |row| {
                Ok(Applied {
                    version: row.get(0)?,
                    name: row.get(1)?,
                    checksum: row.get(2)?,
                    applied_at: Timestamp::from_millis(row.get(3)?),
                })
            })?
            .collect::<Result<_>>()?;
        findings.extend(ours::schema_version(
            "hapax_migration",
            SqliteStore::known_migrations(),
            &applied,
        ));
    }
    if has("hapax_meta") && has("hapax_record") {
        meta(connection, clock, findings)?;
    }
    let mut names: Vec<String> = tables
        .iter()
        .filter(|(table, kind)| table.starts_with("hapax_") && kind == "table")
        .map(|(table, _)| table.clone())
        .collect();
    names.sort();
    Ok(ours::notes(&names))
}

fn meta(connection: &Connection, clock: &Clock, findings: &mut Vec<Finding>) -> Result<()> {
    let sql = "SELECT last_fence, last_now FROM hapax_meta WHERE one = 1";
    let found = connection
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((last, last_now)): Option<(i64, i64)> = found else {
        return Ok(());
    };
    let place = "hapax_meta.last_fence";
    let used = Used {
        last,
        largest: i64::MAX,
    };
    findings.extend(ours::nearly_used_up(place, &used, String::new));
    // The newest few tell whether it was set back: a scan of all would take long.
    let sql = "SELECT coalesce(max(fence), 0) FROM (SELECT fence FROM hapax_record ORDER BY position DESC LIMIT 1000)";
    let newest: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    findings.extend(
        ours::behind(place, last, newest, "hapax_record")
            .map(|finding| finding.sql("UPDATE hapax_meta SET last_fence = (SELECT max(fence) FROM hapax_record);")),
    );
    let (now, _) = clock.reading();
    let ahead = last_now.saturating_sub(now.as_millis());
    if ahead > AHEAD_MS {
        let what = format!(
            "the store has used times that are {} s ahead of this machine's clock",
            ahead / 1000
        );
        findings.push(
            Finding::danger("clock", "hapax_meta.last_now", what)
                .why("its time stands still until the clock has caught up: leases do not end and nothing is due until then")
                .advise("see that every machine that uses the file keeps time with NTP (chronyc tracking, timedatectl)"),
        );
    }
    Ok(())
}
