//! The tasks of this repository, run as `cargo xtask TASK`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its caller")]

mod bench;
mod ci;
mod setup;
mod step;
mod test;

use std::process::ExitCode;

use step::Failure;

const USAGE: &str = "\
usage: cargo xtask TASK [ARGUMENTS]

tasks:
  setup             install what building and testing need, where it is missing
  setup --check     only say what is missing
  test [ARGUMENTS]  set up, start PostgreSQL, run all tests; with ARGUMENTS (as
                    of `cargo nextest run`, such as `-p hapax-store claim`), only
                    those tests, and no documentation tests
  bench [NAME...]   measure hapax beside what it is compared with, into
                    target/bench; `cargo xtask bench --help` says more
  ci                all that must pass before a change is merged
  ci CHECK...       only those: format, repository, architecture, dependencies,
                    lints, features, documentation, tests

Ends with 0 if all passed, 1 if something failed, 2 if it was called wrongly, and
3 if something is missing that it may not install.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("--help", [].as_slice()),
    };
    let result = match task {
        "setup" => setup::main(rest),
        "test" => test::main(rest),
        "bench" => bench::main(rest),
        "ci" => ci::main(rest),
        "--help" | "-h" | "help" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::Usage(format!("there is no task `{other}`"))),
    };
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("\nxtask: {failure}");
    match failure {
        Failure::Failed(_) => ExitCode::from(1),
        Failure::Usage(_) => ExitCode::from(2),
        Failure::Missing(_) => ExitCode::from(3),
    }
}
