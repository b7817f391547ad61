//! A server process that cannot outlive its owner.
//!
//! A small shell script stands between the owner and the server. It holds the
//! read end of a pipe whose write end only the owner has: when the owner ends,
//! by whatever means, the pipe closes and the script ends the server and
//! removes its directory. (The parent-death signal of Linux would not do: it
//! fires when the *thread* that started the child ends.) The script runs in a
//! process group of its own, so that what kills the owner's group spares it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

const SCRIPT: &str = include_str!("guard.sh");
const SCRIPT_VARIABLE: &str = "HAPAX_TESTBED_GUARD";
/// The longest that processes take to stop: they do so on their next way through the kernel.
const STOP_LIMIT: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(5);
const LOG_LINES: usize = 20;

/// The signals that tests send to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends a process at once; it cannot be caught.
    Kill,
    /// Asks a process to end.
    Terminate,
    /// Ctrl-C; PostgreSQL: end all sessions, then end.
    Interrupt,
    /// PostgreSQL: end without tidying up, to recover at the next start.
    Quit,
    /// Freezes a process.
    Stop,
    /// Goes on after [`Signal::Stop`].
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// On whose life a server's life hangs.
pub enum Owner {
    /// This value, and so this process.
    This,
    /// Another process, by id and start time in clock ticks.
    Process { id: u32, start: u64 },
}

/// A running server, ended when this value is dropped or its process dies.
#[derive(Debug)]
pub struct Guard {
    script: Child,
    orders: Option<ChildStdin>,
    server_id: u32,
    log: PathBuf,
}

impl Guard {
    /// Starts `command` (program, arguments, environment and directory count;
    /// its standard streams do not). Output is appended to `log`. `farewell`
    /// is what asks it to end on drop; ten seconds later it is killed.
    pub fn spawn(command: &Command, farewell: Signal, log: &Path) -> Result<Self> {
        Self::launch(command, farewell, log, None, &Owner::This)
    }

    /// Like [`Guard::spawn`]; `directory` is removed after the server's end.
    pub(crate) fn launch(
        command: &Command,
        farewell: Signal,
        log: &Path,
        directory: Option<&Path>,
        owner: &Owner,
    ) -> Result<Self> {
        let name = || format!("start {}", command.get_program().display());
        let (owner, stdin) = match owner {
            Owner::This => ("pipe".to_owned(), Stdio::piped()),
            Owner::Process { id, start } => (format!("{id}:{start}"), Stdio::null()),
        };
        let mut shell = Command::new("/bin/sh");
        // By way of the environment, so that lists of processes stay readable.
        let eval = format!("eval \"${SCRIPT_VARIABLE}\"");
        shell.env(SCRIPT_VARIABLE, SCRIPT);
        shell.args(["-c", &eval, "hapax-testbed-guard", &owner, farewell.name()]);
        shell.arg(directory.unwrap_or(Path::new(""))).arg(log);
        shell.arg(command.get_program()).args(command.get_args());
        if let Some(current) = command.get_current_dir() {
            shell.current_dir(current);
        }
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        shell
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut script = shell.spawn().map_err(|source| Error::io(name(), source))?;

        let mut line = String::new();
        if let Some(stdout) = script.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(|source| Error::io(name(), source))?;
        }
        let server_id = line.trim().parse().map_err(|_| Error::Failed {
            what: name(),
            status: "the guard script gave no process id".to_owned(),
            output: line.clone(),
        })?;
        let orders = script.stdin.take();
        Ok(Self {
            script,
            orders,
            server_id,
            log: log.to_owned(),
        })
    }

    /// The server's process id, for measurements. To signal it, use
    /// [`Guard::signal`], which cannot hit a stranger that got the same id.
    pub fn id(&self) -> u32 {
        self.server_id
    }

    /// Sends a signal to the server. Whether it arrived shows in what the
    /// server does: one that has ended takes no signals.
    pub fn signal(&mut self, signal: Signal) {
        self.order(signal.name().to_owned());
    }

    /// Sends a signal to the server and all its children. After
    /// [`Signal::Kill`], none of them is left once [`Guard::wait`] returned;
    /// after [`Signal::Stop`], none of them runs once this returns.
    pub fn signal_tree(&mut self, signal: Signal) {
        self.order(format!("{} tree", signal.name()));
        if matches!(signal, Signal::Stop) {
            let deadline = Instant::now() + STOP_LIMIT;
            while self.ended().is_none() && !is_tree_stopped(self.server_id) && Instant::now() < deadline {
                thread::sleep(POLL);
            }
        }
    }

    fn order(&mut self, line: String) {
        if let Some(orders) = &mut self.orders {
            // A closed pipe means that the server has ended.
            let _ = writeln!(orders, "{line}");
        }
    }

    /// How the server ended, or `None` while it runs. A death by signal shows
    /// as exit code 128 + its number.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.script.try_wait().ok().flatten()
    }

    /// Waits until the server ended by itself or by a signal.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Error::Late {
                    what: format!("the end of process {}", self.server_id),
                    limit_s: limit.as_secs(),
                    output: self.log_end(),
                });
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until `ready` says yes; an early end of the server is an error
    /// that quotes the log.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Err(Error::Failed {
                    what: what.to_owned(),
                    status: status.to_string(),
                    output: self.log_end(),
                });
            }
            if ready()? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::Late {
                    what: what.to_owned(),
                    limit_s: limit.as_secs(),
                    output: self.log_end(),
                });
            }
            thread::sleep(POLL);
        }
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// Whether a process and all its children are stopped, or gone.
fn is_tree_stopped(id: u32) -> bool {
    let is_stopped = |id: &str| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_none_or(|(_, fields)| fields.starts_with(['T', 'Z', 'X']))
    };
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    is_stopped(&id.to_string()) && children.split_whitespace().all(is_stopped)
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Only what hangs on this value ends with it.
        if self.orders.take().is_some() {
            let _ = self.script.wait();
        }
    }
}
