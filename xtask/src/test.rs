//! `cargo xtask test`: sets up what is missing, starts PostgreSQL once for all
//! tests, runs them.
//!
//! All features are on, so that the crash tests find the server's failpoints;
//! an ordinary build has none.

use hapax_testbed::Postgres;

use crate::setup;
use crate::step::{Failure, Outcome, cargo, locked, run, step};

/// Where tests look for the server that they share.
const VARIABLE: &str = "HAPAX_TEST_POSTGRES";

/// The task.
pub(crate) fn main(arguments: &[String]) -> Outcome {
    setup::system()?;
    setup::packages()?;
    let nextest = setup::nextest();
    // Held until the tests are over; a server named by the user is left alone.
    let server = match std::env::var_os(VARIABLE) {
        Some(_) => None,
        None => Some(
            Postgres::options()
                .try_start()
                .map_err(|error| Failure::Failed(error.to_string()))?,
        ),
    };
    let url = server.as_ref().map(Postgres::url);

    let (tests, _) = step("tests", || run_tests(nextest, arguments, url.as_deref()));
    // Chosen tests are chosen from nextest's: documentation tests cannot be.
    let documentation = match arguments {
        [] => step("documentation tests", || run_documentation_tests(url.as_deref())).0,
        _ => Ok(()),
    };
    tests.and(documentation)
}

fn run_tests(nextest: bool, arguments: &[String], url: Option<&str>) -> Outcome {
    let mut command = if nextest {
        cargo(&["nextest", "run"])
    } else {
        cargo(&["test"])
    };
    if !chooses_packages(arguments) {
        command.arg("--workspace");
    }
    if !nextest && arguments.is_empty() {
        // Documentation tests are a step of their own.
        command.arg("--all-targets");
    }
    command.arg("--all-features").args(locked());
    if nextest && std::env::var_os("CI").is_some() {
        command.args(["--profile", "ci"]);
    }
    command.args(arguments);
    if let Some(url) = url {
        command.env(VARIABLE, url);
    }
    run(&mut command)
}

fn run_documentation_tests(url: Option<&str>) -> Outcome {
    let mut command = cargo(&["test", "--doc", "--workspace", "--all-features"]);
    command.args(locked());
    if let Some(url) = url {
        command.env(VARIABLE, url);
    }
    run(&mut command)
}

fn chooses_packages(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "-p" || argument.starts_with("--package") || argument == "--manifest-path")
}
