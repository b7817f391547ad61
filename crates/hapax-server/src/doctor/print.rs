//! How a report looks.

use std::io::{self, Write};

use serde_json::json;

use super::finding::{Finding, Severity, Step};
use super::{Examined, Report};

/// Columns of a line for people.
const WIDTH: usize = 100;

/// One JSON object.
pub(super) fn json(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    let Examined {
        dialect,
        label,
        version,
        notes,
        ..
    } = report.examined;
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|(finding, allowed)| finding.json(*allowed))
        .collect();
    let value = json!({
        "database": label,
        "dialect": dialect.as_str(),
        "version": version,
        "keys": report.keys,
        "findings": findings,
        "notes": notes,
    });
    writeln!(out, "{value:#}")
}

/// For people.
pub(super) fn plain(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    let Examined {
        label, version, notes, ..
    } = report.examined;
    writeln!(out, "{label} (version {version}), {} declared\n", keys(report.keys))?;
    for (finding, _) in report.findings.iter().filter(|(_, is_allowed)| !is_allowed) {
        one(out, finding)?;
    }
    let allowed: Vec<&str> = report
        .findings
        .iter()
        .filter(|(_, is_allowed)| *is_allowed)
        .map(|(finding, _)| finding.code)
        .collect();
    if !allowed.is_empty() {
        writeln!(out, "allowed: {}", allowed.join(", "))?;
    }
    for note in notes {
        wrapped(out, "note: ", note)?;
    }
    writeln!(out, "{}", verdict(report))
}

fn keys(count: usize) -> String {
    match count {
        0 => "no natural key".to_owned(),
        1 => "1 natural key".to_owned(),
        _ => format!("{count} natural keys"),
    }
}

fn one(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    writeln!(
        out,
        "{}: {}  [{}]",
        finding.severity.as_str(),
        finding.place,
        finding.code
    )?;
    wrapped(out, "    ", &finding.what)?;
    wrapped(out, "    why: ", &finding.why)?;
    for step in &finding.fix {
        match step {
            // Never broken, so that it can be copied.
            Step::Sql(sql) => writeln!(out, "        {sql}")?,
            Step::Do(what) => wrapped(out, "    do: ", what)?,
        }
    }
    writeln!(out)
}

/// A text over several lines, each as far in as the first one's text.
fn wrapped(out: &mut impl Write, first: &str, text: &str) -> io::Result<()> {
    let indent = " ".repeat(first.len());
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            line = indent.clone();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(out, "{line}")
}

fn verdict(report: &Report<'_>) -> String {
    let count = |severity| {
        let counts = |(finding, is_allowed): &&(&Finding, bool)| finding.severity == severity && !is_allowed;
        report.findings.iter().filter(counts).count()
    };
    match (count(Severity::Danger), count(Severity::Caution)) {
        (0, 0) => "nothing found".to_owned(),
        (dangers, cautions) => format!("found: danger {dangers}, caution {cautions}"),
    }
}
