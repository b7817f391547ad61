//! Databases, and SQL through the client program.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;

use crate::error::or_panic;
use crate::programs::{self, run};
use crate::{Error, Result};

/// A database of one test's own, dropped with this value.
#[derive(Debug)]
pub struct MariaDatabase {
    server_url: String,
    name: String,
    url: String,
}

impl MariaDatabase {
    /// Creates a database with a name that no other test has.
    pub(super) fn create(server_url: &str) -> Result<Self> {
        let name = format!("test_{:016x}", RandomState::new().build_hasher().finish());
        Ok(Self {
            url: create(server_url, &name)?,
            server_url: server_url.to_owned(),
            name,
        })
    }

    /// The database's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL in it and gives the rows, one a line, columns separated by
    /// tabs. Panics when that fails.
    #[track_caller]
    pub fn query(&self, statements: &str) -> String {
        or_panic(query(&self.url, statements))
    }
}

impl Drop for MariaDatabase {
    fn drop(&mut self) {
        // The server may be gone with all that it held; nothing is left to do then.
        let _ = query(&self.server_url, &format!("DROP DATABASE IF EXISTS `{}`", self.name));
    }
}

pub(super) fn url(port: u16, database: &str) -> String {
    format!("mysql://root@127.0.0.1:{port}/{database}")
}

/// Creates a database; gives its URL.
pub(super) fn create(server_url: &str, name: &str) -> Result<String> {
    query(server_url, &format!("CREATE DATABASE `{name}`"))?;
    Ok(url(port(server_url)?, name))
}

/// Runs SQL; rows come one a line.
pub(super) fn query(url: &str, statements: &str) -> Result<String> {
    let database = url.rsplit_once('/').map_or("mysql", |(_, name)| name);
    let mut client = Command::new(programs::mariadb("mariadb")?);
    client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root"]);
    client.args(["--batch", "--skip-column-names", "--connect-timeout=10"]);
    client.args([&format!("--port={}", port(url)?), "--database", database]);
    run(client.args(["--execute", statements]))
}

fn port(url: &str) -> Result<u16> {
    let after_host = url.rsplit_once('/').and_then(|(front, _)| front.rsplit_once(':'));
    after_host
        .and_then(|(_, port)| port.parse().ok())
        .ok_or_else(|| Error::Failed {
            what: format!("reading the URL {url}"),
            status: "it names no port".to_owned(),
            output: "write mysql://root@127.0.0.1:PORT/DATABASE".to_owned(),
        })
}
