//! The benchmarks with tiny inputs, so that they never rot.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn bench(arguments: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapax-bench"));
    command.args(arguments).arg("--smoke").arg("--out").arg(out);
    // They depend on nothing of ours, so that they cannot rot with us; building them takes minutes.
    command.arg("--no-rival");
    command.arg("--server").arg(server());
    command.output().unwrap()
}

/// The gateway, built where our own binary was. A run of all tests has built it already; one of this package has not.
fn server() -> PathBuf {
    let own = Path::new(env!("CARGO_BIN_EXE_hapax-bench"));
    let server = own.with_file_name("hapax");
    if !server.is_file() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--package", "hapax-server", "--all-features"]);
        assert!(cargo.status().unwrap().success(), "the gateway cannot be built");
    }
    server
}

/// Runs one benchmark and gives its table.
fn smoke(name: &str, figures: &[&str], plots: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    let output = bench(&[name], out.path());
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}\n{errors}");
    let results = fs::read_to_string(out.path().join("results.md")).unwrap();
    assert!(
        text.contains(&results),
        "the table on standard output is another:\n{text}"
    );
    for figure in figures {
        let row = results.lines().find(|line| line.starts_with(&format!("| {figure}")));
        let row = row.unwrap_or_else(|| panic!("no figure `{figure}` in:\n{results}"));
        assert!(!row.contains("NaN") && !row.contains("inf"), "{row}");
    }
    for plot in plots {
        let svg = fs::read_to_string(out.path().join(plot)).unwrap();
        assert!(
            svg.starts_with("<svg") && (svg.contains("<circle") || svg.matches("<rect").count() > 3),
            "{plot}"
        );
    }
}

#[test]
fn cycles() {
    let figures = ["SQLite cycles, 4 callers", "PostgreSQL cycles, 4 callers"];
    smoke("cycles", &figures, &["cycles-sqlite.svg", "cycles-postgres.svg"]);
}

#[test]
fn atomic() {
    let figures = [
        "atomic on PostgreSQL, 4 callers",
        "atomic on PostgreSQL, 4 callers: p50",
    ];
    smoke("atomic", &figures, &["atomic.svg"]);
}

#[test]
fn growth() {
    let figures = [
        "SQLite: cost of a cycle, 1 k : 200",
        "SQLite: cost of a replay, 1 k : 200",
        "PostgreSQL: cost of a cycle, 1 k : 200",
        "PostgreSQL: cost of a replay, 1 k : 200",
    ];
    smoke("growth", &figures, &["growth-sqlite.svg", "growth-postgresql.svg"]);
}

#[test]
fn sweep() {
    let figures = [
        "SQLite: worst stall while 2000 records are swept",
        "SQLite: throughput through 0 s of expiry",
        "PostgreSQL: worst stall while 2000 records are swept",
        "PostgreSQL: records forgotten for each that arrived",
    ];
    smoke("sweep", &figures, &["sweep-sqlite.svg", "sweep-postgresql.svg"]);
}

#[test]
fn space() {
    let figures = [
        "SQLite: bytes a record beyond the answer, 500 records",
        "PostgreSQL: bytes a record beyond the answer, 500 records",
        "gateway on SQLite: anonymous memory",
        "gateway on PostgreSQL: anonymous memory",
    ];
    smoke("space", &figures, &[]);
}

#[test]
fn http() {
    let figures = [
        "pass-through : nginx, 4 connections",
        "replay : pass-through, 4 connections",
        "first request on SQLite : pass-through, 4 connections",
        "first request on PostgreSQL : pass-through, 4 connections",
    ];
    smoke("http", &figures, &["http.svg"]);
}

#[test]
fn runner() {
    let figures = [
        "hapax runner, PostgreSQL : hand-written loop, 4 at a time",
        "hapax runner, SQLite : hapax runner, PostgreSQL, 4 at a time",
    ];
    smoke("runner", &figures, &["runner.svg"]);
}

#[test]
fn consume() {
    let figures = [
        "consumer on PostgreSQL, 4 at a time ",
        "consumer on PostgreSQL, 4 at a time: batches",
    ];
    smoke("consume", &figures, &["consume.svg"]);
}

#[test]
fn outbox() {
    let figures = [
        "hapax relay : hand-written relay, 4 at a time",
        "hapax relay, effects enqueued by SQL : hand-written relay, 4 at a time",
        "hapax relay, 4 at a time",
    ];
    smoke("outbox", &figures, &["outbox.svg"]);
}

#[test]
fn policy() {
    let figures = [
        "retry() around a call that succeeds, 1 thread on one destination",
        "retry() around a call that succeeds, 2 threads on one destination",
    ];
    smoke("policy", &figures, &[]);
}

#[test]
fn idle() {
    let figures = [
        "gateway on SQLite while 200 records wait",
        "gateway on PostgreSQL while 200 records wait",
        "PostgreSQL's server while 200 records wait",
    ];
    smoke("idle", &figures, &[]);
}

#[test]
fn storm() {
    let figures = [
        "upstream refuses: most forwarded : offered in any second",
        "upstream closes: longest time without a probe while down",
        "upstream fails: usual rate is back after",
        "upstream busy: most forwarded after it : offered, in any second",
    ];
    let plots = [
        "storm-refuses.svg",
        "storm-closes.svg",
        "storm-fails.svg",
        "storm-busy.svg",
    ];
    smoke("storm", &figures, &plots);
}

#[test]
fn a_missing_rival_is_an_error_and_no_gap() {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapax-bench"));
    command.args(["runner", "--smoke", "--rival", "/nowhere/queue", "--out"]);
    let output = command.arg(out.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/queue"));
}

#[test]
fn a_benchmark_that_cannot_measure_says_so_and_fails() {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapax-bench"));
    command
        .args(["http", "--smoke", "--server", "/nowhere/hapax", "--out"])
        .arg(out.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/hapax"));
    assert!(
        fs::read_to_string(out.path().join("results.md"))
            .unwrap()
            .contains("FAILED")
    );
}

#[test]
fn a_wrong_call_is_refused_with_the_names_there_are() {
    let out = tempfile::tempdir().unwrap();
    let output = bench(&["speed"], out.path());
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("`speed`") && errors.contains("cycles, atomic, growth"),
        "{errors}"
    );
}
