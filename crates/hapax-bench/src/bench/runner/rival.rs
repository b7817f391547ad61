//! The other queue: a program of its own, since what it depends on is no business of ours.

use std::path::Path;
use std::process::Command;

use crate::error::Result;

/// How its worker is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Fetches many jobs at a time, completes each by itself.
    Queue,
    /// Completes many at a time as well.
    Batched,
}

pub(super) fn check(program: &Path) -> Result<()> {
    if program.is_file() {
        return Ok(());
    }
    Err(format!(
        "there is no {}: `cargo xtask bench` builds it; or give --rival, or leave it out with --no-rival",
        program.display()
    )
    .into())
}

/// Jobs a second.
pub(super) async fn run(program: &Path, url: &str, (jobs, concurrency): (u64, usize), how: How) -> Result<f64> {
    let mut command = Command::new(program);
    command.args([url, &jobs.to_string(), &concurrency.to_string()]);
    command.arg(match how {
        How::Queue => "queue",
        How::Batched => "batched",
    });
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} ended with {}: {why}", program.display(), output.status).into());
    }
    let seconds: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(jobs as f64 / seconds)
}
