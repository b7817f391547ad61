//! The server's settings, and its clock.

use hapax::store::Clock;

use super::Session;
use crate::doctor::clocks::{self, Reading};
use crate::doctor::finding::Finding;
use crate::doctor::shape::Dialect;
use crate::exit::{Exit, Failure};

/// What is known of the server.
pub(super) struct Server {
    pub(super) version: String,
    pub(super) version_num: i32,
    pub(super) database: String,
    pub(super) in_recovery: bool,
    pub(super) is_read_only: bool,
    has_standbys: bool,
}

/// A setting of this session, and where it comes from.
struct Setting {
    name: String,
    value: String,
    source: String,
}

impl Setting {
    /// How to make it another one, where it was made.
    fn set(&self, finding: Finding, value: &str) -> Finding {
        let name = &self.name;
        match self.source.as_str() {
            "command line" | "environment variable" => finding.advise(format!(
                "it is given on the server's {}: take it out there (-c {name}=…), and restart the server",
                self.source
            )),
            "client" => finding.advise(format!(
                "take options=… with {name} out of the database URL, or PGOPTIONS"
            )),
            _ => finding
                .sql(format!("ALTER SYSTEM SET {name} = {value};"))
                .sql("SELECT pg_reload_conf();"),
        }
    }

    /// It was made for roles or databases: then the list of those tells.
    fn is_of_role(&self) -> bool {
        self.source.contains("user") || self.source.contains("database")
    }
}

pub(super) async fn read(session: &Session) -> Result<Server, Failure> {
    let rows = session.rows(include_str!("server.sql"), &[]).await?;
    let row = rows
        .first()
        .ok_or_else(|| Failure::new(Exit::Internal, "the server said nothing of itself"))?;
    Ok(Server {
        version: row.get("version"),
        version_num: row.get("version_num"),
        database: row.get("database"),
        in_recovery: row.get("in_recovery"),
        is_read_only: row.get("read_only"),
        has_standbys: !row.get::<_, &str>("standbys").is_empty(),
    })
}

const LOSES: &str = "a crash or loss of power takes back commits that were acknowledged: what was done once is done \
                     again, or what was answered never happened";

pub(super) async fn settings(session: &Session, server: &Server, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for row in session.rows(include_str!("settings.sql"), &[]).await? {
        let setting = Setting {
            name: row.get("name"),
            value: row.get("value"),
            source: row.get("source"),
        };
        if !setting.is_of_role() {
            findings.extend(of_server(&setting, server));
        }
    }
    for row in session.rows(include_str!("roles.sql"), &[]).await? {
        let (role, database) = (row.get("role"), row.get("database"));
        findings.extend(of_role(role, database, row.get("name"), row.get("value")));
    }
    Ok(())
}

fn of_server(setting: &Setting, server: &Server) -> Option<Finding> {
    let name = setting.name.as_str();
    let danger = |code, what: &str| Finding::danger(code, name, what);
    Some(match (name, setting.value.as_str()) {
        ("fsync" | "full_page_writes", "off") => {
            let finding = danger("crash-unsafe", &format!("{name} is off"))
                .why("a crash of the machine can leave the database damaged, unique indexes included");
            setting.set(finding, "on")
        }
        ("data_sync_retry", "on") => {
            let finding = danger("crash-unsafe", "data_sync_retry is on").why(
                "after a failed write the operating system may say that the second try went well though data is lost",
            );
            setting
                .set(finding, "off")
                .advise("restart the server: it is read at its start")
        }
        ("synchronous_commit", "off") => {
            let finding = danger("commit-not-durable", "synchronous_commit is off").why(LOSES);
            setting.set(finding, "on")
        }
        ("synchronous_commit", "local") if server.has_standbys => {
            let what = "there are synchronous standbys, but synchronous_commit is local: commits do not wait for them";
            let finding = Finding::caution("commit-not-durable", name, what)
                .why("a failover takes back commits that were acknowledged");
            setting.set(finding, "on")
        }
        ("default_transaction_isolation", value) => {
            return isolation(value, name, |finding| setting.set(finding, "'read committed'"));
        }
        _ => return None,
    })
}

fn isolation(value: &str, place: &str, mend: impl FnOnce(Finding) -> Finding) -> Option<Finding> {
    // What PostgreSQL calls read uncommitted is read committed.
    if matches!(value, "read committed" | "read uncommitted") {
        return None;
    }
    let what = format!("transactions are {value} by default");
    let finding = Finding::caution("isolation", place, what).why(
        "the loser of a race gets SQLSTATE 40001 instead of an answer, and must repeat its whole transaction; code that \
         does not will fail under load only",
    );
    Some(mend(finding).advise("or keep it, and repeat every transaction that ends with 40001 from its first statement"))
}

fn of_role(role: Option<&str>, database: Option<&str>, name: &str, value: &str) -> Option<Finding> {
    let quoted = |name: &str| Dialect::Postgres.quoted(name);
    let (whose, alter) = match (role, database) {
        (Some(role), Some(database)) => (
            format!("role {role} in database {database}"),
            format!("ALTER ROLE {} IN DATABASE {}", quoted(role), quoted(database)),
        ),
        (Some(role), None) => (format!("role {role}"), format!("ALTER ROLE {}", quoted(role))),
        (None, Some(database)) => (
            format!("database {database}"),
            format!("ALTER DATABASE {}", quoted(database)),
        ),
        (None, None) => ("all roles".to_owned(), "ALTER ROLE ALL".to_owned()),
    };
    let reset = format!("{alter} RESET {name};");
    let place = format!("{name} of {whose}");
    match (name, value) {
        ("synchronous_commit", "off") => Some(
            Finding::danger(
                "commit-not-durable",
                place,
                format!("synchronous_commit is off for {whose}"),
            )
            .why(LOSES)
            .sql(reset),
        ),
        ("default_transaction_isolation", value) => isolation(value, &place, |finding| finding.sql(reset)),
        ("default_transaction_read_only", "on" | "true" | "1" | "yes") => Some(
            Finding::caution(
                "read-only",
                place,
                format!("transactions of {whose} are read-only by default"),
            )
            .why("whatever hapax or your handlers write with it fails")
            .sql(reset),
        ),
        _ => None,
    }
}

/// Compares the server's clock with this machine's.
pub(super) async fn clock(session: &Session, clock: &Clock, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let mut readings = Vec::new();
    for _ in 0..clocks::READINGS {
        let (before, started) = clock.reading();
        let sql = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now";
        let rows = session.rows(sql, &[]).await?;
        let (_, ended) = clock.reading();
        if let Some(row) = rows.first() {
            readings.push(Reading {
                before,
                round_trip: ended - started,
                there: row.get("now"),
            });
        }
    }
    findings.extend(clocks::compare(&readings));
    Ok(())
}
