//! Databases, and SQL through `psql`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;
use crate::error::or_panic;
use crate::programs::{self, run};

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database of one test's own, dropped with this value.
#[derive(Debug)]
pub struct Database {
    server_url: String,
    name: String,
    url: String,
}

impl Database {
    /// Creates a database with a name that no other test has.
    pub(super) fn create(server_url: &str) -> Result<Self> {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        // A named server may hold what a killed run left under this process's id.
        let run = RandomState::new().build_hasher().finish();
        let name = format!("test_{}_{number}_{run:016x}", std::process::id());
        let url = create(server_url, &name)?;
        Ok(Self {
            server_url: server_url.to_owned(),
            name,
            url,
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
    /// `|`. Panics when that fails.
    #[track_caller]
    pub fn query(&self, statements: &str) -> String {
        or_panic(query(&self.url, statements))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = quoted(&self.name);
        // The server may be gone with all that it held; nothing is left to do then.
        let _ = query(
            &self.server_url,
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        );
    }
}

/// The URL of a test server's database `postgres`.
pub(super) fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

/// Creates a database; gives its URL.
pub(super) fn create(server_url: &str, name: &str) -> Result<String> {
    query(server_url, &format!("CREATE DATABASE {}", quoted(name)))?;
    Ok(with_database(server_url, name))
}

/// Runs SQL; rows come one a line.
pub(super) fn query(url: &str, statements: &str) -> Result<String> {
    let mut psql = Command::new(programs::postgres("psql")?);
    psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password"]);
    psql.args(["--set=ON_ERROR_STOP=1", "--dbname", url, "--command", statements]);
    psql.env("PGCONNECT_TIMEOUT", "10")
        .env_remove("PGOPTIONS")
        .env_remove("PGSERVICE");
    run(&mut psql)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `url` with another database; its parameters stay.
fn with_database(url: &str, name: &str) -> String {
    let (address, parameters) = match url.split_once('?') {
        Some((address, parameters)) => (address, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let authority_at = address.find("://").map_or(0, |at| at + 3);
    let authority_end = address[authority_at..]
        .find('/')
        .map_or(address.len(), |at| authority_at + at);
    format!("{}/{name}{parameters}", &address[..authority_end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_keeps_the_rest_of_the_url() {
        for (url, expected) in [
            ("postgres://u@h:1/postgres", "postgres://u@h:1/x"),
            ("postgres://u@h:1", "postgres://u@h:1/x"),
            (
                "postgresql://u:p@h/a?sslmode=require",
                "postgresql://u:p@h/x?sslmode=require",
            ),
            ("postgres://h?host=/run", "postgres://h/x?host=/run"),
        ] {
            assert_eq!(with_database(url, "x"), expected);
        }
    }
}
