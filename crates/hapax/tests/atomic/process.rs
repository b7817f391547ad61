//! A test's other processes: the test again, told by its environment to be one.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use hapax::failpoint::Failpoint;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Tells a process what it is to do, and in which database.
const PART: &str = "HAPAX_ATOMIC_PART";
const AT: &str = "HAPAX_ATOMIC_AT";

/// The part of this process and its database, if it is not the test itself.
pub(crate) fn part() -> Option<(String, String)> {
    Some((std::env::var(PART).ok()?, std::env::var(AT).ok()?))
}

/// What a process of the test says to it.
pub(crate) fn say(line: &str) {
    // In one piece, and whole before the next step.
    let line = format!("\n{SAID}{line}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

const SAID: &str = "says ";

/// A process: killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts the test of this path as another process with a part in it. `at_point` is `HAPAX_FAILPOINT`.
    pub(crate) fn start(test: &str, part: &str, at: &str, failpoint: Option<(Failpoint, u64, &str)>) -> Self {
        // The path without the crate's name is what the harness calls a test.
        let name = test.split_once("::").unwrap().1;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([name, "--exact", "--nocapture"]);
        command.env(PART, part).env(AT, at).env_remove("HAPAX_FAILPOINT");
        if let Some((failpoint, hits, what)) = failpoint {
            command.env("HAPAX_FAILPOINT", format!("{}:{hits}{what}", failpoint.name()));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    /// The next thing that it says; `None` after its end.
    pub(crate) fn hears(&mut self) -> Option<String> {
        self.stdout
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(SAID).map(str::to_owned))
    }

    /// Waits until it says this.
    pub(crate) fn until(&mut self, line: &str) {
        while self.hears().expect("it goes on") != line {}
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it: when this returns it does nothing more.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let (_, status) = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    /// What it says until its end, and how it ends.
    pub(crate) fn ends(mut self) -> (Vec<String>, ExitStatus) {
        let mut said = Vec::new();
        while let Some(line) = self.hears() {
            said.push(line);
        }
        (said, self.child.wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If it has not ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
