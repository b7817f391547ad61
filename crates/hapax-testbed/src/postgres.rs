//! A PostgreSQL server for tests.
//!
//! It trusts every local connection; it holds nothing but test data.

mod cluster;
mod shared;
mod sql;

pub use shared::SharedPostgres;
pub use sql::Database;

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::or_panic;
use crate::guard::{Guard, Owner, Signal};
use crate::programs::run;
use crate::{Error, FreePort, Result};
use cluster::Cluster;

const STOP_LIMIT: Duration = Duration::from_secs(30);
const START_TRIES: u32 = 5;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Whether commits reach the disk (default: yes, as in production). A test
    /// of speed or durability wants it; a test of logic may save the time.
    pub fsync: bool,
    /// Further settings by name, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            settings: Vec::new(),
        }
    }
}

impl PostgresOptions {
    /// Turns flushing to the disk on or off.
    #[must_use]
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    /// Sets one of the server's settings, such as `max_connections`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts a server with these options. Panics when that fails.
    #[track_caller]
    pub fn start(&self) -> Postgres {
        or_panic(self.try_start())
    }

    /// Starts a server with these options.
    pub fn try_start(&self) -> Result<Postgres> {
        Postgres::launch(self)
    }
}

/// A server of the caller's own. Dropped (or its process killed), it is
/// stopped and its directory removed.
#[derive(Debug)]
pub struct Postgres {
    guard: Option<Guard>,
    cluster: Cluster,
    port: FreePort,
    _directory: TempDir,
}

impl Postgres {
    /// Starts a server with the default options: flushing on, user `postgres`,
    /// no password. Panics, saying what to install, when that fails.
    #[track_caller]
    pub fn start() -> Self {
        or_panic(PostgresOptions::default().try_start())
    }

    /// The options, to start a server otherwise than by default.
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// The server that the tests of one run share: see [`SharedPostgres`].
    /// Panics, saying what to install, when it cannot be started.
    #[track_caller]
    pub fn shared() -> &'static SharedPostgres {
        or_panic(Self::try_shared())
    }

    /// The server that the tests of one run share.
    pub fn try_shared() -> Result<&'static SharedPostgres> {
        SharedPostgres::get()
    }

    /// Whether all programs that [`Postgres::start`] needs are installed; the
    /// error says which is missing and how to get it.
    pub fn check_installed() -> Result<()> {
        cluster::Binaries::find().map(|_| ())
    }

    fn launch(options: &PostgresOptions) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("hapax-postgres-")
            .tempdir()
            .map_err(|source| Error::io("make a directory for PostgreSQL", source))?;
        let cluster = Cluster::create(directory.path(), options)?;
        let (port, guard) = Self::first_start(&cluster)?;
        Ok(Self {
            guard: Some(guard),
            cluster,
            port,
            _directory: directory,
        })
    }

    fn first_start(cluster: &Cluster) -> Result<(FreePort, Guard)> {
        let mut tries = 0;
        loop {
            let port = FreePort::try_take()?;
            match cluster.start(port.number(), &Owner::This, cluster.directory()) {
                Ok(guard) => return Ok((port, guard)),
                Err(Error::Failed { output, .. })
                    if output.contains("Address already in use") && tries < START_TRIES =>
                {
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The port on 127.0.0.1; it stays the same through restarts.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The URL of the database `postgres`.
    pub fn url(&self) -> String {
        sql::url(self.port())
    }

    /// Creates a database and gives its URL. Panics when that fails.
    #[track_caller]
    pub fn create_database(&self, name: &str) -> String {
        or_panic(sql::create(&self.url(), name))
    }

    /// Runs SQL in the database `postgres` and gives the rows, one a line,
    /// columns separated by `|`. Panics when that fails.
    #[track_caller]
    pub fn query(&self, statements: &str) -> String {
        or_panic(sql::query(&self.url(), statements))
    }

    /// Ends all sessions and stops the server in good order, so that the next
    /// start need not recover. Does nothing when it is down already.
    #[track_caller]
    pub fn stop(&mut self) {
        self.end(|guard| guard.signal(Signal::Interrupt));
    }

    /// Kills the server and all its sessions with SIGKILL, as a crash of the
    /// machine would (but for the operating system's cache, which survives).
    #[track_caller]
    pub fn kill(&mut self) {
        self.end(|guard| guard.signal_tree(Signal::Kill));
    }

    #[track_caller]
    fn end(&mut self, ask: impl FnOnce(&mut Guard)) {
        if let Some(mut guard) = self.guard.take() {
            ask(&mut guard);
            or_panic(guard.wait(STOP_LIMIT));
        }
    }

    /// Starts the server again on the same port and data, stopping it first
    /// if it is up. Returns when it accepts connections.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        let started = self.cluster.start(self.port(), &Owner::This, self.cluster.directory());
        self.guard = Some(or_panic(started));
    }

    /// Freezes the server and all its sessions: connections stay open and
    /// nothing answers.
    pub fn pause(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.signal_tree(Signal::Stop);
        }
    }

    /// Goes on after [`Postgres::pause`].
    pub fn resume(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.signal_tree(Signal::Continue);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.take());
        // A killed server leaves its segment of shared memory behind.
        if let Some(segment) = self.cluster.left_segment() {
            let _ = run(Command::new("ipcrm").args(["-m", &segment]));
        }
    }
}
