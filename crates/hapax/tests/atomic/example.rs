//! The example `atomic` as a real process, asked over real connections, and killed at every step.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use hapax::failpoint::Failpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{self, Got};

/// The running example: killed when dropped.
struct Example {
    child: Child,
    at: SocketAddr,
}

impl Example {
    fn start(database: &Path, failpoint: Option<Failpoint>) -> Self {
        let tests = std::env::current_exe().unwrap();
        // …/deps/this-test
        let path: PathBuf = tests.ancestors().nth(2).unwrap().join("examples/atomic");
        assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
        let mut command = Command::new(path);
        command.arg(database).arg("127.0.0.1:0").env_remove("HAPAX_FAILPOINT");
        if let Some(failpoint) = failpoint {
            command.env("HAPAX_FAILPOINT", format!("{}:1", failpoint.name()));
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let at = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { child, at }
    }

    async fn order(&self, key: &str, what: &str) -> Got {
        client::send(self.at, request(key, what).as_bytes()).await
    }

    /// Asks and hears nothing, since it kills itself.
    async fn dies_of(mut self, key: &str, what: &str) -> ExitStatus {
        let mut connection = TcpStream::connect(self.at).await.unwrap();
        connection.write_all(request(key, what).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Cut off, or reset.
        let _ = connection.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
        self.child.wait().unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(key: &str, what: &str) -> String {
    let length = what.len();
    format!(
        "POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {length}\r\nIdempotency-Key: \
         {key}\r\n\r\n{what}"
    )
}

fn number(database: &Path, select: &str) -> i64 {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row(select, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn what_it_was_asked_happens_once() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("shop.db");
    let orders = || number(&database, "SELECT count(*) FROM orders");
    let left = || number(&database, "SELECT left_over FROM stock WHERE item = 'tea'");
    let shop = Example::start(&database, None);
    let first = shop.order("a", "tea 2").await;
    let again = shop.order("a", "tea 2").await;
    assert_eq!((first.status, first.text()), (201, "order 1: 2 × tea\n"));
    assert_eq!((again.status, again.text()), (201, first.text()));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!((orders(), left()), (1, 8));

    let too_much = shop.order("b", "tea 9").await;
    assert_eq!(too_much.status, 409, "{}", too_much.text());
    assert_eq!((orders(), left()), (1, 8), "what was rejected is rolled back");
    let nonsense = shop.order("c", "tea many").await;
    assert_eq!(nonsense.status, 500, "{}", nonsense.text());
    assert_eq!(shop.order("b", "tea 9").await.text(), too_much.text());
    drop(shop);

    let steps = [
        Failpoint::BeforeClaim,
        Failpoint::ClaimMade,
        Failpoint::HandlerEnded,
        Failpoint::BeforeFinish,
        Failpoint::Finished,
        Failpoint::Committed,
        Failpoint::BeforeAnswer,
    ];
    for (before, step) in (1..).zip(steps) {
        let key = step.name();
        let status = Example::start(&database, Some(step)).dies_of(key, "tea 1").await;
        assert_eq!(status.signal(), Some(9), "{key}: {status}");
        let happened = orders() > before;
        assert_eq!(
            happened,
            matches!(step, Failpoint::Committed | Failpoint::BeforeAnswer),
            "{key}"
        );
        let shop = Example::start(&database, None);
        let answer = shop.order(key, "tea 1").await;
        assert_eq!(answer.status, 201, "{key}: {}", answer.text());
        assert_eq!(answer.header("idempotent-replayed").is_some(), happened, "{key}");
        assert_eq!((orders(), left()), (before + 1, 8 - before), "{key}");
    }
}
