//! A sample, its database, and gateways in front of it.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hapax_testbed::{
    Database, FreePort, Guard, MariaDatabase, MariaDb, PgBouncer, Postgres, Signal, node_packages, python_packages,
};
use rustix::process::{Pid, Signal as Sent, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Answer, Ask, Gateway, PATIENCE, hapax, program, sqlite};

/// The steps of a payment, by their names in the samples.
pub(super) const POINTS: [&str; 4] = ["before-begin", "after-insert", "after-receipt", "after-commit"];

/// Processes of a sample: some may be stopped or dead, and there is still one to ask.
const WORKERS: &str = "4";

#[derive(Clone, Copy)]
pub(super) enum Language {
    Python,
    Node,
}

#[derive(Clone, Copy)]
pub(super) enum Place {
    Postgres,
    PgBouncer,
    MariaDb,
}

enum Home {
    Postgres(Database),
    Mariadb(MariaDatabase),
}

pub(super) struct World {
    pub(super) backend: Backend,
    /// What clients were told, by the reference of the payment.
    told: Mutex<BTreeMap<String, String>>,
    home: Home,
    url: String,
    _pooler: Option<PgBouncer>,
    directory: TempDir,
}

impl Home {
    fn url(&self) -> &str {
        match self {
            Self::Postgres(database) => database.url(),
            Self::Mariadb(database) => database.url(),
        }
    }

    fn query(&self, sql: &str) -> String {
        match self {
            Self::Postgres(database) => database.query(sql),
            Self::Mariadb(database) => database.query(sql),
        }
    }
}

impl World {
    pub(super) fn new(language: Language, place: Place) -> Self {
        let home = match place {
            Place::Postgres | Place::PgBouncer => Home::Postgres(Postgres::shared().database()),
            Place::MariaDb => Home::Mariadb(MariaDb::shared().database()),
        };
        let schema = match (language, &home) {
            (Language::Python, Home::Postgres(_)) => "python/postgres.sql",
            (Language::Python, Home::Mariadb(_)) => "python/mariadb.sql",
            (Language::Node, _) => "node/schema.sql",
        };
        home.query(&fs::read_to_string(sample(schema)).unwrap());
        for what in ["receipts", "outbox"] {
            let installed = hapax(&[what, "install", "--database", home.url()]);
            assert_eq!(installed.code, 0, "{installed:?}");
        }
        let (pooler, url) = match (&home, place) {
            (Home::Postgres(database), Place::PgBouncer) => {
                // Fewer sessions than processes: transactions of one process do come to different sessions.
                let pooler = PgBouncer::start(database.url(), 6);
                let url = pooler.url(database.name());
                (Some(pooler), url)
            }
            _ => (None, home.url().to_owned()),
        };
        let directory = tempfile::tempdir().unwrap();
        Self {
            backend: Backend::start(language, &url, directory.path()),
            told: Mutex::default(),
            home,
            url,
            _pooler: pooler,
            directory,
        }
    }

    /// A gateway on the store of this world, killed at the first hit of a failpoint if one is named.
    pub(super) fn gateway(&self, failpoint: Option<&str>, more: &str) -> Gateway {
        let config = format!(
            "upstream = \"http://{}\"\nstore = \"{}\"\nscope = \"none\"\nlease = \"300ms\"\n[log]\nlevel = \"error\"\n\
             [receipts]\ndatabase = \"{}\"\nwritten = \"required\"\n[retry]\nbreaker_minimum_calls = 1000000\n{more}",
            self.backend.port.address(),
            sqlite(self.directory.path()),
            self.url
        );
        let file = self.directory.path().join("hapax.toml");
        fs::write(&file, config).unwrap();
        let mut command = program();
        if let Some(name) = failpoint {
            command.env("HAPAX_FAILPOINT", format!("{name}:1"));
        }
        Gateway::start_with(command, &["--config", file.to_str().unwrap()])
    }

    /// Has the backend itself examined, as its author would.
    #[track_caller]
    pub(super) fn verify(&self) {
        let upstream = format!("http://{}", self.backend.port.address());
        let (body, count) = (body("examined"), "SELECT count(*) FROM payments");
        let examine = ["receipts", "verify", "--database", &self.url, "--upstream", &upstream];
        let request = ["--path", "/payments", "--body", &body, "--count", count];
        let ended = hapax(&[&examine[..], &request].concat());
        assert_eq!(ended.code, 0, "{ended:?}\n{}", self.backend.log());
        assert_eq!(ended.stdout.matches("  holds  ").count(), 3, "{ended:?}");
    }

