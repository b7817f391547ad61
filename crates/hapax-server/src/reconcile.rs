//! `hapax reconcile`: compares what records say with what receipts prove. It changes nothing.
//!
//! Both sides go on while it reads: what disagrees is read again before it is told.

mod print;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hapax::core::{Filter, OperationId, Retention, StateName, Store, Summary, Timestamp};
use hapax::receipts::{Receipt, Receipts};

use crate::config::Config;
use crate::config::flags::Flags;
use crate::config::outbox::DatabaseUrl;
use crate::config::receipts::{Written, written};
use crate::config::retention::longest;
use crate::config::values::StoreUrl;
use crate::exit::{Exit, Failure};
use crate::store;

pub(crate) const HELP: &str = "\
It reads all records and all receipts, and lists what disagrees:
  no-receipt       a record is done with 2xx or 3xx, and there is no receipt
                   (only of names that leave any)
  sealed           the same, and it is sealed: no attempt of it can have committed
  other-status     both have a status, and not the same
  not-done         a receipt proves that it happened, and the record says something else
  unknown          the same, of an outcome that nobody knows: a gateway with --receipts settles it
  no-record        a receipt without a record, younger than records are remembered:
                   the store has lost some (after a restore: hapax serve --recovering)
Unknown outcomes are listed by age, too; they are no disagreement by themselves.

Examples:
  hapax reconcile --config hapax.toml
  hapax reconcile --store sqlite:hapax.db --database postgres://shop@db/shop --json

Exit codes: 0 all agrees, 1 something disagrees, 2 usage or configuration,
3 something cannot be reached.";

#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// The gateway's file: its store, its receipts' database, its routes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where records live: sqlite:FILE or postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "URL", env = "HAPAX_STORE", hide_env_values = true)]
    store: Option<StoreUrl>,
    /// The database with the receipts
    #[arg(long, value_name = "URL", env = "HAPAX_RECEIPTS", hide_env_values = true)]
    database: Option<DatabaseUrl>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Records or receipts in one step.
const PAGE: usize = 500;

/// Two that disagree. Either may be missing.
struct Finding {
    code: &'static str,
    operation: OperationId,
    record: Option<Summary>,
    receipt: Option<Receipt>,
}

/// An unknown outcome.
struct Unknown {
    record: Summary,
    age: Duration,
}

/// What was seen.
#[derive(Default)]
struct Report {
    records: usize,
    receipts: usize,
    seals: usize,
    findings: Vec<Finding>,
    /// The oldest first.
    unknown: Vec<Unknown>,
}

/// Compares and reports.
///
/// # Errors
/// If the store or the database cannot be read.
pub(crate) fn run(args: &Reconcile) -> Result<ExitCode, Failure> {
    let config = match &args.config {
        Some(file) => Some(Config::load(Some(file), &Flags::default())?),
        None => None,
    };
    let named = config.as_ref().and_then(|config| config.receipts.database.clone());
    let Some(database) = args.database.clone().or(named) else {
        let message = "no database with receipts is named: give --database URL, or a file with [receipts]";
        return Err(Failure::new(Exit::Usage, message));
    };
    let store = args
        .store
        .clone()
        .or(config.as_ref().map(|config| config.store.clone()));
    let store = store.unwrap_or_else(|| Config::default().store);
    let report = store::runtime()?.block_on(async {
        let comparison = Comparison {
            store: store::open_existing(&store).await?,
            receipts: hapax::receipts::connect(&database.0).await?,
            remember_for: config.as_ref().map_or(Retention::default().remember_for, longest),
            written: config.as_ref().map(habits).unwrap_or_default(),
            known: HashSet::new(),
            leave: HashSet::new(),
            lacking: Vec::new(),
            report: Report::default(),
        };
        comparison.run().await
    })?;
    print::print(&report, args.json)?;
    Ok(match report.findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Exit::Failed as u8),
    })
}

/// What the configuration says of each name.
fn habits(config: &Config) -> HashMap<String, Written> {
    let routes = config
        .routes
        .iter()
        .map(|route| (route.name.to_string(), written(config, Some(route))));
    routes.chain([("default".to_owned(), written(config, None))]).collect()
}

