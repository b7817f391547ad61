//! The benchmarks: hapax beside what it is compared with, in the same run, on the same machine.
//!
//! Every figure is a ratio of medians (or a limit): subjects take turns, round by round, so that what disturbs the
//! machine disturbs all of them. `docs/benchmarks.md` says what is measured and how to read it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its caller")]

mod bench;
mod chart;
mod client;
mod error;
mod hand;
mod machine;
mod measure;
mod options;
mod place;
mod plan;
mod report;
mod upstream;
mod work;

use std::process::ExitCode;

use options::{Command, Options};
use report::Report;

fn main() -> ExitCode {
    let command = match options::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(why) => {
            eprintln!("hapax-bench: {why}; see --help");
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Help => {
            print!("{}", options::USAGE);
            Ok(())
        }
        Command::Upstream(address) => in_runtime(upstream::serve(address)),
        Command::Bench(options) => in_runtime(bench(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("hapax-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn in_runtime(work: impl Future<Output = error::Result<()>>) -> error::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Runs the chosen benchmarks; one that fails does not keep the others from running.
async fn bench(options: &Options) -> error::Result<()> {
    let mut report = Report::create(options)?;
    let mut failed = Vec::new();
    for bench in &options.benches {
        println!("\n── {}: {} ({})", bench.name, bench.title, machine::load());
        report.section(bench);
        if let Err(why) = (bench.run)(options, &mut report).await {
            eprintln!("── {}: FAILED: {why}", bench.name);
            report.note(format!("FAILED: {why}"));
            failed.push(bench.name);
        }
        report.finish_section()?;
    }
    report.print();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")).into())
    }
}
