//! One connection that comes back: opens when first needed, checks the server, prepares statements as they are used,
//! gives up on what does not answer, and reconnects with a growing pause.
//!
//! It never repeats a statement by itself: after a lost connection nobody knows whether it was carried out, and only
//! the caller can repeat it safely.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::StoreErrorKind;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::failure::Failure;
use super::options::Target;
use super::statements::{SERVER, Sql};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const OLDEST_VERSION: i32 = 130_000;

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

pub(super) struct Link {
    target: Arc<Target>,
    live: Option<Live>,
    last_failure: Option<(Failure, Instant, Duration)>,
}

/// An open connection.
pub(super) struct Live {
    pub(super) client: Client,
    statements: HashMap<&'static str, Statement>,
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // A server that went silent would keep the driver waiting for ever.
        self.driver.abort();
    }
}

impl Link {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            live: None,
            last_failure: None,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Runs a statement; `doing` says what for.
    pub(super) async fn run(&mut self, sql: &'static Sql, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let target = Arc::clone(&self.target);
        let doing = format!("cannot run {}.sql", sql.name);
        let live = self.live().await?;
        // The server's own time-out comes first where it can answer at all.
        let patience = target.statement_timeout + Duration::from_secs(1);
        let failure = match timeout(patience, live.query(sql, params, target.prepare)).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => Failure::of(&error, &doing, &target.label),
            Err(_) => Failure::timed_out(&doing, &target.label, patience),
        };
        if !failure.answered {
            self.live = None;
        }
        Err(failure)
    }

    /// The open connection, or a new one. While the database is away, most calls fail at once.
    pub(super) async fn live(&mut self) -> Result<&mut Live, Failure> {
        let closed = self.live.as_ref().is_none_or(|live| live.client.is_closed());
        if closed {
            self.live = None;
            if let Some((failure, until, _)) = &self.last_failure
                && Instant::now() < *until
            {
                return Err(failure.clone());
            }
            match open(&self.target).await {
                Ok(live) => self.live = Some(live),
                Err(failure) => {
                    let pause = match &self.last_failure {
                        Some((.., pause)) => (*pause * 2).min(LONGEST_PAUSE),
                        None => FIRST_PAUSE,
                    };
                    self.last_failure = Some((failure.clone(), Instant::now() + pause, pause));
                    return Err(failure);
                }
            }
            self.last_failure = None;
        }
        self.live
            .as_mut()
            .ok_or_else(|| Failure::new(StoreErrorKind::Unavailable, "the connection closed"))
    }
}

impl Live {
    async fn query(
        &mut self,
        sql: &'static Sql,
        params: &[Param<'_>],
        prepare: bool,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if !prepare {
            let typed: Vec<(Param<'_>, Type)> = params.iter().copied().zip(sql.types.iter().cloned()).collect();
            return self.client.query_typed(sql.text, &typed).await;
        }
        let statement = match self.statements.get(sql.name) {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.client.prepare_typed(sql.text, sql.types).await?;
                self.statements.insert(sql.name, statement.clone());
                statement
            }
        };
        self.client.query(&statement, params).await
    }
}

async fn open(target: &Target) -> Result<Live, Failure> {
    let opened = timeout(target.statement_timeout, async {
        let live = connect(target).await?;
        let rows = live.client.query_typed(SERVER.text, &[]).await;
        let rows = rows.map_err(|error| Failure::of(&error, "cannot look at the server", &target.label))?;
        match rows.first() {
            Some(row) => check_server(row, target)?,
            None => return Err(Failure::corrupt("no server settings", &target.label)),
        }
        Ok(live)
    });
    let timed_out = |_| Failure::timed_out("cannot connect", &target.label, target.statement_timeout);
    opened.await.map_err(timed_out)?
}

async fn connect(target: &Target) -> Result<Live, Failure> {
    let failed = |error: tokio_postgres::Error| explain_connect(&error, target);
    let (client, driver) = match &target.tls {
        Some(tls) => {
            let (client, connection) = target.config.connect(tls.clone()).await.map_err(failed)?;
            (client, tokio::spawn(drive(connection)))
        }
        None => {
            let (client, connection) = target.config.connect(NoTls).await.map_err(failed)?;
            (client, tokio::spawn(drive(connection)))
        }
    };
    Ok(Live {
        client,
        statements: HashMap::new(),
        driver,
    })
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    // Its error also reaches whoever waits for an answer.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a database connection ended");
    }
}

pub(super) fn explain_connect(error: &tokio_postgres::Error, target: &Target) -> Failure {
    let mut failure = Failure::of(error, "cannot connect", &target.label);
    if error.as_db_error().is_none() && error.to_string().contains("TLS") {
        failure.kind = StoreErrorKind::Invalid;
        failure.message.push_str(
            ": a database on another machine is only spoken to over verified TLS: turn on ssl in its configuration, \
             name its CA with sslrootcert=FILE in the URL, or write sslmode=disable there to go without",
        );
    }
    if failure.message.contains("password missing") {
        failure.kind = StoreErrorKind::Invalid;
        failure
            .message
            .push_str(": write it in the URL, postgres://user:password@host/database");
    }
    failure
}

/// Refuses a server that cannot keep the promise.
fn check_server(row: &Row, target: &Target) -> Result<(), Failure> {
    let label = &target.label;
    let version: i32 = row.get("version");
    if version < OLDEST_VERSION {
        let message = format!(
            "{label} is version {}: hapax needs PostgreSQL 13 or newer",
            version / 10_000
        );
        return Err(Failure::new(StoreErrorKind::Invalid, message));
    }
    if row.get("in_recovery") || row.get::<_, &str>("read_only") == "on" {
        let message = format!(
            "{label} is a replica or read-only: connect to the primary (with several hosts in the URL, add \
             target_session_attrs=read-write)"
        );
        return Err(Failure::new(StoreErrorKind::Full, message));
    }
    for (setting, advice) in [
        ("fsync", "set fsync = on in postgresql.conf"),
        (
            "synchronous_commit",
            "run ALTER ROLE <user> SET synchronous_commit = on",
        ),
    ] {
        if row.get::<_, &str>(setting) != "off" {
            continue;
        }
        let message =
            format!("{label} has {setting} = off: a crash would lose acknowledged claims and run them twice: {advice}");
        if target.require_durable {
            return Err(Failure::new(StoreErrorKind::Invalid, message));
        }
        tracing::warn!("{message}");
    }
    Ok(())
}
