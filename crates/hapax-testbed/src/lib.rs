//! Real servers for tests and benchmarks: each in a directory of its own, on a
//! free port of 127.0.0.1, and gone when its owner is gone, even if the owner
//! was killed.
//!
//! ```no_run
//! use hapax_testbed::Postgres;
//!
//! // A server of this test's own, to be stopped, killed and restarted.
//! let mut postgres = Postgres::start();
//! postgres.kill();
//! postgres.restart();
//!
//! // A database of this test's own on the server that all tests share.
//! let database = Postgres::shared().database();
//! println!("{}", database.url());
//! ```
//!
//! What is short to write in a test panics with the whole error; whoever wants
//! the error itself takes the `try_` function beside it.
//!
//! This crate speaks no protocol and starts no runtime: it asks the servers'
//! own tools, so it can be used from synchronous and asynchronous tests alike
//! (it blocks the calling thread).

mod broker;
mod error;
mod guard;
mod leader;
mod mariadb;
mod nginx;
mod packages;
mod pgbouncer;
mod port;
mod postgres;
mod programs;
mod smtp;

pub use broker::{Broker, Kafka, Nats, RabbitMq, Redis, SharedBroker};
pub use error::{Error, Result};
pub use guard::{Guard, Signal};
pub use mariadb::{MariaDatabase, MariaDb, SharedMariaDb};
pub use nginx::Nginx;
pub use packages::{broker_packages, check_node, check_python, node_packages, python_packages};
pub use pgbouncer::PgBouncer;
pub use port::FreePort;
pub use postgres::{Database, Postgres, PostgresOptions, SharedPostgres};
pub use smtp::{MailServer, MailTls};

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The directory in which the processes of one user meet: port locks, shared
/// servers.
fn meeting_place() -> Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("hapax-testbed-{user}"));
    make_directory(&path)?;
    Ok(path)
}

/// Makes a directory that a server running as another user can enter,
/// whatever the umask.
fn make_directory(path: &std::path::Path) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(|source| Error::io(format!("make the directory {}", path.display()), source))
}
