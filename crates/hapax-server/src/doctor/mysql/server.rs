//! The server's settings, its clock, and what it repeats.

use std::collections::BTreeMap;

use hapax::store::Clock;

use super::{Session, text};
use crate::doctor::clocks::{self, Reading};
use crate::doctor::finding::Finding;
use crate::doctor::ours;
use crate::exit::{Exit, Failure};

/// What is known of the server.
pub(super) struct Server {
    pub(super) version: String,
    pub(super) database: String,
    pub(super) is_mariadb: bool,
    /// Names of tables are the same in capitals.
    pub(super) folds_names: bool,
    /// Its catalog tells expressions of indexes.
    pub(super) has_expressions: bool,
    /// How to ask it for CHECKs, which old ones parse and forget.
    pub(super) checks: Option<&'static str>,
    /// Settings of this session, which are those of any that sets nothing itself.
    variables: BTreeMap<String, String>,
}

const VARIABLES: &str = "SHOW VARIABLES WHERE Variable_name IN ('innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog', \
                         'innodb_doublewrite', 'transaction_isolation', 'tx_isolation', 'innodb_rollback_on_timeout', \
                         'sql_mode', 'unique_checks', 'read_only', 'super_read_only', 'innodb_read_only', \
                         'transaction_read_only', 'tx_read_only', 'lower_case_table_names')";

pub(super) async fn read(session: &mut Session) -> Result<Server, Failure> {
    let sql = "SELECT VERSION(), CAST(DATABASE() AS CHAR), (SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.columns \
               WHERE table_schema = 'information_schema' AND table_name = 'STATISTICS' AND column_name = 'EXPRESSION'), \
               (SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.tables \
               WHERE table_schema = 'information_schema' AND table_name = 'CHECK_CONSTRAINTS')";
    let rows = session.rows(sql, &[]).await?;
    let row = rows
        .first()
        .ok_or_else(|| Failure::new(Exit::Internal, "the server said nothing of itself"))?;
    let variables: BTreeMap<String, String> = session
        .rows(VARIABLES, &[])
        .await?
        .iter()
        .map(|row| (text(row, 0).to_lowercase(), text(row, 1).to_owned()))
        .collect();
    let version = text(row, 0).to_owned();
    let is_mariadb = version.contains("MariaDB");
    Ok(Server {
        database: text(row, 1).to_owned(),
        is_mariadb,
        folds_names: variables
            .get("lower_case_table_names")
            .is_some_and(|value| value != "0"),
        has_expressions: text(row, 2) != "0",
        checks: match (text(row, 3), is_mariadb) {
            ("0", _) => None,
            (_, true) => Some(include_str!("checks_mariadb.sql")),
            (_, false) => Some(include_str!("checks_mysql.sql")),
        },
        variables,
        version,
    })
}

const LOSES: &str = "a crash or loss of power takes back commits that were acknowledged: what was done once is done \
                     again, or what was answered never happened";
const KEEP: &str = "write it into the server's configuration file too, or its next start takes it back";

impl Server {
    fn is(&self, name: &str, values: &[&str]) -> bool {
        let value = self.variables.get(name);
        value.is_some_and(|value| values.iter().any(|one| one.eq_ignore_ascii_case(value)))
    }

    fn is_on(&self, name: &str) -> bool {
        self.variables.contains_key(name) && !self.is(name, &["OFF", "0"])
    }

