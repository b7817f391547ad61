//! `cargo xtask bench`: builds the gateway and the benchmarks as users get them, and runs the benchmarks.

use std::path::PathBuf;
use std::process::Command;

use crate::setup;
use crate::step::{Failure, Outcome, cargo, locked, root, run};

const USAGE: &str = include_str!("../../crates/hapax-bench/src/usage.txt");

const RIVAL: &str = "crates/hapax-bench/rivals/graphile/Cargo.toml";

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
    if needs_rival(arguments) {
        // What we compare with has dependencies of its own, and so a workspace and a place of its own.
        let build = ["build", "--release", "--manifest-path", RIVAL, "--target-dir"];
        let place = release()?.with_file_name("rivals");
        run(cargo(&build).arg(place).args(locked()).current_dir(root()))?;
    }
    run(Command::new(release()?.join("hapax-bench"))
        .current_dir(root())
        .args(arguments))
}

/// Whether the benchmark that another queue takes part in may be among the chosen ones.
fn needs_rival(arguments: &[String]) -> bool {
    let names = |name: &str| arguments.iter().any(|argument| argument == name);
    let chosen = arguments.iter().any(|argument| !argument.starts_with("--"));
    (names("runner") || !chosen) && !names("--no-rival") && !names("--rival")
}

/// Where cargo puts release builds: beside this program's own profile.
fn release() -> Outcome<PathBuf> {
    let own = std::env::current_exe().ok();
    let target = own
        .as_deref()
        .and_then(|own| Some(own.parent()?.parent()?.join("release")));
    target.ok_or_else(|| Failure::Failed("cannot tell where this program is, and so not where cargo builds".to_owned()))
}
