//! DBOS: a program in Python, with its packages in an environment of its own.

use std::path::Path;
use std::process::Command;

use crate::error::Result;

const PROGRAM: &str = include_str!("../../../rivals/dbos/main.py");

pub(super) fn check(python: &Path) -> Result<()> {
    if python.is_file() {
        return Ok(());
    }
    Err(format!(
        "there is no {}: `cargo xtask bench` makes it; or give --dbos, or leave it out with --no-rival",
        python.display()
    )
    .into())
}

/// Workflows a second.
pub(super) async fn run(python: &Path, url: &str, (jobs, concurrency): (u64, usize)) -> Result<f64> {
    let mut command = Command::new(python);
    command.args(["-c", PROGRAM, url, &jobs.to_string(), &concurrency.to_string()]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} ended with {}: {why}", python.display(), output.status).into());
    }
    let seconds: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(jobs as f64 / seconds)
}
