//! `hapax doctor`: looks at a database that effects happen in, and says what would let them happen twice or get lost.
//!
//! It reads catalogs and settings, and the declared natural keys; it changes nothing, and looks at no row of the user's.

mod advice;
mod clocks;
mod finding;
mod keys;
mod mysql;
mod names;
mod ours;
mod postgres;
mod print;
mod shape;
mod sqlite;
mod target;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hapax::store::Clock;

use crate::config::Source;
use crate::config::guard::Guards;
use crate::exit::{Exit, Failure};
use crate::store;
use finding::{CODES, Finding};
use shape::Dialect;
use target::Target;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The database: postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:FILE
    #[arg(long, value_name = "URL", env = "HAPAX_DATABASE", hide_env_values = true)]
    database: Target,
    /// A file with natural keys: [guard."orders"] natural_key = ["customer_id", "client_order_id"]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do not count findings of this code; may be repeated
    #[arg(long, value_name = "CODE", value_parser = code)]
    allow: Vec<&'static str>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) const HELP: &str = "\
It looks at each natural key that the file declares (is there a unique index that really protects it?), at hapax's own
tables, at settings that lose commits, at isolation, and at the clock. It reads catalogs only and changes nothing.

Examples:
  hapax doctor --database postgres://app@db/shop --config hapax.toml
  HAPAX_DATABASE=postgres://app:PASSWORD@db/shop hapax doctor --config hapax.toml --json
  hapax doctor --database mysql://app@db/shop --config hapax.toml --allow isolation
  hapax doctor --database sqlite:shop.db --config hapax.toml --allow key-collation

Exit codes: 0 nothing found, 1 something found, 2 usage or configuration, 3 the database cannot be reached or read.";

fn code(text: &str) -> Result<&'static str, String> {
    CODES.iter().find(|code| **code == text).copied().ok_or_else(|| {
        let nearest = CODES.iter().min_by_key(|code| strsim::damerau_levenshtein(text, code));
        format!(
            "there is no such code; did you mean {}?",
            nearest.copied().unwrap_or_default()
        )
    })
}

/// What was seen of a database.
struct Examined {
    dialect: Dialect,
    /// Which one, without its password.
    label: String,
    version: String,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

/// What is told of it.
struct Report<'a> {
    examined: &'a Examined,
    /// Natural keys that were declared.
    keys: usize,
    /// The weightiest first; true for those that are allowed.
    findings: Vec<(&'a Finding, bool)>,
}

/// Examines and reports.
///
/// # Errors
/// If the configuration cannot be read, or the database.
pub(crate) fn run(args: &Doctor) -> Result<ExitCode, Failure> {
    let guards = match &args.config {
        Some(file) => Source::read(file)?.parse()?.guard,
        None => Guards::new(),
    };
    let clock = Clock::default();
    let mut examined = match &args.database {
        Target::Postgres(url) => store::runtime()?.block_on(postgres::examine(url, &guards, &clock))?,
        Target::Mysql(url) => store::runtime()?.block_on(mysql::examine(url, &guards, &clock))?,
        Target::Sqlite(file) => sqlite::examine(file, &guards, &clock)?,
    };
    if guards.is_empty() {
        examined.notes.push(match &args.config {
            Some(_) => "no table was looked at: the file declares no natural key".to_owned(),
            None => "no table was looked at: give --config with [guard.\"TABLE\"] natural_key = […]".to_owned(),
        });
    }
    let mut findings: Vec<(&Finding, bool)> = examined
        .findings
        .iter()
        .map(|finding| (finding, args.allow.contains(&finding.code)))
        .collect();
    findings.sort_by_key(|(finding, _)| finding.severity);
    let has_findings = findings.iter().any(|(_, is_allowed)| !is_allowed);
    let report = Report {
        examined: &examined,
        keys: guards.len(),
        findings,
    };
    let mut out = io::stdout().lock();
    if args.json {
        print::json(&mut out, &report)?;
    } else {
        print::plain(&mut out, &report)?;
    }
    out.flush()?;
    Ok(if has_findings {
        ExitCode::from(Exit::Failed as u8)
    } else {
        ExitCode::SUCCESS
    })
}
