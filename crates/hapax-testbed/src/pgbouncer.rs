//! PgBouncer in transaction mode in front of a PostgreSQL server: each transaction may get another session.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::or_panic;
use crate::guard::{Guard, Owner, Signal};
use crate::programs::{Account, command_as, in_path};
use crate::{Error, FreePort, Result, make_directory};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A PgBouncer of the caller's own, ended when dropped or when its process dies.
#[derive(Debug)]
pub struct PgBouncer {
    _guard: Guard,
    port: FreePort,
    server_url: String,
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts PgBouncer in front of the server of `server_url` (any of its databases), with at most `sessions` of them
    /// a database. Panics, saying what to install, when that fails.
    #[track_caller]
    pub fn start(server_url: &str, sessions: usize) -> Self {
        or_panic(Self::try_start(server_url, sessions))
    }

    /// Like [`PgBouncer::start`], giving the error.
    pub fn try_start(server_url: &str, sessions: usize) -> Result<Self> {
        let program = Self::find()?;
        let directory = tempfile::Builder::new()
            .prefix("hapax-pgbouncer-")
            .tempdir()
            .map_err(|source| Error::io("make a directory for PgBouncer", source))?;
        make_directory(directory.path())?;
        let port = FreePort::try_take()?;
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, configuration(server_url, port.number(), sessions))
            .map_err(|source| Error::io(format!("write {}", file.display()), source))?;
        // It refuses to run as root, too.
        let mut pgbouncer = command_as(Account::for_postgres()?, &program);
        pgbouncer.arg(&file);
        let log = directory.path().join("server.log");
        let path = Some(directory.path());
        let mut guard = Guard::launch(&pgbouncer, Signal::Kill, &log, path, &Owner::This)?;
        guard.wait_until("the start of PgBouncer", START_LIMIT, || {
            Ok(TcpStream::connect(port.address()).is_ok())
        })?;
        Ok(Self {
            _guard: guard,
            port,
            server_url: server_url.to_owned(),
            _directory: directory,
        })
    }

    /// Whether PgBouncer is installed; the error says how to get it.
    pub fn check_installed() -> Result<()> {
        Self::find().map(|_| ())
    }

    fn find() -> Result<std::path::PathBuf> {
        let debian = std::path::PathBuf::from("/usr/sbin/pgbouncer");
        in_path("pgbouncer")
            .or_else(|| debian.is_file().then_some(debian))
            .ok_or_else(|| Error::Missing {
                program: "PgBouncer".to_owned(),
                searched: "not in PATH, not in /usr/sbin".to_owned(),
                install: "`apt-get install pgbouncer` (or `cargo xtask setup`)".to_owned(),
            })
    }

    /// The URL of a database of the server by way of PgBouncer.
    pub fn url(&self, database: &str) -> String {
        let user = user(&self.server_url);
        format!("postgres://{user}@{}/{database}", self.port.address())
    }
}

fn configuration(server_url: &str, port: u16, sessions: usize) -> String {
    let (user, address) = (user(server_url), address(server_url));
    let (host, server_port) = address.split_once(':').unwrap_or((address, "5432"));
    format!(
        "\
[databases]
* = host={host} port={server_port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
"
    )
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

fn user(url: &str) -> &str {
    let user = authority(url).rsplit_once('@').map_or("postgres", |(user, _)| user);
    user.split(':').next().unwrap_or(user)
}

fn address(url: &str) -> &str {
    authority(url)
        .rsplit_once('@')
        .map_or(authority(url), |(_, address)| address)
}
