//! `cargo xtask ci`: all that must hold before a change is merged.
//!
//! Every check runs even if an earlier one failed: one run shows all that is
//! wrong.

mod dependencies;
mod repository;
mod sources;

use std::time::Duration;

use crate::step::{Failure, Outcome, cargo, locked, run, step};
use crate::{setup, test};

type Check = (&'static str, fn() -> Outcome);

/// The cheap ones first.
const CHECKS: &[Check] = &[
    ("format", || run(&mut cargo(&["fmt", "--all", "--check"]))),
    ("repository", repository::check),
    ("architecture", sources::check),
    ("dependencies", dependencies::check),
    ("lints", lints),
    ("features", features),
    ("documentation", documentation),
    ("tests", || test::main(&[])),
];

/// The task.
pub(crate) fn main(arguments: &[String]) -> Outcome {
    for name in arguments {
        if !CHECKS.iter().any(|(known, _)| known == name) {
            let known: Vec<_> = CHECKS.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            return Err(Failure::Usage(format!(
                "there is no check `{name}` (there are: {known})"
            )));
        }
    }
    setup::system()?;
    let chosen = |name: &str| arguments.is_empty() || arguments.iter().any(|one| one == name);
    let results: Vec<(&str, Outcome, Duration)> = CHECKS
        .iter()
        .filter(|(name, _)| chosen(name))
        .map(|(name, check)| {
            let (outcome, took) = step(name, check);
            (*name, outcome, took)
        })
        .collect();
    report(results)
}

fn report(results: Vec<(&str, Outcome, Duration)>) -> Outcome {
    println!("\n── summary");
    for (name, outcome, took) in &results {
        let word = if outcome.is_ok() { "passed" } else { "FAILED" };
        println!("{word}  {name:<14} {:>7.1} s", took.as_secs_f64());
    }
    let failures: Vec<(&str, Failure)> = results
        .into_iter()
        .filter_map(|(name, outcome, _)| Some((name, outcome.err()?)))
        .collect();
    // What is missing keeps its own exit code.
    let names = failures.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    for (_, failure) in failures {
        match failure {
            Failure::Missing(_) => return Err(failure),
            Failure::Failed(_) | Failure::Usage(_) => {}
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "failed: {names}. Next: `cargo xtask ci CHECK` runs one again"
    )))
}

fn lints() -> Outcome {
    let all = ["clippy", "--workspace", "--all-targets", "--all-features"];
    run(cargo(&all).args(locked()).args(["--", "-D", "warnings"]))
}

/// Features that all work together may still not work alone.
fn features() -> Outcome {
    for arguments in [
        ["-p", "hapax-store", "--no-default-features"].as_slice(),
        &["-p", "hapax", "--no-default-features"],
        &["-p", "hapax", "--no-default-features", "--features", "http,sqlite"],
        &["-p", "hapax-server"],
    ] {
        run(cargo(&["clippy"])
            .args(arguments)
            .args(locked())
            .args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

fn documentation() -> Outcome {
    let all = ["doc", "--workspace", "--no-deps", "--all-features"];
    run(cargo(&all).args(locked()).env("RUSTDOCFLAGS", "-D warnings"))
}
