//! `hapax records`: what the store remembers, listed, shown, and forgotten on purpose.

mod print;

use std::io::{self, Write};
use std::sync::Arc;

use clap::{Args, Subcommand};
use hapax::core::{Amend, Amended, Cursor, Filter, OperationId, StateName, Store, Summary};

use crate::cli::StoreArg;
use crate::exit::{Exit, Failure};
use crate::store;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List records, oldest first
    Ls(List),
    /// Show one record
    Show(Show),
    /// Forget one record: the next arrival of its key runs again
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    store: StoreArg,
    /// Only in this state: running, waiting, unknown, done or dead
    #[arg(long, value_parser = state)]
    state: Option<StateName>,
    /// Only of this scope
    #[arg(long)]
    scope: Option<String>,
    /// Only of this name
    #[arg(long)]
    name: Option<String>,
    /// Only with this key
    #[arg(long)]
    key: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Which record. The key alone will do where one scope has it under one name.
#[derive(Debug, Args)]
struct Which {
    /// The idempotency key (after `--` if it begins with a dash)
    key: String,
    /// The scope, as `hapax records ls` shows it
    #[arg(long)]
    scope: Option<String>,
    /// The name of the route
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    which: Which,
    /// Show the stored answer's headers and body, too
    #[arg(long)]
    body: bool,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    which: Which,
    /// Forget it even if nobody knows whether it happened: it may then happen twice
    #[arg(long)]
    even_unknown: bool,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

fn state(text: &str) -> Result<StateName, String> {
    StateName::parse(text).ok_or_else(|| {
        let known: Vec<&str> = StateName::ALL.iter().map(|state| state.as_str()).collect();
        format!("no such state; give one of {}", known.join(", "))
    })
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    store::runtime()?.block_on(async {
        match command {
            Command::Ls(args) => list(args).await,
            Command::Show(args) => show(args).await,
            Command::Forget(args) => forget(args).await,
        }
    })
}

async fn list(args: List) -> Result<(), Failure> {
    let store = store::open_existing(&args.store.store).await?;
    let is_narrowed = args.state.is_some() || args.scope.is_some() || args.name.is_some() || args.key.is_some();
    let filter = Filter {
        state: args.state,
        scope: args.scope,
        name: args.name,
        key: args.key,
    };
    let mut out = io::stdout().lock();
    let mut table = print::Table::new(args.json);
    let (mut after, mut left): (Option<Cursor>, usize) = (None, args.limit);
    while left > 0 {
        let page = store.list(filter.clone(), after, left.min(500)).await?;
        for summary in &page.records {
            table.row(&mut out, summary)?;
        }
        left = left.saturating_sub(page.records.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    out.flush()?;
    let hint = match (left, &after) {
        (0, Some(_)) => "there are more; raise --limit or narrow with --state, --scope, --name",
        _ if left < args.limit || args.json => return Ok(()),
        _ if is_narrowed => "no record fits; ask for less with --state, --scope, --name or --key",
        _ => "no records",
    };
    // Data is on standard output.
    let _ = writeln!(io::stderr(), "{hint}");
    Ok(())
}

async fn show(args: Show) -> Result<(), Failure> {
    let store = store::open_existing(&args.store.store).await?;
    let found = find(&store, &args.which).await?;
    let (now, record) = store.read(found.operation.id()).await?;
    let record = record.ok_or_else(|| absent(&args.which))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", print::record(&record, now, args.body))?;
    } else {
        print::plain(&mut out, &record, now, args.body)?;
    }
    Ok(())
}

async fn forget(args: Forget) -> Result<(), Failure> {
    let store = store::open_existing(&args.store.store).await?;
    let found = find(&store, &args.which).await?;
    let amend = Amend::Forget {
        even_unknown: args.even_unknown,
    };
    let operation = &found.operation;
    let id: OperationId = operation.id();
    match store.amend(id, amend).await? {
        Amended::Forgotten => {
            let mut out = io::stdout().lock();
            if args.json {
                let value = serde_json::json!({
                    "forgotten": true,
                    "operation": id.to_string(),
                    "scope": operation.scope().as_str(),
                    "name": operation.name().as_str(),
                    "key": operation.key().as_str(),
                });
                writeln!(out, "{value}")?;
            } else {
                writeln!(
                    out,
                    "forgotten: {} {} {}",
                    operation.scope(),
                    operation.name(),
                    operation.key()
                )?;
            }
            Ok(())
        }
        Amended::Absent => Err(absent(&args.which)),
        Amended::Refused(StateName::Unknown) => Err(Failure::new(
            Exit::Failed,
            "nobody knows whether it happened, so forgetting it may make it happen twice; look at the backend first, \
             then repeat with --even-unknown",
        )),
        Amended::Refused(state) => Err(Failure::new(
            Exit::Failed,
            format!("it is {state}: wait until it has ended, then try again"),
        )),
    }
}

/// The one record that is meant.
async fn find(store: &Arc<dyn Store>, which: &Which) -> Result<Summary, Failure> {
    let filter = Filter {
        state: None,
        scope: which.scope.clone(),
        name: which.name.clone(),
        key: Some(which.key.clone()),
    };
    let mut found = store.list(filter, None, 50).await?.records;
    match found.len() {
        0 => Err(absent(which)),
        1 => Ok(found.remove(0)),
        _ => {
            let lines: Vec<String> = found
                .iter()
                .map(|summary| {
                    let operation = &summary.operation;
                    format!("  --scope {} --name {}", operation.scope(), operation.name())
                })
                .collect();
            let message = format!("several records have this key; say which:\n{}", lines.join("\n"));
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

fn absent(which: &Which) -> Failure {
    let narrowed = match (&which.scope, &which.name) {
        (None, None) => "",
        _ => " in this scope and under this name",
    };
    Failure::new(
        Exit::Failed,
        format!("there is no record with this key{narrowed}: never asked for, or forgotten since"),
    )
}
