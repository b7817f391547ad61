//! `hapax records`: what the store remembers, listed, shown, settled and forgotten on purpose.

pub(crate) mod print;
mod resolve;
pub(crate) mod which;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use hapax::core::{Amend, Amended, Amendment, Cursor, Filter, OperationId, StateName};

use crate::audit::Why;
use crate::cli::StoreArg;
use crate::exit::{Exit, Failure};
use crate::store;
use which::Which;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List records, oldest first
    Ls(List),
    /// Show one record
    Show(Show),
    /// Say what became of an operation whose outcome is unknown
    #[command(after_help = RESOLVE_HELP)]
    Resolve(Box<resolve::Resolve>),
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
    #[command(flatten)]
    why: Why,
    /// Forget it even if nobody knows whether it happened: it may then happen twice
    #[arg(long)]
    even_unknown: bool,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

const RESOLVE_HELP: &str = "\
Look at the backend first: does it have the order, the payment, the row? Then say so.
  --done       It is there. Retries are told so; with --status and --body-file they get an answer
               as if it had come in time.
  --not-done   It is not there, and can no longer get there: that counts only --settle after the
               attempt was cut off.
  --dead       Nobody can tell, or it is not to happen any more.
An attempt that wakes up afterwards cannot change the verdict. A dead letter can be resolved, too,
but only as done.

Examples:
  hapax records ls --state unknown
  hapax records resolve k-1 --done --status 201 --body-file order.json --reason 'order 81 exists'
  hapax records resolve k-2 --not-done --reason 'the provider has no such payment'";

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
            Command::Resolve(args) => resolve::resolve(*args).await,
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
        ..Filter::default()
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
    let found = args.which.find(&*store).await?;
    let (now, record) = store.read(found.operation.id()).await?;
    let record = record.ok_or_else(|| args.which.absent())?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", print::record(&record, now, args.body))?;
    } else {
        print::plain(&mut out, &record, now, args.body)?;
    }
    Ok(())
}

async fn forget(args: Forget) -> Result<(), Failure> {
    let audit = args.why.audit()?;
    let store = store::open_existing(&args.store.store).await?;
    let found = args.which.find(&*store).await?;
    let amendment = Amendment {
        amend: Amend::Forget {
            even_unknown: args.even_unknown,
        },
        fence: Some(found.fence),
        audit,
    };
    let operation = &found.operation;
    let id: OperationId = operation.id();
    match store.amend(id, amendment).await? {
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
        Amended::Absent => Err(args.which.absent()),
        Amended::Refused(StateName::Unknown) => Err(Failure::new(
            Exit::Failed,
            "nobody knows whether it happened, so forgetting it may make it happen twice; look at the backend first, \
             then say what you found with hapax records resolve, or repeat this with --even-unknown",
        )),
        Amended::Refused(state) => Err(Failure::new(
            Exit::Failed,
            format!("it is {state}: wait until it has ended, then try again"),
        )),
        Amended::Changed(state) => Err(Failure::new(
            Exit::Failed,
            format!("it changed just now and is {state}; nothing was forgotten: look at it again, then repeat this"),
        )),
        Amended::Became(_) | Amended::Unsettled(_) => Err(Failure::new(
            Exit::Internal,
            "the store answered something else than was asked",
        )),
    }
}
