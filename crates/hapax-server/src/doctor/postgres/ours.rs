//! hapax's own tables: where they are, whether they can be written, and whether fences still grow.

use hapax::core::Timestamp;
use hapax::store::PostgresStore;
use hapax::store::migration::Applied;
use tokio_postgres::types::Type;

use super::server::Server;
use super::{Relation, Session, unlogged};
use crate::doctor::finding::Finding;
use crate::doctor::ours::{self, Used};
use crate::doctor::shape::Dialect;
use crate::exit::Failure;

/// Looks at what hapax has in the database; says what it has.
pub(super) async fn look(
    session: &Session,
    relations: &[Relation],
    server: &Server,
    findings: &mut Vec<Finding>,
) -> Result<Vec<String>, Failure> {
    let ours: Vec<&Relation> = relations
        .iter()
        .filter(|relation| relation.name.starts_with("hapax_") && matches!(&*relation.kind, "r" | "p"))
        .collect();
    let place = format!("database {}", server.database);
    if server.in_recovery {
        findings.push(ours::replica(&place, &named(&ours)).advise(
            "connect to the primary; with several hosts in the URL, add target_session_attrs=read-write to it",
        ));
    } else if server.is_read_only {
        findings.push(
            ours::read_only(&place, "default_transaction_read_only is on").sql(format!(
                "ALTER DATABASE {} SET default_transaction_read_only = off;",
                Dialect::Postgres.quoted(&server.database)
            )),
        );
    }
    findings.extend(
        ours.iter()
            .filter(|table| table.is_unlogged)
            .map(|table| unlogged(table)),
    );
    for name in ["hapax_record", "hapax_receipt", "hapax_outbox"] {
        let places: Vec<String> = ours
            .iter()
            .filter(|table| table.name == name)
            .map(|table| table.shown())
            .collect();
        findings.extend(ours::twice(name, &places));
    }
    for table in ours.iter().filter(|table| table.name == "hapax_migration") {
        migrations(session, table, findings).await?;
    }
    sequences(session, &ours, findings).await?;
    Ok(ours::notes(&named(&ours)))
}

fn named(tables: &[&Relation]) -> Vec<String> {
    tables.iter().map(|table| table.shown()).collect()
}

async fn may_read(session: &Session, table: &Relation) -> Result<bool, Failure> {
    let rows = session
        .rows(
            "SELECT has_table_privilege($1, 'SELECT') AS may",
            &[(&table.oid, Type::OID)],
        )
        .await?;
    Ok(rows.first().is_some_and(|row| row.get("may")))
}

fn quoted(table: &Relation) -> String {
    format!(
        "{}.{}",
        Dialect::Postgres.quoted(&table.schema),
        Dialect::Postgres.quoted(&table.name)
    )
}

async fn migrations(session: &Session, table: &Relation, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    if !may_read(session, table).await? {
        return Ok(());
    }
    let sql = format!(
        "SELECT version, name, checksum, applied_at FROM {} ORDER BY version",
        quoted(table)
    );
    let rows = session.rows(&sql, &[]).await?;
    let applied: Vec<Applied> = rows
        .iter()
        .map(|row| Applied {
            version: u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX),
            name: row.get(1),
            checksum: row.get(2),
            applied_at: Timestamp::from_millis(row.get(3)),
        })
        .collect();
    findings.extend(ours::schema_version(
        &table.shown(),
        PostgresStore::known_migrations(),
        &applied,
    ));
    Ok(())
}

/// Fences must grow for ever: no wrap, no cache, nothing above the sequence.
async fn sequences(session: &Session, tables: &[&Relation], findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for row in session.rows(include_str!("sequences.sql"), &[]).await? {
        let (schema, name): (&str, &str) = (row.get("schema"), row.get("name"));
        let place = format!("{schema}.{name}");
        let sql = format!(
            "{}.{}",
            Dialect::Postgres.quoted(schema),
            Dialect::Postgres.quoted(name)
        );
        let last: Option<i64> = row.get("last");
        let used = Used {
            last: last.unwrap_or(0),
            largest: row.get("largest"),
        };
        findings.extend(ours::nearly_used_up(&place, &used, || {
            format!("ALTER SEQUENCE {sql} AS bigint MAXVALUE {};", i64::MAX)
        }));
        if name != "hapax_fence" {
            continue;
        }
        let (increment, cache): (i64, i64) = (row.get("increment"), row.get("cache"));
        if row.get("cycles") || cache != 1 || increment < 1 {
            findings.push(
                Finding::danger(
                    "fence-sequence",
                    &place,
                    format!(
                        "it may give a later claim a lower number (CACHE {cache}, INCREMENT {increment}, CYCLE or not)"
                    ),
                )
                .why("a fence that does not grow lets a holder that was given up on finish over its successor")
                .sql(format!("ALTER SEQUENCE {sql} INCREMENT 1 CACHE 1 NO CYCLE;")),
            );
        }
        let records = tables
            .iter()
            .find(|table| table.name == "hapax_record" && table.schema == schema);
        if let (Some(records), Some(last)) = (records, last)
            && may_read(session, records).await?
        {
            newest(session, records, &place, &sql, last, findings).await?;
        }
    }
    Ok(())
}

/// The newest record's fence, which the sequence must have passed.
async fn newest(
    session: &Session,
    records: &Relation,
    place: &str,
    sequence: &str,
    last: i64,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let sql = format!("SELECT fence FROM {} ORDER BY position DESC LIMIT 1", quoted(records));
    let rows = session.rows(&sql, &[]).await?;
    let newest: i64 = rows.first().map_or(0, |row| row.get(0));
    findings.extend(ours::behind(place, last, newest, &records.shown()).map(|finding| {
        finding.sql(format!(
            "SELECT setval('{}', (SELECT max(fence) FROM {}));",
            sequence.replace('\'', "''"),
            quoted(records)
        ))
    }));
    Ok(())
}
