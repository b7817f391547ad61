//! How disagreements look.

use std::io::{self, Write};
use std::time::Duration;

use hapax::core::Summary;
use hapax::receipts::Receipt;
use serde_json::{Value, json};

use super::{Finding, Report};
use crate::config::values::Period;
use crate::records::print::brief;

/// On standard output.
pub(super) fn print(report: &Report, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match as_json {
        true => writeln!(out, "{:#}", value(report)),
        false => plain(report, &mut out),
    }
}

fn value(report: &Report) -> Value {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "code": finding.code,
            "operation": finding.operation.to_string(),
            "record": finding.record.as_ref().map(brief),
            "receipt": finding.receipt.as_ref().map(row),
        })
    });
    let unknown = report.unknown.iter().map(|unknown| {
        let mut value = brief(&unknown.record);
        value["age_seconds"] = unknown.age.as_secs().into();
        value
    });
    json!({
        "records": report.records,
        "receipts": report.receipts,
        "seals": report.seals,
        "findings": findings.collect::<Vec<_>>(),
        "unknown": unknown.collect::<Vec<_>>(),
    })
}

fn row(receipt: &Receipt) -> Value {
    json!({
        "fence": receipt.fence.get(),
        "sealed": receipt.sealed,
        "status": receipt.status,
        "at": receipt.at.to_string(),
        "age_seconds": receipt.age.as_secs(),
    })
}

fn plain(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for finding in &report.findings {
        writeln!(out, "{:<13} {}", finding.code, sentence(finding))?;
    }
    for unknown in &report.unknown {
        let age = Period(Duration::from_secs(unknown.age.as_secs()));
        writeln!(out, "unknown for   {age}: {}", who(&unknown.record))?;
    }
    writeln!(
        out,
        "{} records, {} receipts, {} seals: {}",
        report.records,
        report.receipts,
        report.seals,
        match report.findings.len() {
            0 => "all agree".to_owned(),
            1 => "1 disagrees".to_owned(),
            number => format!("{number} disagree"),
        }
    )
}

fn who(record: &Summary) -> String {
    let operation = &record.operation;
    format!("{} {} {}", operation.scope(), operation.name(), operation.key())
}

fn sentence(finding: &Finding) -> String {
    let record = match &finding.record {
        Some(record) => {
            let status = record
                .status
                .map_or_else(String::new, |status| format!(" with {status}"));
            format!(
                "{}: {}{status}, fence {}",
                who(record),
                record.state.as_str(),
                record.fence
            )
        }
        None => format!("operation {}: no record", finding.operation),
    };
    let receipt = match &finding.receipt {
        Some(receipt) if receipt.sealed => format!("sealed up to fence {}", receipt.fence),
        Some(receipt) => {
            let status = receipt
                .status
                .map_or_else(String::new, |status| format!(" with {status}"));
            format!("a receipt{status} of fence {} at {}", receipt.fence, receipt.at)
        }
        None => "no receipt".to_owned(),
    };
    format!("{record}; {receipt}")
}
