//! Runs simulations: `sim --seeds 10000`, `sim --seed 7 --trace`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool speaks on its terminal"
)]

use std::process::ExitCode;
use std::time::Instant;

use hapax_check::sim::{Config, Counts, Report, command, run};

const USAGE: &str = "usage: sim [--seeds COUNT] [--from SEED] [--seed SEED] [--trace]
  --seeds COUNT  simulate so many seeds (1,000)
  --from SEED    beginning with this one (0)
  --seed SEED    simulate this one only
  --trace        print every event";

struct Wanted {
    seeds: std::ops::Range<u64>,
    trace: bool,
}

fn main() -> ExitCode {
    let wanted = match parse(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let config = Config {
        keep_trace: wanted.trace,
        ..Config::default()
    };
    let started = Instant::now();
    let (mut total, mut broken, mut number) = (Counts::default(), 0, 0_u64);
    for seed in wanted.seeds {
        let report = run(seed, &config);
        total.add(&report.counts);
        number += 1;
        report.trace.iter().for_each(|line| println!("{line}"));
        if !report.violations.is_empty() {
            broken += 1;
            show(&report);
        }
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "{number} worlds in {took:.1} s ({:.0} a second): {total:?}",
        number as f64 / took
    );
    if broken > 0 {
        eprintln!("{broken} of {number} seeds broke a law");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn show(report: &Report) {
    eprintln!(
        "seed {} broke a law; to see it again: {} --trace",
        report.seed,
        command(report.seed)
    );
    report
        .violations
        .iter()
        .for_each(|violation| eprintln!("  {violation}"));
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let (mut count, mut from, mut only, mut trace) = (1_000, 0, None, false);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|error| format!("{word} {text}: {error}"))
        };
        match word.as_str() {
            "--seeds" => count = number()?,
            "--from" => from = number()?,
            "--seed" => only = Some(number()?),
            "--trace" => trace = true,
            _ => return Err(format!("{word} is not known")),
        }
    }
    let seeds = only.map_or(from..from.saturating_add(count), |seed| seed..seed.saturating_add(1));
    Ok(Wanted { seeds, trace })
}
