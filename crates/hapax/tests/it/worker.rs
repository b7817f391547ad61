//! The example `worker` as a real process: a job that kills it ends as a dead letter, and takes no other with it.
//!
//! The test waits for lines of the program, never for time to pass.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hapax::core::{DeadReason, Key, Name, Operation, Outcome, Record, Scope, State, StateName, Store};
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

/// How long a line may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Heartbeats come three times as often; long enough for a busy machine.
const LEASE_MS: u32 = 600;
/// Longer than any process here lives.
const FOR_EVER_MS: u32 = 600_000;
const SIGABRT: i32 = 6;

#[test]
fn a_job_that_kills_its_process_three_times_ends_dead_and_what_ran_beside_it_ends_done() {
    let service = Service::new();
    let letters: BTreeSet<String> = (0..15).map(|number| format!("letter-{number}")).collect();

    let mut first = service.start(FOR_EVER_MS);
    for key in &letters {
        first.job(&format!("letter {key} hello"));
    }
    first.under_way(&letters);
    first.job("report poison crash");
    first.dies();
    // Its lease is the longest: each time it comes last, beside all the letters.
    for _ in 0..2 {
        let mut again = service.start(FOR_EVER_MS);
        again.under_way(&letters);
        again.wait("alone poison");
        again.dies();
    }
    let mut last = service.start(0);
    last.wait("dead poison: poison");
    for key in &letters {
        last.wait(&format!("sent {key}: hello"));
    }
    assert!(last.ends().success());

    let starts = service.starts();
    // Three starts that were cut off, and the last: the first was not held against them.
    for key in &letters {
        let record = service.record("letter", key);
        assert_eq!((record.state.name(), record.tries), (StateName::Done, 3), "{record:?}");
        assert!(matches!(record.state, State::Done(Outcome::NotKept(_))), "{record:?}");
        assert_eq!(
            starts.get(key).map(Vec::as_slice),
            Some(["1", "1", "2", "3"].map(str::to_owned).as_slice())
        );
    }
    let poison = service.record("report", "poison");
    let State::Dead { reason, .. } = poison.state else {
        panic!("{poison:?}")
    };
    // Three kills: two of them alone, and the first is no try.
    assert_eq!((reason, poison.crashes, poison.tries), (DeadReason::Poison, 3, 2));
    assert_eq!(starts["poison"], ["1", "1", "2"]);
    // Nothing else was sent, and nothing twice.
    assert_eq!(service.sent(), letters);
    let sendings = service.lines().iter().filter(|line| line.starts_with("sent ")).count();
    assert_eq!(sendings, letters.len());
}

/// A service whose process comes and goes.
struct Service {
    directory: TempDir,
    /// All that its processes said.
    said: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            said: Arc::default(),
        }
    }

    /// The next process. Sending takes it this long.
    fn start(&self, sending_ms: u32) -> Process {
        let mut child = Command::new(example("worker"))
            .arg(self.directory.path())
            .args([LEASE_MS, sending_ms].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, heard) = channel();
        let (said, stdout) = (Arc::clone(&self.said), BufReader::new(child.stdout.take().unwrap()));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                said.lock().unwrap().push(line.clone());
                // Nobody listens to the end of all of them.
                let _ = tell.send(line);
            }
        });
        Process {
            stdin: child.stdin.take(),
            child,
            heard,
            said: BTreeSet::new(),
        }
    }

    fn lines(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Which try each start was said to be, by key.
    fn starts(&self) -> BTreeMap<String, Vec<String>> {
        let mut starts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in self.lines() {
            if let Some((key, number)) = line.strip_prefix("started ").and_then(|rest| rest.split_once(", try ")) {
                starts.entry(key.to_owned()).or_default().push(number.to_owned());
            }
        }
        starts
    }

    fn record(&self, name: &str, key: &str) -> Record {
        let store = SqliteStore::open(self.directory.path().join("hapax.db"), SqliteOptions::default()).unwrap();
        let operation = Operation::new(
            Scope::new("me").unwrap(),
            Name::new(name).unwrap(),
            Key::new(key).unwrap(),
        );
        let (_, record) = block_on(store.read(operation.id())).unwrap();
        record.unwrap_or_else(|| panic!("{key} is forgotten"))
    }

    /// What was really sent.
    fn sent(&self) -> BTreeSet<String> {
        let post = Connection::open(self.directory.path().join("post.db")).unwrap();
        let mut select = post.prepare("SELECT key FROM sent").unwrap();
        let keys = select.query_map([], |row| row.get(0)).unwrap();
        keys.collect::<Result<_, _>>().unwrap()
    }
}

struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<String>,
    /// What it has said so far.
    said: BTreeSet<String>,
}

impl Process {
    fn job(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line.
    #[track_caller]
    fn wait(&mut self, line: &str) {
        self.until(line, |said| said.contains(line));
    }

    /// Waits until all of these have begun.
    #[track_caller]
    fn under_way(&mut self, keys: &BTreeSet<String>) {
        let begun = |key| move |line: &String| line.starts_with(&format!("started {key}, "));
        self.until("all begun", |said| keys.iter().all(|key| said.iter().any(begun(key))));
    }

    #[track_caller]
    fn until(&mut self, what: &str, found: impl Fn(&BTreeSet<String>) -> bool) {
        while !found(&self.said) {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(line) => self.said.insert(line),
                Err(error) => panic!("{what}: {error} after {:?}", self.said),
            };
        }
    }

    /// Waits until it has killed itself.
    #[track_caller]
    fn dies(mut self) {
        self.until_it_is_silent();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "{status}");
    }

    /// Lets it end in order.
    #[track_caller]
    fn ends(mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.until_it_is_silent();
        self.child.wait().unwrap()
    }

    #[track_caller]
    fn until_it_is_silent(&mut self) {
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(line) => self.said.insert(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("it lives on after {:?}", self.said),
            };
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If it has not ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of this package's examples, which cargo builds beside its tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    // …/deps/this-test
    let path = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
