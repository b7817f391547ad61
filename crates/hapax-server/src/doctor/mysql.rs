//! What MySQL and MariaDB say of themselves and of tables. It reads; [`keys`](super::keys) judges.

mod server;

use hapax::receipts::connect_mysql_plainly;
use hapax::store::Clock;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use super::finding::Finding;
use super::shape::{Column, Dialect, Part, Table, Unique};
use super::{Examined, keys, names, ours};
use crate::config::guard::{Guards, TableName};
use crate::exit::{Exit, Failure};
use server::Server;

/// An open session, which changes nothing.
struct Session {
    connection: MySqlConnection,
    label: String,
}

/// Values as text: what the catalog gives has another type in each version.
type Row = Vec<Option<String>>;

impl Session {
    async fn rows(&mut self, sql: &str, parameters: &[&str]) -> Result<Vec<Row>, Failure> {
        let rows = self.try_rows(sql, parameters).await;
        rows.map_err(|error| {
            let message = format!("cannot read the catalog of {}: {error}", self.label);
            Failure::new(Exit::Unreachable, message)
        })
    }

    async fn try_rows(&mut self, sql: &str, parameters: &[&str]) -> Result<Vec<Row>, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        let rows = if parameters.is_empty() {
            // Not every SHOW can be prepared.
            sqlx::raw_sql(sql).fetch_all(&mut self.connection).await?
        } else {
            let query = sqlx::query(sql).persistent(false);
            let query = parameters
                .iter()
                .fold(query, |query, value| query.bind((*value).to_owned()));
            query.fetch_all(&mut self.connection).await?
        };
        let row = |row: &MySqlRow| (0..row.len()).map(|at| row.try_get_unchecked(at)).collect();
        rows.iter().map(row).collect()
    }

    async fn of_table(&mut self, sql: &str, relation: &Relation) -> Result<Vec<Row>, Failure> {
        self.rows(sql, &[&relation.schema, &relation.name]).await
    }
}

