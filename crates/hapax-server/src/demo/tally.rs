//! What the clients saw, what the shop's database says, and the table of both.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hapax_shop::Ledger;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::observe::Counter;

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: Counter,
    pub(super) replays: Counter,
    pub(super) conflicts: Counter,
    pub(super) altered_refused: Counter,
    pub(super) altered_accepted: Counter,
    pub(super) gave_up: Counter,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The first success of each key.
    succeeded: HashMap<String, Bytes>,
    /// Keys that had successes that differ.
    differing: HashSet<String>,
    unknown: HashSet<String>,
}

impl Tally {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Each step leaves it whole.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn succeeded(&self, key: &str, body: &Bytes) {
        let mut seen = self.seen();
        match seen.succeeded.get(key) {
            None => {
                seen.succeeded.insert(key.to_owned(), body.clone());
            }
            Some(first) if first == body => {}
            Some(_) => {
                seen.differing.insert(key.to_owned());
            }
        }
    }

    pub(super) fn unknown(&self, key: &str) {
        self.seen().unknown.insert(key.to_owned());
    }

    /// What is shown while the storm goes on.
    pub(super) fn line(&self) -> String {
        let (succeeded, unknown) = {
            let seen = self.seen();
            (seen.succeeded.len(), seen.unknown.len())
        };
        format!(
            "{} requests, {succeeded} operations done, {} replays, {} conflicts, {unknown} unknown",
            self.sent.get(),
            self.replays.get(),
            self.conflicts.get(),
        )
    }
}

/// One storm's numbers.
#[derive(Debug, Serialize)]
pub(super) struct Column {
    pub(super) requests: u64,
    pub(super) operations: u64,
    pub(super) effects: u64,
    pub(super) doubles: u64,
    pub(super) lost: u64,
    pub(super) differing: u64,
    pub(super) replays: u64,
    pub(super) conflicts: u64,
    pub(super) altered_refused: u64,
    pub(super) altered_accepted: u64,
    pub(super) unknown: u64,
    pub(super) unknown_happened: u64,
    pub(super) gave_up: u64,
}

impl Column {
    /// Counts what is in the shop's database, and compares it with what the clients saw.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(super) fn count(tally: &Tally, database: &Path, operations: u64) -> Result<Self, Failure> {
        let unreadable = |error: hapax_shop::Error| Failure::new(Exit::Internal, error);
        let ledger = Ledger::open(database).map_err(unreadable)?;
        let effects = ledger.total_effects().map_err(unreadable)?;
        let by_key = ledger.effects_by_key().map_err(unreadable)?;
        let seen = tally.seen();
        let lost = seen.succeeded.keys().filter(|key| !by_key.contains_key(*key)).count();
        Ok(Self {
            requests: tally.sent.get(),
            operations,
            effects,
            doubles: by_key.values().map(|effects| effects - 1).sum(),
            lost: lost as u64,
            differing: seen.differing.len() as u64,
            replays: tally.replays.get(),
            conflicts: tally.conflicts.get(),
            altered_refused: tally.altered_refused.get(),
            altered_accepted: tally.altered_accepted.get(),
            unknown: seen.unknown.len() as u64,
            unknown_happened: seen.unknown.iter().filter(|key| by_key.contains_key(*key)).count() as u64,
            gave_up: tally.gave_up.get(),
        })
    }
}

/// The table at the end.
pub(super) fn print(out: &mut impl Write, with: &Column, without: &Column) -> io::Result<()> {
    type Cell = fn(&Column) -> u64;
    let rows: [(&str, Cell, &str); 12] = [
        ("requests sent", |c| c.requests, ""),
        ("distinct operations", |c| c.operations, ""),
        ("effects in the shop's database", |c| c.effects, ""),
        ("double effects", |c| c.doubles, "the same operation happened again"),
        ("lost", |c| c.lost, "a client saw success, and nothing happened"),
        ("answers that differ", |c| c.differing, "two answers to one operation"),
        ("replays", |c| c.replays, "duplicates that got the first answer"),
        ("conflicts", |c| c.conflicts, "409 in progress, 422 other payload"),
        ("altered payloads refused", |c| c.altered_refused, ""),
        (
            "altered payloads accepted",
            |c| c.altered_accepted,
            "the key meant something else",
        ),
        (
            "unknown",
            |c| c.unknown,
            "in flight at the kill: reported, never guessed",
        ),
        ("  of which happened", |c| c.unknown_happened, ""),
    ];
    writeln!(out, "{:<32}{:>12}{:>12}", "", "with hapax", "without")?;
    for (name, cell, note) in rows {
        let line = format!("{name:<32}{:>12}{:>12}   {note}", cell(with), cell(without));
        writeln!(out, "{}", line.trim_end())?;
    }
    if with.gave_up + without.gave_up > 0 {
        writeln!(
            out,
            "{:<32}{:>12}{:>12}",
            "clients that gave up", with.gave_up, without.gave_up
        )?;
    }
    let verdict = match (with.doubles, with.lost) {
        (0, 0) => "With hapax, nothing happened twice and nothing was lost.",
        _ => "SOMETHING HAPPENED TWICE OR WAS LOST WITH HAPAX: please report this, with the output of --json.",
    };
    writeln!(out, "\n{verdict}")
}
