//! `cargo xtask bench`: builds the gateway and the benchmarks as users get them, and runs the benchmarks.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::setup;
use crate::step::{Failure, Outcome, cargo, locked, root, run};

const USAGE: &str = include_str!("../../crates/hapax-bench/src/usage.txt");

const RIVAL: &str = "crates/hapax-bench/rivals/graphile/Cargo.toml";
const DBOS: &str = "crates/hapax-bench/rivals/dbos/requirements.txt";

/// The task.
pub(crate) fn main(arguments: &[String]) -> Outcome {
    if arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h")
    {
        print!("{USAGE}");
        return Ok(());
    }
    setup::system()?;
    // By one command, so that both share one build of everything below them.
    let build = [
        "build",
        "--release",
        "--package",
        "hapax-server",
        "--package",
        "hapax-bench",
    ];
    run(cargo(&build).args(locked()))?;
    if needs(arguments, "outbox", "--dbos") {
        dbos(&release()?.with_file_name("rivals").join("dbos"))?;
    }
    if needs(arguments, "runner", "--rival") {
        // What we compare with has dependencies of its own, and so a workspace and a place of its own.
        let build = ["build", "--release", "--manifest-path", RIVAL, "--target-dir"];
        let place = release()?.with_file_name("rivals");
        run(cargo(&build).arg(place).args(locked()).current_dir(root()))?;
    }
    run(Command::new(release()?.join("hapax-bench"))
        .current_dir(root())
        .args(arguments))
}

/// Whether the benchmark that a rival takes part in may be among the chosen ones, and the rival has to be made.
fn needs(arguments: &[String], bench: &str, given: &str) -> bool {
    let names = |name: &str| arguments.iter().any(|argument| argument == name);
    let chosen = arguments.iter().any(|argument| !argument.starts_with("--"));
    (names(bench) || !chosen) && !names("--no-rival") && !names(given)
}

/// An environment of Python with DBOS and what it depends on, in the versions that are pinned.
fn dbos(home: &Path) -> Outcome {
    hapax_testbed::check_python().map_err(|error| Failure::Missing(error.to_string()))?;
    run(Command::new("python3").args(["-m", "venv"]).arg(home))?;
    let mut pip = Command::new(home.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    run(pip.arg(root().join(DBOS)))
}

/// Where cargo puts release builds: beside this program's own profile.
fn release() -> Outcome<PathBuf> {
    let own = std::env::current_exe().ok();
    let target = own
        .as_deref()
        .and_then(|own| Some(own.parent()?.parent()?.join("release")));
    target.ok_or_else(|| Failure::Failed("cannot tell where this program is, and so not where cargo builds".to_owned()))
}