    /// The name that this server has for a setting of transactions.
    fn of_transactions(&self, new: &'static str, old: &'static str) -> &'static str {
        if self.variables.contains_key(new) { new } else { old }
    }

    pub(super) fn settings(&self, findings: &mut Vec<Finding>) {
        findings.extend(self.durability());
        findings.extend(self.isolation());
        if self.is("innodb_rollback_on_timeout", &["OFF", "0"]) {
            findings.push(
                Finding::caution(
                    "lock-timeout",
                    "innodb_rollback_on_timeout",
                    "a wait for a lock that times out (error 1205) rolls back its statement only",
                )
                .why("code that goes on and commits keeps the first half of its transaction: a receipt without its effect")
                .advise(
                    "start the server with innodb_rollback_on_timeout = ON, or roll back in your code whenever a statement \
                     fails, and allow this finding",
                ),
            );
        }
        let mode = self.variables.get("sql_mode").map_or("", String::as_str);
        if !mode.contains("STRICT_TRANS_TABLES") && !mode.contains("STRICT_ALL_TABLES") {
            findings.push(
                Finding::danger(
                    "sql-mode",
                    "sql_mode",
                    "sql_mode is not strict: a value that is too long is cut off",
                )
                .why("two keys that differ in what is cut off become one, and a null becomes an empty value")
                .sql("SET GLOBAL sql_mode = CONCAT_WS(',', NULLIF(@@GLOBAL.sql_mode, ''), 'STRICT_TRANS_TABLES');")
                .advise(KEEP),
            );
        }
        if self.is("unique_checks", &["OFF", "0"]) {
            let what = "unique_checks is off: InnoDB need not look for the same key in secondary indexes";
            findings.push(
                Finding::danger("key-unprotected", "unique_checks", what)
                    .why("a unique index can get the same key twice")
                    .sql("SET GLOBAL unique_checks = ON;")
                    .advise(KEEP),
            );
        }
    }

    fn durability(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let value = |name: &str| self.variables.get(name).cloned().unwrap_or_default();
        let log = "innodb_flush_log_at_trx_commit";
        // 3 is MariaDB's and flushes even more.
        if !self.is(log, &["1", "3"]) {
            findings.push(
                Finding::danger("commit-not-durable", log, format!("{log} is {}", value(log)))
                    .why(LOSES)
                    .sql(format!("SET GLOBAL {log} = 1;"))
                    .advise(KEEP),
            );
        }
        if self.is_on("log_bin") && !self.is("sync_binlog", &["1"]) {
            let what = format!("there is a binary log, and sync_binlog is {}", value("sync_binlog"));
            findings.push(
                Finding::danger("commit-not-durable", "sync_binlog", what)
                    .why(
                        "recovery goes by the binary log: a commit that a loss of power leaves out of it is taken back, or \
                         missing on all replicas, one of which may be the primary next",
                    )
                    .sql("SET GLOBAL sync_binlog = 1;")
                    .advise(KEEP),
            );
        }
        if self.is("innodb_doublewrite", &["OFF", "0", "DETECT_ONLY"]) {
            let what = format!("innodb_doublewrite is {}", value("innodb_doublewrite"));
            findings.push(
                Finding::danger("crash-unsafe", "innodb_doublewrite", what)
                    .why("a crash of the machine can leave half-written pages, unique indexes included")
                    .advise("start the server with innodb_doublewrite = ON"),
            );
        }
        findings
    }

    fn isolation(&self) -> Option<Finding> {
        let name = self.of_transactions("transaction_isolation", "tx_isolation");
        let level = self.variables.get(name)?.to_uppercase();
        let why = match &*level {
            "READ-COMMITTED" => return None,
            "REPEATABLE-READ" => {
                "a plain SELECT shows what was there when the transaction first read: who looks again after a conflict does \
                 not see the row that caused it, though UPDATE and INSERT do"
            }
            "READ-UNCOMMITTED" => {
                "a SELECT shows what others have not committed and may take back: an effect may be left out because of one \
                 that never happened"
            }
            _ => {
                "plain SELECTs take locks: the loser of a race gets a deadlock (1213) and must repeat its whole transaction"
            }
        };
        let what = format!("transactions are {} by default", level.replace('-', " ").to_lowercase());
        let finding = if level == "READ-UNCOMMITTED" {
            Finding::danger("isolation", name, what)
        } else {
            Finding::caution("isolation", name, what)
        };
        Some(
            finding
                .why(why)
                .sql(format!("SET GLOBAL {name} = 'READ-COMMITTED';"))
                .advise(KEEP)
                .advise("or keep it, and look with SELECT … FOR UPDATE before you decide"),
        )
    }

    /// Whether it takes writes, and whether it repeats another server's; says what it could not see.
    pub(super) async fn replication(
        &self,
        session: &mut Session,
        tables: &[String],
        findings: &mut Vec<Finding>,
    ) -> Option<String> {
        let place = format!("database {}", self.database);
        let read_only: Vec<&str> = ["read_only", "super_read_only", "innodb_read_only"]
            .into_iter()
            .filter(|name| self.is_on(name))
            .collect();
        let (is_replica, seen) = replicates(session).await;
        if is_replica {
            findings.push(ours::replica(&place, tables).advise(
                "connect to the primary; if this one was made the primary, RESET REPLICA ALL makes it forget the old one",
            ));
        } else if !read_only.is_empty() {
            let what = format!("{} is on", read_only.join(", "));
            let finding = ours::read_only(&place, &what).advise("connect to the primary, if this is a replica");
            findings.push(match read_only.contains(&"innodb_read_only") {
                true => finding.advise("or start the server without innodb_read_only"),
                false => finding.sql("SET GLOBAL read_only = OFF;"),
            });
        }
        let transactions = self.of_transactions("transaction_read_only", "tx_read_only");
        if self.is_on(transactions) {
            findings.push(
                ours::read_only(
                    &place,
                    &format!("{transactions} is on: transactions are read-only by default"),
                )
                .sql(format!("SET GLOBAL {transactions} = OFF;")),
            );
        }
        (!seen).then(|| {
            "whether this is a replica cannot be seen by this user: GRANT REPLICATION CLIENT (MariaDB: REPLICA MONITOR) to \
             it, or see that the URL names the primary"
                .to_owned()
        })
    }
}

/// Whether the server repeats another one's writes, and whether that could be seen.
async fn replicates(session: &mut Session) -> (bool, bool) {
    // MariaDB's, MySQL's, and that of both when they were younger.
    for sql in ["SHOW ALL REPLICAS STATUS", "SHOW REPLICA STATUS", "SHOW SLAVE STATUS"] {
        if let Ok(rows) = session.try_rows(sql, &[]).await {
            return (!rows.is_empty(), true);
        }
    }
    (false, false)
}

/// Compares the server's clock with this machine's.
pub(super) async fn clock(session: &mut Session, clock: &Clock, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let mut readings = Vec::new();
    for _ in 0..clocks::READINGS {
        let (before, started) = clock.reading();
        let sql = "SELECT CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 AS CHAR)";
        let rows = session.rows(sql, &[]).await?;
        let (_, ended) = clock.reading();
        if let Some(there) = rows.first().and_then(|row| text(row, 0).parse().ok()) {
            readings.push(Reading {
                before,
                round_trip: ended - started,
                there,
            });
        }
    }
    findings.extend(clocks::compare(&readings));
    Ok(())
}
