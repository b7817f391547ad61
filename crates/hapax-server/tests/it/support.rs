//! Real processes and raw requests for the tests: the binary, the shop behind it, a backend that does as it is told.
//!
//! Nothing here sleeps: whoever waits, waits for a line, an answer, or the end of a process, and fails after
//! [`PATIENCE`].

mod backend;
mod http;
pub(crate) mod shelf;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hapax_shop::Ledger;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use backend::{Held, HeldBackend};
pub(crate) use http::{Answer, Ask};

/// How long anything may take before its test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
    command.env_remove("HAPAX_STORE").env_remove("HAPAX_FAILPOINT");
    command
}

/// Runs the program to its end.
pub(crate) fn hapax(arguments: &[&str]) -> Ended {
    let output = program().args(arguments).stdin(Stdio::null()).output().unwrap();
    Ended::from(output)
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// Standard output as JSON, one value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Lines that a process writes, as they come.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<(String, bool)>, Condvar)>);

impl Lines {
    fn follow(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let to = lines.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                to.0.0.lock().unwrap().0.push_str(&String::from_utf8_lossy(&line));
                to.0.1.notify_all();
                line.clear();
            }
            to.0.0.lock().unwrap().1 = true;
            to.0.1.notify_all();
        });
        lines
    }

    fn text(&self) -> String {
        self.0.0.lock().unwrap().0.clone()
    }

    /// Waits until `found` finds what it looks for; `None` if the process ended without.
    fn wait<T>(&self, mut found: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.0.0.lock().unwrap();
        loop {
            if let Some(value) = found(&state.0) {
                return Some(value);
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing came in time, only: {}", state.0);
            if state.1 {
                return None;
            }
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// A running process: killed when dropped, and when this one is.
pub(crate) struct Process {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: Lines::follow(child.stdout.take().unwrap()),
            stderr: Lines::follow(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Waits for the address in the line `… on [http[s]://]ADDRESS` that begins with `start`.
    #[track_caller]
    pub(crate) fn address(&self, start: &str) -> SocketAddr {
        let found = self.stdout.wait(|text| {
            let line = text.lines().find(|line| line.starts_with(start))?;
            let address = line.rsplit(' ').next()?;
            address.rsplit('/').next()?.parse().ok()
        });
        found.unwrap_or_else(|| panic!("no line {start:?}: {} {}", self.stdout.text(), self.stderr.text()))
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits until standard output has this text.
    #[track_caller]
    pub(crate) fn wait_for_output(&self, text: &str) {
        let found = self.stdout.wait(|said| said.contains(text).then_some(()));
        assert!(
            found.is_some(),
            "it ended without saying {text:?}: {}",
            self.stdout.text()
        );
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        // Its standard error ends with it.
        self.stderr.wait(|_| None::<()>);
        self.child.wait().unwrap()
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.text()
    }

    /// Waits until standard error has this text.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        let found = self.stderr.wait(|log| log.contains(text).then_some(()));
        assert!(found.is_some(), "it ended without saying {text:?}: {}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) process: Process,
}

impl Gateway {
    /// Starts `hapax serve` on free ports with these arguments, and waits until it listens.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(program(), arguments)
    }

    /// The same with a command of the caller's own: another environment, another build.
    #[track_caller]
    pub(crate) fn start_with(mut command: Command, arguments: &[&str]) -> Self {
        command.args(["serve", "--with-parent", "--admin", "127.0.0.1:0"]);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let process = Process::spawn(command.args(arguments));
        Self {
            addr: process.address("listening on "),
            admin: process.address("admin on "),
            process,
        }
    }

    /// Before `upstream`, with a SQLite store in `directory` and one tenant.
    #[track_caller]
    pub(crate) fn before(upstream: SocketAddr, directory: &Path, more: &[&str]) -> Self {
        let (url, store) = (format!("http://{upstream}"), sqlite(directory));
        let mut arguments = vec!["--upstream", &url, "--store", &store];
        if !more.contains(&"--scope") {
            arguments.extend(["--scope", "none"]);
        }
        arguments.extend(more);
        Self::start(&arguments)
    }

    #[track_caller]
    pub(crate) fn send(&self, ask: &Ask) -> Answer {
        ask.send(self.addr)
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> String {
        Ask::get("/metrics").send(self.admin).body
    }

    /// Asks until a metric has a value.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, value: f64) {
        let until = Instant::now() + PATIENCE;
        while self.metric(name) != value {
            assert!(
                Instant::now() < until,
                "{name} never became {value}: {}",
                self.metrics()
            );
        }
    }

    /// The value of a metric, labels and all.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.metrics();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name}: {page}"))
    }
}

pub(crate) fn sqlite(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("hapax.db").display())
}

/// A running shop, which obeys the `X-Shop-*` headers, and its database.
pub(crate) struct ShopServer {
    pub(crate) addr: SocketAddr,
    pub(crate) database: PathBuf,
    pub(crate) process: Process,
    _directory: TempDir,
}

impl ShopServer {
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with_pages(&[])
    }

    /// One that serves the files of these folders too.
    #[track_caller]
    pub(crate) fn with_pages(folders: &[&Path]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("shop.db");
        let mut command = program();
        command.arg("demo-shop").arg("--db").arg(&database);
        for folder in folders {
            command.arg("--pages").arg(folder);
        }
        let process = Process::spawn(&mut command);
        Self {
            addr: process.address("listening on "),
            database,
            process,
            _directory: directory,
        }
    }

    /// After it was killed: starts it again, at the same address and on the same database.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        let mut command = program();
        command.arg("demo-shop").arg("--db").arg(&self.database);
        self.process = Process::spawn(command.arg("--listen").arg(self.addr.to_string()));
        assert_eq!(self.process.address("listening on "), self.addr);
    }

    /// What really happened.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::open(&self.database).unwrap()
    }

    /// How many effects there are.
    pub(crate) fn effects(&self) -> u64 {
        self.ledger().total_effects().unwrap()
    }
}
