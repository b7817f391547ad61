//! Child processes of the demo: this same program, ended with the demo however that ends.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::exit::{Exit, Failure};

/// How long a child may take to listen.
const START: Duration = Duration::from_secs(20);
/// How long a child may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// A child process, killed when dropped. It also ends by itself when its standard input does, so that it does not
/// outlive a demo that was killed.
pub(super) struct Child {
    process: tokio::process::Child,
    stdin: Option<ChildStdin>,
    /// Kept open: a child that cannot write would fail.
    _stdout: BufReader<ChildStdout>,
}

/// Starts this program with other arguments and waits until it says where it listens.
///
/// # Errors
/// If it does not come up.
pub(super) async fn start(
    what: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<(Child, SocketAddr), Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(Exit::Internal, format!("{what} did not start: {why}"));
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut process = Command::new(program)
        .args(arguments)
        .env_remove("HAPAX_STORE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error))?;
    let stdin = process.stdin.take();
    let stdout = process.stdout.take().ok_or_else(|| failed(&"no standard output"))?;
    let mut stdout = BufReader::new(stdout);
    let address = timeout(START, listening(&mut stdout))
        .await
        .map_err(|_| failed(&"it says nothing"))?
        .ok_or_else(|| failed(&"see its message above"))?;
    let child = Child {
        process,
        stdin,
        _stdout: stdout,
    };
    Ok((child, address))
}

/// Reads lines until one says `listening on ADDRESS`.
async fn listening(stdout: &mut BufReader<ChildStdout>) -> Option<SocketAddr> {
    let mut line = String::new();
    loop {
        line.clear();
        if stdout.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some((_, address)) = line.split_once("listening on ") {
            return address.trim().trim_start_matches("http://").parse().ok();
        }
    }
}

impl Child {
    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.process
            .kill()
            .await
            .map_err(|error| Failure::new(Exit::Internal, format!("kill -9 failed: {error}")))
    }

    /// Lets it end in good order.
    pub(super) async fn stop(mut self) {
        drop(self.stdin.take());
        // One that does not end in time is killed when it is dropped.
        let _ = timeout(STOP, self.process.wait()).await;
    }
}
