//! The testbed with real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod brokers;
mod guard;
mod kafka;
mod mariadb;
mod nats;
mod nginx;
mod pgbouncer;
mod port;
mod postgres;
mod rabbitmq;
mod redis;
mod shared;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Asks until the answer is yes; fails after `limit`.
#[track_caller]
fn eventually(what: &str, limit: Duration, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !happened() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A run of this crate's program that holds a server, and what it printed.
struct Holder {
    process: Child,
    url: String,
}

impl Holder {
    /// `configure` sets the environment.
    fn start(arguments: &[&str], configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax-testbed"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        configure(&mut command);
        let mut process = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        assert!(url.contains("://"), "{arguments:?} printed {url:?}");
        Self {
            process,
            url: url.trim_end().to_owned(),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// One field of one row, by `psql`.
fn query(url: &str, statements: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            url,
            "-c",
            statements,
        ])
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
