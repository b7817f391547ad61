//! A program of this package's examples, as a real process: killed when dropped.
//!
//! Tests wait for lines of it, never for time to pass.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a line may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// All lines of some processes.
pub(crate) type Said = Arc<Mutex<Vec<String>>>;

pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<String>,
    /// What it has said so far.
    said: BTreeSet<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command, said: &Said) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, heard) = channel();
        let (said, stdout) = (Arc::clone(said), BufReader::new(child.stdout.take().unwrap()));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                said.lock().unwrap().push(line.clone());
                // Nobody listens to the end of all of them.
                let _ = tell.send(line);
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            heard,
            said: BTreeSet::new(),
        }
    }

    /// Tells it a line, if it still listens.
    pub(crate) fn tell(&mut self, line: &str) {
        let _ = writeln!(self.stdin.as_mut().unwrap(), "{line}");
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a line.
    #[track_caller]
    pub(crate) fn wait(&mut self, line: &str) {
        self.until(line, |said| said.contains(line));
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, found: impl Fn(&BTreeSet<String>) -> bool) {
        while !found(&self.said) {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(line) => self.said.insert(line),
                Err(error) => panic!("{what}: {error} after {:?}", self.said),
            };
        }
    }

    /// Waits for so long at most until it has said something.
    pub(crate) fn has_said(&mut self, time: Duration, found: impl Fn(&BTreeSet<String>) -> bool) -> bool {
        let until = Instant::now() + time;
        while !found(&self.said) {
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.insert(line),
                Err(_) => return false,
            };
        }
        true
    }

    /// Waits until a signal has ended it: which.
    #[track_caller]
    pub(crate) fn dies(mut self) -> i32 {
        self.until_it_is_silent();
        let status = self.child.wait().unwrap();
        status.signal().unwrap_or_else(|| panic!("{status}"))
    }

    /// Lets it end in order.
    #[track_caller]
    pub(crate) fn ends(mut self) -> ExitStatus {
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
