//! A backend in a process of its own: each request is an order and its receipt, in one transaction on PostgreSQL.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use hapax_testbed::{Database, Postgres};
use tokio_postgres::{Client, NoTls};

use super::Attempt;
use crate::support::{Held, HeldBackend, Process, hapax};

const DATABASE: &str = "HAPAX_TEST_BACKEND_DATABASE";

/// The backend's database.
pub(super) struct Shop(Database);

impl Shop {
    pub(super) fn new() -> Self {
        let database = Postgres::shared().database();
        database.query("CREATE TABLE orders (fence bigint); CREATE TABLE attempts (operation text, fence bigint)");
        let installed = hapax(&["receipts", "install", "--database", database.url()]);
        assert_eq!(installed.code, 0, "{installed:?}");
        Self(database)
    }

    pub(super) fn url(&self) -> &str {
        self.0.url()
    }

    fn number(&self, sql: &str) -> u64 {
        self.0.query(sql).trim().parse().unwrap()
    }

    pub(super) fn orders(&self) -> u64 {
        self.number("SELECT count(*) FROM orders")
    }

    /// Requests that reached a backend.
    pub(super) fn attempts(&self) -> u64 {
        self.number("SELECT count(*) FROM attempts")
    }

    pub(super) fn highest_fence(&self) -> u64 {
        self.number("SELECT max(fence) FROM hapax_receipt")
    }

    pub(super) fn backend(&self) -> Backend {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "receipts::process::backend", "--ignored", "--nocapture"]);
        let process = Process::spawn(command.env(DATABASE, self.url()));
        Backend {
            addr: process.address("listening on "),
            process,
        }
    }
}

/// Says `written` and waits for a line of its standard input, between the order and the receipt, if a request has the
/// header `X-Pause`; says `refused: …` when the database did not take a transaction.
pub(super) struct Backend {
    pub(super) addr: SocketAddr,
    pub(super) process: Process,
}

#[test]
#[ignore = "the backend's part of other tests"]
fn backend() {
    let (told, lines) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            told.send(line).unwrap();
        }
        // Whoever started it has gone.
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let url = std::env::var(DATABASE).unwrap();
    let mut client = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    });
    let requests = HeldBackend::start();
    say(&format!("listening on {}", requests.addr));
    requests.serve(|held| {
        let attempt = Attempt::of(&held.text);
        match runtime.block_on(order(&mut client, &held, &attempt, &lines)) {
            Ok(()) => held.answer(&format!(r#"{{"fence":{}}}"#, attempt.fence)),
            Err(error) => {
                let database = error.as_db_error().map(ToString::to_string);
                say(&format!("refused: {}", database.unwrap_or_else(|| error.to_string())));
                held.fail();
            }
        }
    });
}

/// On a line of its own: the harness has begun one.
fn say(line: &str) {
    let line = format!("\n{line}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

async fn order(
    client: &mut Client,
    held: &Held,
    attempt: &Attempt,
    lines: &Receiver<String>,
) -> Result<(), tokio_postgres::Error> {
    let (operation, fence) = (&attempt.operation, attempt.fence);
    let seen = "INSERT INTO attempts VALUES ($1, $2)";
    client.execute(seen, &[operation, &fence]).await?;
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO orders VALUES ($1)", &[&fence]).await?;
    if held.text.to_ascii_lowercase().contains("x-pause:") {
        say("written");
        lines.recv().unwrap();
    }
    let body = format!(r#"{{"fence":{fence}}}"#);
    let receipt = "SELECT hapax_receipt($1, $2, 201, $3::text)";
    transaction.execute(receipt, &[operation, &fence, &body]).await?;
    transaction.commit().await
}