struct Comparison {
    store: Arc<dyn Store>,
    receipts: Arc<dyn Receipts>,
    remember_for: Duration,
    written: HashMap<String, Written>,
    known: HashSet<OperationId>,
    /// Names that leave receipts.
    leave: HashSet<String>,
    /// Done without a receipt.
    lacking: Vec<Finding>,
    report: Report,
}

impl Comparison {
    async fn run(mut self) -> Result<Report, Failure> {
        let mut after = None;
        loop {
            let page = self.store.list(Filter::default(), after, PAGE).await?;
            let ids: Vec<OperationId> = page.records.iter().map(|record| record.operation.id()).collect();
            // After the records: what is done by then has left its receipt.
            let rows = self.receipts.heads(&ids).await?;
            let mut rows: HashMap<OperationId, Receipt> = rows.into_iter().map(|row| (row.operation, row)).collect();
            for record in page.records {
                let row = rows.remove(&record.operation.id());
                self.compare(record, row, page.now).await?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.without_record().await?;
        let Self {
            written,
            leave,
            lacking,
            mut report,
            ..
        } = self;
        let should = |finding: &Finding| {
            let name = finding
                .record
                .as_ref()
                .map_or("", |record| record.operation.name().as_str());
            match written.get(name) {
                Some(Written::Required) => true,
                Some(Written::Never) => false,
                Some(Written::IfSeen) | None => leave.contains(name),
            }
        };
        report.findings.extend(lacking.into_iter().filter(should));
        report.unknown.sort_by_key(|unknown| std::cmp::Reverse(unknown.age));
        Ok(report)
    }

    async fn compare(&mut self, record: Summary, row: Option<Receipt>, now: Timestamp) -> Result<(), Failure> {
        self.report.records += 1;
        let operation = record.operation.id();
        self.known.insert(operation);
        let proven = row.as_ref().is_some_and(|row| !row.sealed);
        if proven {
            self.leave.insert(record.operation.name().as_str().to_owned());
        }
        if record.state == StateName::Unknown {
            self.report.unknown.push(Unknown {
                record: record.clone(),
                age: now.since(record.since),
            });
        }
        let status = row.as_ref().and_then(|row| row.status);
        let code = match (record.state, proven) {
            (StateName::Done, true) if record.status.is_some() && status.is_some() && record.status != status => {
                "other-status"
            }
            (StateName::Done, false) if record.status.is_some_and(|status| (200..400).contains(&status)) => {
                match row.is_some() {
                    true => "sealed",
                    false => "no-receipt",
                }
            }
            (StateName::Unknown, true) => "unknown",
            (StateName::Waiting | StateName::Dead, true) => "not-done",
            // One that runs has perhaps just committed.
            _ => return Ok(()),
        };
        let finding = Finding {
            code,
            operation,
            record: Some(record),
            receipt: row,
        };
        if self.has_moved(&finding).await? {
            return Ok(());
        }
        match code {
            "no-receipt" | "sealed" => self.lacking.push(finding),
            _ => self.report.findings.push(finding),
        }
        Ok(())
    }

    /// Whether the record is another by now: it was compared with what came after it.
    async fn has_moved(&self, finding: &Finding) -> Result<bool, Failure> {
        let (now, record) = self.store.read(finding.operation).await?;
        let still = record.map(|record| Summary::of(&record, now));
        Ok(match (&finding.record, still) {
            (Some(before), Some(still)) => before.state != still.state || before.fence != still.fence,
            _ => true,
        })
    }

    async fn without_record(&mut self) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let rows = self.receipts.list(after, PAGE as u32).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some(last.operation);
            for row in rows {
                if row.sealed {
                    self.report.seals += 1;
                    continue;
                }
                self.report.receipts += 1;
                // What is older waits to be purged.
                let missing = !self.known.contains(&row.operation) && row.age <= self.remember_for;
                if missing && self.store.read(row.operation).await?.1.is_none() {
                    self.report.findings.push(Finding {
                        code: "no-record",
                        operation: row.operation,
                        record: None,
                        receipt: Some(row),
                    });
                }
            }
        }
    }
}