    /// Asks until the payment is made.
    #[track_caller]
    pub(super) fn insist(&self, gateway: &Gateway, reference: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = gateway.send(&payment(reference));
            if answer.status == 201 {
                return self.hear(reference, &answer);
            }
            // The latter two are hapax's own; what a client gets that asks too early, or while all are being started.
            assert!([409, 500, 502, 503, 504].contains(&answer.status), "{answer:?}");
            assert!(
                Instant::now() < until,
                "{reference}: {answer:?}\n{}",
                self.backend.log()
            );
        }
    }

    /// Keeps what a client was told; all must be told the same.
    #[track_caller]
    pub(super) fn hear(&self, reference: &str, answer: &Answer) {
        assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
        let mut told = self.told.lock().unwrap();
        let first = told.entry(reference.to_owned()).or_insert_with(|| answer.body.clone());
        assert_eq!(*first, answer.body);
    }

    /// That each payment is in the database once, as its clients were told, with one receipt and one webhook to send.
    #[track_caller]
    pub(super) fn check(&self) {
        let told = self.told.lock().unwrap();
        let mut expected: Vec<_> = told.values().map(|body| line(body)).collect();
        let rows = "SELECT concat(reference, ' ', amount_cents, ' ', id) FROM payments";
        let mut rows: Vec<_> = self.home.query(rows).lines().map(str::to_owned).collect();
        expected.sort();
        rows.sort();
        assert_eq!(rows, expected, "what is, and what clients were told");
        let count = |table: &str| self.home.query(&format!("SELECT count(*) FROM {table}"));
        let payments = rows.len().to_string();
        assert_eq!(count("hapax_receipt WHERE NOT sealed"), payments);
        assert_eq!(count("hapax_outbox"), payments);
    }

    /// How many effects are still to be taken over by a relay.
    pub(super) fn staged(&self) -> String {
        self.home.query("SELECT count(*) FROM hapax_outbox")
    }

    /// What clients were told, a body for each payment.
    pub(super) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().values().cloned().collect()
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

pub(super) fn payment(reference: &str) -> Ask {
    Ask::new("POST", "/payments")
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", reference)
        .body(&body(reference))
}

fn body(reference: &str) -> String {
    format!(r#"{{"reference":"{reference}","amount_cents":1250}}"#)
}

fn line(body: &str) -> String {
    let payment: Value = serde_json::from_str(body).unwrap();
    let reference = payment["reference"].as_str().unwrap();
    format!("{reference} {} {}", payment["amount_cents"], payment["id"])
}

/// A sample at work, with its crash points.
pub(super) struct Backend {
    _guard: Guard,
    port: FreePort,
    log: PathBuf,
    _copy: Option<TempDir>,
}

impl Backend {
    fn start(language: Language, database: &str, directory: &Path) -> Self {
        let port = FreePort::take();
        let log = directory.join("backend.log");
        let (mut command, copy) = match language {
            Language::Python => (python(&port), None),
            Language::Node => {
                let (command, copy) = node(&port);
                (command, Some(copy))
            }
        };
        command.env("DATABASE_URL", database).env("CRASH_POINTS", "1");
        let mut guard = Guard::spawn(&command, Signal::Interrupt, &log).unwrap();
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(port.address()).is_err() {
            let log = || fs::read_to_string(&log).unwrap_or_default();
            assert!(guard.ended().is_none(), "the backend ended: {}", log());
            assert!(Instant::now() < until, "the backend does not listen: {}", log());
            std::thread::yield_now();
        }
        Self {
            _guard: guard,
            port,
            log,
            _copy: copy,
        }
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How often it has said something.
    pub(super) fn said(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until it has said something.
    #[track_caller]
    pub(super) fn wait_for(&self, text: &str) {
        self.eventually(text, || (self.said(text) > 0).then_some(()));
    }

    /// Waits until one of its processes has stopped itself at a point, which none of them did before.
    #[track_caller]
    pub(super) fn stopped(&self, point: &str, before: usize) -> Stopped {
        let said = format!("stopped at {point}: process ");
        let process = self.eventually(&said, || {
            let log = self.log();
            let (_, line) = log
                .match_indices(&said)
                .nth(before)
                .map(|(at, _)| log[at..].split_at(said.len()))?;
            line.split_once('\n')?.0.parse::<i32>().ok()
        });
        self.eventually("a stopped process", || {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
            let (_, state) = stat.rsplit_once(") ")?;
            state.starts_with('T').then_some(())
        });
        Stopped(process)
    }

    #[track_caller]
    fn eventually<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(Instant::now() < until, "never came: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A stopped process of a sample, which goes on when this is dropped.
pub(super) struct Stopped(i32);

impl Drop for Stopped {
    fn drop(&mut self) {
        let process = Pid::from_raw(self.0).unwrap();
        let _ = kill_process(process, Sent::CONT);
    }
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

fn python(port: &FreePort) -> Command {
    let packages = python_packages(&sample("python")).unwrap();
    let mut command = Command::new(packages.join("bin/gunicorn"));
    command.args(["--bind", &port.address().to_string(), "--workers", WORKERS]);
    // A new worker starts faster from what is loaded.
    command.args([
        "--preload",
        "--no-control-socket",
        "--log-level",
        "warning",
        "app:application",
    ]);
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(sample("python"));
    command
}

/// Node.js looks for packages beside and above a module: so it runs from a copy beside them.
fn node(port: &FreePort) -> (Command, TempDir) {
    let packages = node_packages(&sample("node")).unwrap();
    let copy = tempfile::tempdir_in(packages).unwrap();
    for file in fs::read_dir(sample("node")).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    let mut command = Command::new("node");
    command.arg("server.js").current_dir(copy.path());
    command.env("PORT", port.number().to_string()).env("WORKERS", WORKERS);
    (command, copy)
}
