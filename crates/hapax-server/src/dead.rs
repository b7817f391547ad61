//! `hapax dead`: what no automatic retry will touch again, looked at, run again, or closed.
//!
//! It runs nothing itself: a redriven record waits, and whoever takes it goes through the same claim as everyone else.

mod canary;
mod choice;
mod groups;
mod moment;
mod pace;
mod progress;
mod redrive;
mod stop;
mod tally;
mod walk;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use hapax::core::{DeadReason, State, StateName, Summary};

use crate::audit;
use crate::cli::StoreArg;
use crate::exit::{Exit, Failure};
use crate::records::print;
use crate::records::which::Which;
use crate::store;
use choice::{Filters, Matching};

pub(crate) const HELP: &str = "\
The way out of an incident:
  hapax dead ls --group                                     what failed, by the error, and how often
  hapax dead show k-1                                       one of them, whole
  hapax dead redrive --all --signature 'status 503' --dry-run
  hapax dead redrive --all --signature 'status 503' --canary 5 --reason 'bank is back, INC-7'
  hapax dead discard k-1 --reason 'customer paid cash'

A redriven record runs at once if its input is stored and a gateway runs on the store; else at
its next arrival. Interrupted, a redrive can be run again: what was redriven is no longer dead, so
nothing runs twice.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List dead letters, oldest first, or how many there are of each kind
    #[command(mut_arg("dead_reason", |reason| reason.visible_alias("reason")))]
    Ls(List),
    /// Show one dead letter: why it is dead, its last error, and what was done to it by hand
    Show(Show),
    /// Send dead letters back to be run
    #[command(after_help = REDRIVE_HELP)]
    Redrive(Box<redrive::Redrive>),
    /// Close dead letters: done, without an answer
    #[command(after_help = DISCARD_HELP)]
    Discard(Box<redrive::Discard>),
}

const REDRIVE_HELP: &str = "\
A redrive gives a record its tries back and makes it waiting. Attempts made before can no longer
finish it. What is not dead any more is skipped, so what is done never runs again. What dies again
while the command runs is left alone: only what was dead before --before is redriven.

Examples:
  hapax dead redrive k-1 --reason 'card unblocked'
  hapax dead redrive --all --route charge --older-than 1h --dry-run
  hapax dead redrive --all --dead-reason exhausted --canary 5 --rate 20/s --reason 'INC-7 is over'";

const DISCARD_HELP: &str = "\
The record stays and says that the operation is closed, so that a late retry does not run it. Its
input is dropped.

Examples:
  hapax dead discard k-1 --reason 'customer paid cash'
  hapax dead discard --all --route send-mail --older-than 7d --dry-run";

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    filters: Filters,
    /// Count them by why they are dead and by what their errors have in common
    #[arg(long)]
    group: bool,
    /// At most this many lines
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
    /// Show the last failure's answer with headers and body, too
    #[arg(long)]
    body: bool,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    store::runtime()?.block_on(async {
        match command {
            Command::Ls(args) => list(&args).await,
            Command::Show(args) => show(&args).await,
            Command::Redrive(args) => redrive::redrive(*args).await,
            Command::Discard(args) => redrive::discard(*args).await,
        }
    })
}

async fn list(args: &List) -> Result<(), Failure> {
    let store = store::open_existing(&args.store.store).await?;
    let (now, _) = store.time(false).await?;
    let mut matching = Matching::new(&args.filters, None, now);
    let mut out = io::stdout().lock();
    let (mut left, mut more) = (args.limit, false);
    if args.group {
        let mut groups = groups::Groups::default();
        while let Some(page) = matching.next(&*store).await? {
            page.iter().for_each(|summary| groups.add(summary));
        }
        more = groups.write(&mut out, args.json, args.limit)?;
        left -= groups.len().min(left);
    } else {
        while let Some(page) = matching.next(&*store).await? {
            more = page.len() > left;
            for summary in page.iter().take(left) {
                if left == args.limit && !args.json {
                    writeln!(
                        out,
                        "{:<10} {:<5} {:<24} {:<16} {:<6} KEY  LAST ERROR",
                        "REASON", "TRIES", "SINCE", "ROUTE", "INPUT"
                    )?;
                }
                row(&mut out, summary, args.json)?;
                left -= 1;
            }
            if more {
                break;
            }
        }
    }
    out.flush()?;
    let hint = match (more, left == args.limit) {
        (true, _) => "there are more; raise --limit, or narrow with --route, --dead-reason, --older-than",
        (_, true) if args.limit > 0 && args.filters.narrow() => "no dead letter fits; ask for less",
        (_, true) if args.limit > 0 => "no dead letters",
        _ => return Ok(()),
    };
    // Data is on standard output.
    let _ = writeln!(io::stderr(), "{hint}");
    Ok(())
}

fn row(out: &mut impl Write, summary: &Summary, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", print::brief(summary));
    }
    writeln!(
        out,
        "{:<10} {:<5} {:<24} {:<16} {:<6} {}  {}",
        summary.dead.map_or("-", |reason| reason.as_str()),
        summary.tries,
        summary.since.to_string(),
        summary.operation.name().as_str(),
        if summary.has_input { "stored" } else { "none" },
        summary.operation.key(),
        summary.last_error.as_ref().map_or("-", |error| error.as_str())
    )
}

async fn show(args: &Show) -> Result<(), Failure> {
    let store = store::open_existing(&args.store.store).await?;
    let found = args.which.find(&*store).await?;
    let (now, record) = store.read(found.operation.id()).await?;
    let record = record.ok_or_else(|| args.which.absent())?;
    let key = print::word(record.operation.key().as_str());
    let state = record
        .lapsed(now)
        .map_or(record.state.name(), |lapsed| lapsed.state.name());
    if state != StateName::Dead {
        return Err(Failure::new(
            Exit::Failed,
            format!("{key} is {state}, not dead; hapax records show {key} shows it"),
        ));
    }
    let entries = audit::of(&*store, record.operation.id()).await?;
    let mut out = io::stdout().lock();
    if args.json {
        let mut value = print::record(&record, now, args.body);
        value["audit"] = entries.iter().map(audit::value).collect();
        writeln!(out, "{value}")?;
        return Ok(());
    }
    print::plain(&mut out, &record, now, args.body)?;
    if !entries.is_empty() {
        writeln!(out, "\nBy hand:")?;
    }
    for entry in &entries {
        writeln!(out, "  {}", audit::line(entry))?;
    }
    let undone = matches!(
        record.state,
        State::Dead {
            reason: DeadReason::Undone,
            ..
        }
    );
    let then = if undone {
        "refused: its compensation has begun"
    } else if record.input.is_some() {
        "a gateway on this store runs it"
    } else {
        "its next arrival runs it: no input is stored"
    };
    writeln!(
        out,
        "\nNext:\n  hapax dead redrive {key} --reason …              {then}\n  hapax records resolve {key} --done --reason …    \
         it happened after all\n  hapax dead discard {key} --reason …              close it"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
