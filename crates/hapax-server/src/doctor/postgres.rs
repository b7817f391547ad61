//! What PostgreSQL says of itself and of tables. It reads; [`keys`](super::keys) judges.

mod ours;
mod server;

use hapax::core::StoreError;
use hapax::store::Clock;
use hapax::store::postgres::connect_plainly;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::finding::Finding;
use super::shape::{Column, Dialect, Part, Table, Unique};
use super::{Examined, keys, names};
use crate::config::guard::{Guards, TableName};
use crate::exit::{Exit, Failure};

/// An open session, which changes nothing.
struct Session {
    client: Client,
    label: String,
}

impl Session {
    async fn open(url: &str) -> Result<Self, StoreError> {
        let (client, label) = connect_plainly(url).await?;
        Ok(Self { client, label })
    }

    /// Runs a query that needs no statement kept in the session, so that poolers do not mind.
    async fn rows(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, Failure> {
        let rows = self.client.query_typed(sql, parameters).await;
        rows.map_err(|error| self.failure(&error))
    }

    async fn of_table(&self, sql: &str, oid: u32) -> Result<Vec<Row>, Failure> {
        self.rows(sql, &[(&oid, Type::OID)]).await
    }

    fn failure(&self, error: &tokio_postgres::Error) -> Failure {
        let what = match error.as_db_error() {
            Some(error) => format!("{} (SQLSTATE {})", error.message(), error.code().code()),
            None => error.to_string(),
        };
        Failure::new(
            Exit::Unreachable,
            format!("cannot read the catalog of {}: {what}", self.label),
        )
    }
}

/// Examines a database.
///
/// # Errors
/// If it cannot be reached or read.
pub(super) async fn examine(url: &str, guards: &Guards, clock: &Clock) -> Result<Examined, Failure> {
    let session = Session::open(url).await?;
    let mut findings = Vec::new();
    // Before the transaction below, which is a session's own.
    let server = server::read(&session).await?;
    server::settings(&session, &server, &mut findings).await?;
    server::clock(&session, clock, &mut findings).await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    session
        .client
        .batch_execute(begin)
        .await
        .map_err(|error| session.failure(&error))?;
    let relations: Vec<Relation> = session
        .rows(include_str!("postgres/relations.sql"), &[])
        .await?
        .iter()
        .map(Relation::read)
        .collect();
    for (name, guard) in guards {
        guarded(
            &session,
            name,
            guard.natural_key.columns(),
            &relations,
            &server,
            &mut findings,
        )
        .await?;
    }
    let notes = ours::look(&session, &relations, &server, &mut findings).await?;
    Ok(Examined {
        dialect: Dialect::Postgres,
        label: session.label,
        version: server.version,
        findings,
        notes,
    })
}

/// A table or view.
struct Relation {
    oid: u32,
    schema: String,
    name: String,
    kind: String,
    is_unlogged: bool,
    is_visible: bool,
}

impl Relation {
    fn read(row: &Row) -> Self {
        Self {
            oid: row.get("oid"),
            schema: row.get("schema"),
            name: row.get("name"),
            kind: row.get("kind"),
            is_unlogged: row.get::<_, &str>("persistence") == "u",
            is_visible: row.get("visible"),
        }
    }

    fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Whether a declared name means it. A name in another case is what SQL without quotes would mean.
    fn is(&self, name: &TableName, same: fn(&str, &str) -> bool) -> bool {
        let in_schema = match &name.schema {
            Some(schema) => same(schema, &self.schema),
            None => self.is_visible,
        };
        in_schema && same(&name.table, &self.name)
    }
}

async fn guarded(
    session: &Session,
    name: &TableName,
    key: &[String],
    relations: &[Relation],
    server: &server::Server,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let exactly = |a: &str, b: &str| a == b;
    let folded = |a: &str, b: &str| a.to_lowercase() == b;
    let find = |same| relations.iter().find(|relation| relation.is(name, same));
    let Some(relation) = find(exactly).or_else(|| find(folded)) else {
        let known = relations
            .iter()
            .map(|relation| (relation.schema.as_str(), relation.name.as_str()));
        findings.push(names::missing_table(name, known, "public"));
        return Ok(());
    };
    let place = relation.shown();
    match relation.kind.as_str() {
        "r" | "p" => {}
        "f" => {
            findings.push(names::not_a_table(
                &place,
                "a foreign table, whose indexes are on another server",
            ));
            return Ok(());
        }
        _ => {
            findings.push(names::not_a_table(&place, "a view"));
            return Ok(());
        }
    }
    if relation.is_unlogged {
        findings.push(unlogged(relation));
    }
    let table = read_table(session, relation, server).await?;
    let (key, missing) = names::columns(&table, key, |name| name.to_lowercase());
    findings.extend(missing);
    if let Some(key) = key {
        findings.extend(keys::judge(&table, &key));
    }
    Ok(())
}

fn unlogged(relation: &Relation) -> Finding {
    let quoted = format!(
        "{}.{}",
        Dialect::Postgres.quoted(&relation.schema),
        Dialect::Postgres.quoted(&relation.name)
    );
    Finding::danger("unlogged", relation.shown(), "the table is UNLOGGED")
        .why("a crash of the server empties it, and replicas never have it: what was done once is done again")
        .sql(format!("ALTER TABLE {quoted} SET LOGGED;"))
}

async fn read_table(session: &Session, relation: &Relation, server: &server::Server) -> Result<Table, Failure> {
    let oid = relation.oid;
    let columns = session.of_table(include_str!("postgres/columns.sql"), oid).await?;
    let checks = session.of_table(include_str!("postgres/checks.sql"), oid).await?;
    let uniques = session.of_table(include_str!("postgres/uniques.sql"), oid).await?;
    let more = session.of_table(include_str!("postgres/more.sql"), oid).await?;
    let checked: Vec<String> = checks
        .iter()
        .filter_map(|row| keys::nulls_only(row.get::<_, Option<&str>>("expression")?))
        .flatten()
        .collect();
    let mut columns: Vec<Column> = columns.iter().map(column).collect();
    for column in &mut columns {
        column.not_null |= checked.contains(&column.name);
    }
    Ok(Table {
        dialect: Dialect::Postgres,
        schema: Some(relation.schema.clone()),
        name: relation.name.clone(),
        columns,
        uniques: collect(&uniques),
        partitioned_by: more.first().map(|row| row.get("partitioned_by")).unwrap_or_default(),
        has_heirs: more.first().is_some_and(|row| row.get("has_heirs")),
        can_equate_nulls: server.version_num >= 150_000,
        can_pad_none: false,
    })
}

fn column(row: &Row) -> Column {
    let filled: Option<&str> = row.get("filled");
    let generated: bool = row.get("generated");
    let identity: &str = row.get("identity");
    let made = match (identity, filled) {
        ("a" | "d", _) => Some("an identity column".to_owned()),
        (_, Some(filled)) if !generated => made_by(filled).then(|| format!("DEFAULT {filled}")),
        _ => None,
    };
    let base: &str = row.get("base");
    let imprecise = matches!(base, "float4" | "float8")
        .then(|| format!("the key has a floating point number ({})", row.get::<_, &str>("kind")));
    Column {
        name: row.get("name"),
        kind: row.get("kind"),
        not_null: row.get("not_null"),
        made,
        imprecise,
        computed_from: if generated {
            row.get("computed_from")
        } else {
            Vec::new()
        },
    }
}

/// Whether a default is another for each row.
fn made_by(default: &str) -> bool {
    let default = default.to_ascii_lowercase();
    ["nextval(", "uuid", "now()", "current_timestamp", "clock_timestamp", "random(", "statement_timestamp"]
        .iter()
        .any(|part| default.contains(part))
        // '00000000-…'::uuid is the same for all.
        && !default.starts_with('\'')
}

fn collect(rows: &[Row]) -> Vec<Unique> {
    let mut uniques: Vec<Unique> = Vec::new();
    for row in rows {
        let name: &str = row.get("name");
        if uniques.last().is_none_or(|unique| unique.name != name) {
            uniques.push(unique(row));
        }
        if let Some(unique) = uniques.last_mut() {
            unique.parts.push(part(row));
        }
    }
    uniques
}

fn unique(row: &Row) -> Unique {
    let invalid = match (row.get("valid"), row.get("building")) {
        (true, _) => None,
        (false, true) => Some("it is still being built: look again when it is".to_owned()),
        (false, false) => Some("it is invalid: building it failed, and rows may be there twice".to_owned()),
    };
    Unique {
        name: row.get("name"),
        is_constraint: row.get("is_constraint"),
        parts: Vec::new(),
        predicate: row.get("predicate"),
        invalid,
        nulls_differ: !row.get::<_, bool>("nulls_same"),
        is_deferrable: row.get("deferrable"),
        on_conflict: None,
    }
}

fn part(row: &Row) -> Part {
    let text: String = row.get("text");
    match row.get::<_, Option<String>>("column_name") {
        Some(name) if row.get("equality") => Part::Column {
            name,
            coarse: coarse(row),
            prefix: None,
        },
        // Compared otherwise than by equality: whatever it is of, it may differ.
        Some(_) => Part::Expression {
            text,
            columns: Vec::new(),
        },
        None => Part::Expression {
            text,
            columns: row.get("reads"),
        },
    }
}

fn coarse(row: &Row) -> Option<String> {
    if row.get("citext") {
        return Some("its type is citext".to_owned());
    }
    if !row.get::<_, bool>("deterministic") {
        let collation: Option<&str> = row.get("collation");
        return Some(format!(
            "its collation {} is nondeterministic",
            collation.unwrap_or_default()
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_new_for_each_row_or_the_same() {
        for (default, made) in [
            ("nextval('orders_id_seq'::regclass)", true),
            ("gen_random_uuid()", true),
            ("now()", true),
            ("CURRENT_TIMESTAMP", true),
            ("''::text", false),
            ("'00000000-0000-0000-0000-000000000000'::uuid", false),
            ("0", false),
        ] {
            assert_eq!(made_by(default), made, "{default}");
        }
    }
}
