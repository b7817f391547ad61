//! The example `worker` as a real process: a job that kills it ends as a dead letter, and takes no other with it.
//!
//! The test waits for lines of the program, never for time to pass.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use hapax::core::{DeadReason, Key, Name, Operation, Outcome, Record, Scope, State, StateName, Store};
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::program::{Process, Said, example};

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
        first.tell(&format!("letter {key} hello"));
    }
    under_way(&mut first, &letters);
    first.tell("report poison crash");
    assert_eq!(first.dies(), SIGABRT);
    // Its lease is the longest: each time it comes last, beside all the letters.
    for _ in 0..2 {
        let mut again = service.start(FOR_EVER_MS);
        under_way(&mut again, &letters);
        again.wait("alone poison");
        assert_eq!(again.dies(), SIGABRT);
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
    said: Said,
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
        let mut command = Command::new(example("worker"));
        command
            .arg(self.directory.path())
            .args([LEASE_MS, sending_ms].map(|number| number.to_string()));
        Process::start(&mut command, &self.said)
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

/// Waits until all of these have begun.
#[track_caller]
fn under_way(process: &mut Process, keys: &BTreeSet<String>) {
    let begun = |key| move |line: &String| line.starts_with(&format!("started {key}, "));
    process.until("all begun", |said| keys.iter().all(|key| said.iter().any(begun(key))));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
