//! A MariaDB server for tests, which stands for MySQL too.
//!
//! Its user `root` has no password; it holds nothing but test data.

mod server;
mod shared;
mod sql;

pub use shared::SharedMariaDb;
pub use sql::MariaDatabase;

use std::time::Duration;

use tempfile::TempDir;

use crate::error::or_panic;
use crate::guard::{Guard, Owner, Signal};
use crate::programs;
use crate::{Error, FreePort, Result};
use server::Server;

const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A server of the caller's own. Dropped (or its process killed), it is ended
/// and its directory removed.
#[derive(Debug)]
pub struct MariaDb {
    guard: Option<Guard>,
    server: Server,
    port: FreePort,
    _directory: TempDir,
}

impl MariaDb {
    /// Starts a server: commits are flushed, user `root`, no password. Panics,
    /// saying what to install, when that fails.
    #[track_caller]
    pub fn start() -> Self {
        or_panic(Self::try_start())
    }

    /// Like [`MariaDb::start`], giving the error.
    pub fn try_start() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("hapax-mariadb-")
            .tempdir()
            .map_err(|source| Error::io("make a directory for MariaDB", source))?;
        let server = Server::create(directory.path())?;
        let port = FreePort::try_take()?;
        let guard = server.start(port.number(), &Owner::This, server.directory())?;
        Ok(Self {
            guard: Some(guard),
            server,
            port,
            _directory: directory,
        })
    }

    /// The server that the tests of one run share: see [`SharedMariaDb`].
    /// Panics, saying what to install, when it cannot be started.
    #[track_caller]
    pub fn shared() -> &'static SharedMariaDb {
        or_panic(SharedMariaDb::get())
    }

    /// Whether all programs that [`MariaDb::start`] needs are installed; the
    /// error says which is missing and how to get it.
    pub fn check_installed() -> Result<()> {
        programs::Account::for_mariadb()?;
        for program in ["mariadbd", "mariadb-install-db", "mariadb"] {
            programs::mariadb(program)?;
        }
        Ok(())
    }

    /// The URL of the database `mysql`.
    pub fn url(&self) -> String {
        sql::url(self.port.number(), "mysql")
    }

    /// The port on 127.0.0.1; it stays the same through restarts.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Creates a database and gives its URL. Panics when that fails.
    #[track_caller]
    pub fn create_database(&self, name: &str) -> String {
        or_panic(sql::create(&self.url(), name))
    }

    /// Runs SQL in the database `mysql` and gives the rows, one a line,
    /// columns separated by tabs. Panics when that fails.
    #[track_caller]
    pub fn query(&self, statements: &str) -> String {
        or_panic(sql::query(&self.url(), statements))
    }

    /// Kills the server with SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.signal(Signal::Kill);
            or_panic(guard.wait(STOP_LIMIT));
        }
    }

    /// Starts the server again on the same port and data, killing it first if
    /// it is up. Returns when it accepts connections.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let started = self
            .server
            .start(self.port.number(), &Owner::This, self.server.directory());
        self.guard = Some(or_panic(started));
    }

    /// Freezes the server: connections stay open and nothing answers.
    pub fn pause(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.signal_tree(Signal::Stop);
        }
    }

    /// Goes on after [`MariaDb::pause`].
    pub fn resume(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.signal_tree(Signal::Continue);
        }
    }
}
