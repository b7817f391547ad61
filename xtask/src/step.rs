//! Steps: how a task runs its commands, and what the reader sees of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a task ends when it does not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something that was checked is not so.
    Failed(String),
    /// The command line makes no sense.
    Usage(String),
    /// Something is not installed, and may not be installed from here.
    Missing(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) | Self::Missing(why) => f.write_str(why),
            Self::Usage(why) => write!(f, "{why}; see `cargo xtask --help`"),
        }
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Runs a part of a task under a heading and prints how long it took.
pub(crate) fn step(name: &str, body: impl FnOnce() -> Outcome) -> (Outcome, Duration) {
    println!("\n── {name}");
    let start = Instant::now();
    let outcome = body();
    let took = start.elapsed();
    match &outcome {
        Ok(()) => println!("── {name}: passed in {:.1} s", took.as_secs_f64()),
        Err(failure) => {
            println!("── {name}: FAILED after {:.1} s: {failure}", took.as_secs_f64());
        }
    }
    (outcome, took)
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// A `cargo` command in the root, the same cargo that runs this task.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(arguments);
    command
}

/// In CI the lock file is what was reviewed; elsewhere it may follow an edit of
/// a manifest.
pub(crate) fn locked() -> &'static [&'static str] {
    if std::env::var_os("CI").is_some() {
        &["--locked"]
    } else {
        &[]
    }
}

/// A command as one would type it.
fn typed(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command that talks to the user; anything but success is a failure.
pub(crate) fn run(command: &mut Command) -> Outcome {
    println!("$ {}", typed(command));
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Failed(format!("`{}` ended with {status}", typed(command)))),
        Err(error) => Err(Failure::Failed(format!("cannot run `{}`: {error}", typed(command)))),
    }
}

/// Runs a command for its output.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(Failure::Failed(format!(
            "`{}` ended with {}:\n{}",
            typed(command),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))),
        Err(error) => Err(Failure::Failed(format!("cannot run `{}`: {error}", typed(command)))),
    }
}

/// Whether a command runs and succeeds; its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