fn text(row: &Row, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

/// Examines a database.
///
/// # Errors
/// If it cannot be reached or read.
pub(super) async fn examine(url: &str, guards: &Guards, clock: &Clock) -> Result<Examined, Failure> {
    let (connection, label) = connect_mysql_plainly(url).await?;
    let mut session = Session { connection, label };
    let mut findings = Vec::new();
    let server = server::read(&mut session).await?;
    server.settings(&mut findings);
    server::clock(&mut session, clock, &mut findings).await?;
    let relations: Vec<Relation> = session
        .rows(include_str!("mysql/relations.sql"), &[])
        .await?
        .iter()
        .map(Relation::read)
        .collect();
    for (name, guard) in guards {
        let key = guard.natural_key.columns();
        guarded(&mut session, name, key, &relations, &server, &mut findings).await?;
    }
    let ours: Vec<&Relation> = relations
        .iter()
        .filter(|relation| relation.schema == server.database && relation.name.starts_with("hapax_"))
        .collect();
    findings.extend(ours.iter().filter_map(|relation| relation.not_transactional()));
    let named: Vec<String> = ours.iter().map(|relation| relation.shown()).collect();
    let mut notes = ours::notes(&named);
    notes.extend(server.replication(&mut session, &named, &mut findings).await);
    Ok(Examined {
        dialect: Dialect::Mysql,
        label: session.label,
        version: server.version,
        findings,
        notes,
    })
}

/// A table or view.
struct Relation {
    schema: String,
    name: String,
    kind: String,
    engine: String,
    has_transactions: bool,
}

impl Relation {
    fn read(row: &Row) -> Self {
        Self {
            schema: text(row, 0).to_owned(),
            name: text(row, 1).to_owned(),
            kind: text(row, 2).to_owned(),
            engine: text(row, 3).to_owned(),
            has_transactions: text(row, 4) == "YES",
        }
    }

    fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn is_table(&self) -> bool {
        matches!(&*self.kind, "BASE TABLE" | "SYSTEM VERSIONED")
    }

    fn not_transactional(&self) -> Option<Finding> {
        if !self.is_table() || self.has_transactions {
            return None;
        }
        let engine = &self.engine;
        let quoted = |name: &str| Dialect::Mysql.quoted(name);
        Some(
            Finding::danger(
                "not-transactional",
                self.shown(),
                format!("its engine, {engine}, has no transactions"),
            )
            .why(
                "what was written stays when the transaction rolls back, and a crash can keep one half of what belongs \
                 together: an effect without its receipt, or a receipt without its effect",
            )
            .sql(format!(
                "ALTER TABLE {}.{} ENGINE = InnoDB;",
                quoted(&self.schema),
                quoted(&self.name)
            )),
        )
    }
}

async fn guarded(
    session: &mut Session,
    name: &TableName,
    key: &[String],
    relations: &[Relation],
    server: &Server,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let same = |a: &str, b: &str| a == b || (server.folds_names && a.eq_ignore_ascii_case(b));
    let schema = name.schema.as_deref().unwrap_or(&server.database);
    let found = relations
        .iter()
        .find(|relation| same(schema, &relation.schema) && same(&name.table, &relation.name));
    let Some(relation) = found else {
        let known = relations
            .iter()
            .map(|relation| (relation.schema.as_str(), relation.name.as_str()));
        findings.push(names::missing_table(name, known, &server.database));
        return Ok(());
    };
    if !relation.is_table() {
        let kind = format!("a {}", relation.kind.to_lowercase());
        findings.push(names::not_a_table(&relation.shown(), &kind));
        return Ok(());
    }
    findings.extend(relation.not_transactional());
    let table = read_table(session, relation, server).await?;
    let (key, missing) = names::columns(&table, key, |name| name.to_lowercase());
    findings.extend(missing);
    if let Some(key) = key {
        findings.extend(keys::judge(&table, &key));
    }
    Ok(())
}

async fn read_table(session: &mut Session, relation: &Relation, server: &Server) -> Result<Table, Failure> {
    let rows = session.of_table(include_str!("mysql/columns.sql"), relation).await?;
    let names: Vec<String> = rows.iter().map(|row| text(row, 0).to_owned()).collect();
    let mut columns: Vec<Column> = rows.iter().map(|row| column(row, &names)).collect();
    if let Some(sql) = server.checks {
        let checks = session.of_table(sql, relation).await?;
        let never_null = checks.iter().filter_map(|row| keys::nulls_only(text(row, 0))).flatten();
        for name in never_null {
            columns
                .iter_mut()
                .filter(|column| column.name.eq_ignore_ascii_case(&name))
                .for_each(|column| column.not_null = true);
        }
    }
    computed_not_null(&rows, &mut columns);
    let sql = include_str!("mysql/uniques.sql");
    let expression = if server.has_expressions { "expression" } else { "NULL" };
    let uniques = session
        .of_table(&sql.replace("{expression}", expression), relation)
        .await?;
    let partitions = session.of_table(include_str!("mysql/partitions.sql"), relation).await?;
    let partitioned = partitions.iter().flatten().flatten().cloned().collect::<Vec<_>>();
    Ok(Table {
        dialect: Dialect::Mysql,
        schema: Some(relation.schema.clone()),
        name: relation.name.clone(),
        uniques: collect(&uniques, &rows, &names),
        columns,
        partitioned_by: mentioned(&partitioned.join(", "), &names),
        has_heirs: false,
        can_equate_nulls: false,
        can_pad_none: server.is_mariadb,
    })
}

fn column(row: &Row, names: &[String]) -> Column {
    let (default, extra, expression) = (text(row, 3), text(row, 4).to_lowercase(), text(row, 7));
    let (kind, data_type) = (text(row, 1), text(row, 8));
    let kind = match (text(row, 5), text(row, 6)) {
        ("", _) => kind.to_owned(),
        (set, collation) => format!("{kind} CHARACTER SET {set} COLLATE {collation}"),
    };
    let imprecise = matches!(data_type, "float" | "double")
        .then(|| format!("the key has a floating point number ({})", text(row, 1)));
    Column {
        name: text(row, 0).to_owned(),
        not_null: text(row, 2) == "NO",
        made: made(default, &extra),
        imprecise,
        computed_from: match expression {
            "" => Vec::new(),
            expression => mentioned(expression, names),
        },
        kind,
    }
}

/// MariaDB does not say so of what is computed from columns that are not null.
fn computed_not_null(rows: &[Row], columns: &mut [Column]) {
    const MAKE_NULL: [&str; 7] = ["/", "%", " div ", " mod ", "date", "inet", "cast"];
    let nullable: Vec<String> = columns
        .iter()
        .filter(|column| !column.not_null)
        .map(|column| column.name.clone())
        .collect();
    for (row, column) in rows.iter().zip(columns) {
        // Not the CASE that may have no case.
        let expression = text(row, 7)
            .to_lowercase()
            .replace("lcase(", "(")
            .replace("ucase(", "(");
        let may_be_null = keys::may_make_null(&expression) || MAKE_NULL.iter().any(|part| expression.contains(part));
        let from = &column.computed_from;
        column.not_null |= !from.is_empty() && !may_be_null && !from.iter().any(|name| nullable.contains(name));
    }
}

/// Whether a default is another for each row.
fn made(default: &str, extra: &str) -> Option<String> {
    if extra.contains("auto_increment") {
        return Some("AUTO_INCREMENT".to_owned());
    }
    let lower = default.to_lowercase();
    // MySQL marks expressions, MariaDB quotes everything else.
    let is_literal = lower.starts_with('\'');
    let is_new = ["uuid", "current_timestamp", "now(", "rand(", "nextval("];
    let is_made = !is_literal && is_new.iter().any(|part| lower.contains(part));
    is_made.then(|| format!("DEFAULT {default}"))
}

/// The columns in an expression, which has their names in backquotes or as they are.
fn mentioned(expression: &str, columns: &[String]) -> Vec<String> {
    let lower = expression.to_lowercase();
    let is_in = |name: &str| {
        let name = name.to_lowercase();
        let bare = |c: char| !(c.is_alphanumeric() || c == '_' || c == '$');
        lower.contains(&Dialect::Mysql.quoted(&name)) || lower.split(bare).any(|word| word == name)
    };
    columns.iter().filter(|name| is_in(name)).cloned().collect()
}

fn collect(rows: &[Row], columns: &[Row], names: &[String]) -> Vec<Unique> {
    let mut uniques: Vec<Unique> = Vec::new();
    for row in rows {
        let name = text(row, 0);
        if uniques.last().is_none_or(|unique| unique.name != name) {
            uniques.push(Unique {
                name: name.to_owned(),
                is_constraint: true,
                parts: Vec::new(),
                predicate: None,
                invalid: None,
                nulls_differ: true,
                is_deferrable: false,
                on_conflict: None,
            });
        }
        if let Some(unique) = uniques.last_mut() {
            unique.parts.push(part(row, columns, names));
        }
    }
    uniques
}

fn part(row: &Row, columns: &[Row], names: &[String]) -> Part {
    let Some(name) = row.get(1).cloned().flatten() else {
        // As the catalog writes it, quotes are escaped.
        let expression = text(row, 3).replace("\\'", "'");
        return Part::Expression {
            columns: mentioned(&expression, names),
            text: expression,
        };
    };
    let column = columns.iter().find(|column| text(column, 0) == name);
    Part::Column {
        coarse: column.and_then(|column| coarse(text(column, 6))),
        prefix: text(row, 2).parse().ok(),
        name,
    }
}

/// What a collation takes for the same though it differs.
fn coarse(collation: &str) -> Option<String> {
    let ignores = if collation.ends_with("_ci") || collation.contains("_ci_") {
        "capitals"
    } else if matches!(collation, "" | "binary") || collation.contains("nopad") || collation.contains("0900") {
        return None;
    } else {
        "trailing blanks"
    };
    Some(format!("its collation {collation} ignores {ignores}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_new_for_each_row_or_the_same() {
        for (default, extra, expected) in [
            ("", "auto_increment", Some("AUTO_INCREMENT")),
            ("uuid()", "", Some("DEFAULT uuid()")),
            ("uuid()", "default_generated", Some("DEFAULT uuid()")),
            ("current_timestamp()", "", Some("DEFAULT current_timestamp()")),
            ("'uuid()'", "", None),
            ("0", "", None),
            ("", "", None),
        ] {
            assert_eq!(made(default, extra).as_deref(), expected, "{default:?} {extra:?}");
        }
    }

    #[test]
    fn a_collation_tells_what_it_ignores() {
        for (collation, ignores) in [
            ("utf8mb4_general_ci", Some("capitals")),
            ("utf8mb4_uca1400_ai_ci", Some("capitals")),
            ("utf8mb4_0900_ai_ci", Some("capitals")),
            ("utf8mb4_bin", Some("trailing blanks")),
            ("latin1_general_cs", Some("trailing blanks")),
            ("utf8mb4_nopad_bin", None),
            ("utf8mb4_0900_bin", None),
            ("utf8mb4_0900_as_cs", None),
            ("binary", None),
            ("", None),
        ] {
            let told = coarse(collation);
            assert_eq!(told.is_some(), ignores.is_some(), "{collation}");
            assert!(told.is_none_or(|told| told.ends_with(ignores.unwrap())), "{collation}");
        }
    }

    #[test]
    fn columns_are_found_in_expressions() {
        let columns = ["Customer", "no", "a b"].map(str::to_owned);
        for (expression, found) in [
            ("lower(`customer`)", &["Customer"][..]),
            ("concat(`a b`,`no`)", &["no", "a b"]),
            ("customer,number", &["Customer"]),
            ("notes", &[]),
        ] {
            assert_eq!(mentioned(expression, &columns), found, "{expression}");
        }
    }
}
