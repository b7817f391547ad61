//! `hapax audit`: who changed records otherwise than by running them, and why. Also what every such change has to say
//! of itself.

use std::collections::VecDeque;
use std::io::{self, Write};

use clap::Args;
use hapax::core::{Audit, AuditEntry, Cursor, OperationId, Store};
use serde_json::{Value, json};

use crate::cli::StoreArg;
use crate::exit::{Exit, Failure};
use crate::store;

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    store: StoreArg,
    /// Only of this key; its record may be forgotten
    key: Option<String>,
    /// Only of this scope
    #[arg(long)]
    scope: Option<String>,
    /// Only of this name
    #[arg(long, visible_alias = "route")]
    name: Option<String>,
    /// The last so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Why a change is made, and who makes it.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Why: kept in the audit, for whoever asks later (required)
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who does it
    #[arg(long, value_name = "NAME", env = "USER")]
    actor: Option<String>,
}

impl Why {
    /// # Errors
    /// If there is no reason, or more than the audit takes.
    pub(crate) fn audit(&self) -> Result<Audit, Failure> {
        const LONGEST_REASON: usize = 1000;
        const LONGEST_ACTOR: usize = 255;
        let reason = one_line(self.reason.as_deref().unwrap_or_default());
        if reason.is_empty() {
            return Err(Failure::new(
                Exit::Usage,
                "say why with --reason TEXT: it stays in the audit (hapax audit), with who did it and when, for whoever \
                 asks later about a payment that was settled by hand; such as --reason 'found it at the bank, INC-7'",
            ));
        }
        let actor = one_line(self.actor.as_deref().unwrap_or_default());
        for (flag, text, longest) in [
            ("--reason", &reason, LONGEST_REASON),
            ("--actor", &actor, LONGEST_ACTOR),
        ] {
            if text.len() > longest {
                let message = format!(
                    "{flag} has {} bytes; the audit takes {longest}: name a ticket and write the rest there",
                    text.len()
                );
                return Err(Failure::new(Exit::Usage, message));
            }
        }
        let actor = if actor.is_empty() { "unknown".to_owned() } else { actor };
        Ok(Audit { actor, reason })
    }
}

/// Without control characters, which would let a text move about in somebody's terminal.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_owned()
}

pub(crate) fn run(args: &List) -> Result<(), Failure> {
    store::runtime()?.block_on(async {
        let store = store::open_existing(&args.store.store).await?;
        let (entries, more) = last(&*store, args).await?;
        let mut out = io::stdout().lock();
        if !args.json && !entries.is_empty() {
            writeln!(
                out,
                "{:<24} {:<12} {:<16} {:<20} KEY  REASON",
                "AT", "ACTOR", "ACTION", "CHANGE"
            )?;
        }
        for entry in &entries {
            if args.json {
                writeln!(out, "{}", value(entry))?;
            } else {
                writeln!(out, "{}", line(entry))?;
            }
        }
        out.flush()?;
        let hint = match (more, entries.is_empty()) {
            (true, _) => "these are the last; raise --limit to see earlier ones",
            (_, true) if args.key.is_some() || args.scope.is_some() || args.name.is_some() => {
                "nobody has changed it by hand, nor has a resolver"
            }
            (_, true) => "nobody has changed a record by hand, nor has a resolver",
            _ => return Ok(()),
        };
        // Data is on standard output.
        let _ = writeln!(io::stderr(), "{hint}");
        Ok(())
    })
}

/// The last entries that fit, and whether there are earlier ones. By the words and not by the operation's identity,
/// since the record that would tell the scope may be gone.
async fn last(store: &dyn Store, args: &List) -> Result<(VecDeque<AuditEntry>, bool), Failure> {
    let fits = |entry: &AuditEntry| {
        let operation = &entry.operation;
        args.key.as_deref().is_none_or(|key| key == operation.key().as_str())
            && args
                .scope
                .as_deref()
                .is_none_or(|scope| scope == operation.scope().as_str())
            && args
                .name
                .as_deref()
                .is_none_or(|name| name == operation.name().as_str())
    };
    let (mut kept, mut more) = (VecDeque::new(), false);
    let mut after: Option<Cursor> = None;
    loop {
        let (entries, next) = store.audit(None, after, 1000).await?;
        for entry in entries.into_iter().filter(fits) {
            kept.push_back(entry);
            if kept.len() > args.limit {
                kept.pop_front();
                more = true;
            }
        }
        after = next;
        if after.is_none() {
            return Ok((kept, more));
        }
    }
}

/// Everything that was done to one operation.
///
/// # Errors
/// The store's.
pub(crate) async fn of(store: &dyn Store, id: OperationId) -> Result<Vec<AuditEntry>, Failure> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (entries, next) = store.audit(Some(id), after, 1000).await?;
        all.extend(entries);
        after = next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// An entry as JSON.
pub(crate) fn value(entry: &AuditEntry) -> Value {
    let operation = &entry.operation;
    json!({
        "at": entry.at.to_string(),
        "actor": entry.audit.actor,
        "action": entry.action,
        "before": entry.before.as_str(),
        "after": entry.after.map(|state| state.as_str()),
        "reason": entry.audit.reason,
        "operation": operation.id().to_string(),
        "scope": operation.scope().as_str(),
        "name": operation.name().as_str(),
        "key": operation.key().as_str(),
    })
}

/// An entry for people.
pub(crate) fn line(entry: &AuditEntry) -> String {
    let after = entry.after.map_or("forgotten", |state| state.as_str());
    let change = format!("{} -> {after}", entry.before);
    format!(
        "{:<24} {:<12} {:<16} {change:<20} {}  {}",
        entry.at.to_string(),
        one_line(&entry.audit.actor),
        entry.action,
        entry.operation.key(),
        one_line(&entry.audit.reason)
    )
}
