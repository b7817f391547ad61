//! What became of effects, name by name, and what waits in the databases of applications.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hapax::Event;
use hapax::core::{Operation, StateName};
use hapax::outbox::{Moved, SCOPE};

use super::Counter;
use super::prometheus::Page;

/// What becomes of a delivery.
const BECAME: [&str; 4] = ["delivered", "retried", "dead", "unknown"];

/// Counters of the relays.
#[derive(Debug, Default)]
pub(crate) struct OutboxMetrics {
    names: OnceLock<Vec<(String, [Counter; BECAME.len()])>>,
    moved: Counter,
    duplicates: Counter,
    refused: Counter,
    failures: Counter,
    staged: Mutex<Option<Staged>>,
}

/// What is in the staging tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Staged {
    pub(crate) waiting: u64,
    pub(crate) refused: u64,
    pub(crate) oldest: Duration,
}

impl OutboxMetrics {
    /// The names whose effects are counted; once, before anything is delivered.
    pub(crate) fn watch(&self, names: impl Iterator<Item = String>) {
        let _ = self.names.set(names.map(|name| (name, Default::default())).collect());
    }

    pub(crate) fn moved(&self, moved: &Moved) {
        self.moved.add(moved.new as u64);
        self.duplicates.add(moved.before as u64);
        self.refused.add(moved.refused as u64);
    }

    pub(crate) fn failed(&self) {
        self.failures.add(1);
    }

    pub(crate) fn staged(&self, staged: Staged) {
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
    }

    pub(super) fn count(&self, event: &Event<'_>) {
        match event {
            Event::Finished { operation, state, .. } => match state {
                StateName::Done => self.bump(operation, 0),
                StateName::Unknown => self.bump(operation, 3),
                _ => {}
            },
            Event::Retried { operation, .. } => self.bump(operation, 1),
            Event::Died { operation, .. } => self.bump(operation, 2),
            _ => {}
        }
    }

    fn bump(&self, operation: &Operation, what: usize) {
        let Some(names) = self.names.get() else { return };
        if operation.scope().as_str() != SCOPE {
            return;
        }
        if let Some((_, counters)) = names.iter().find(|(name, _)| name == operation.name().as_str()) {
            counters[what].add(1);
        }
    }

    /// Nothing where there is no outbox.
    pub(super) fn render(&self, page: &mut Page) {
        let Some(names) = self.names.get() else { return };
        let seen: Vec<_> = names
            .iter()
            .flat_map(|(name, counters)| {
                let became = BECAME.iter().zip(counters);
                became.map(move |(became, counter)| {
                    ([("effect", name.as_str()), ("became", *became)], counter.get() as f64)
                })
            })
            .collect();
        page.labelled(
            "hapax_outbox_deliveries_total",
            "Deliveries of effects, by what became of them.",
            "counter",
            &seen,
        );
        page.counter(
            "hapax_outbox_moved_total",
            "Staged effects that were taken over.",
            &self.moved,
        );
        page.counter(
            "hapax_outbox_duplicates_total",
            "Staged effects that had been enqueued before, and are delivered once.",
            &self.duplicates,
        );
        page.counter(
            "hapax_outbox_refused_total",
            "Staged effects that can never be taken over.",
            &self.refused,
        );
        page.counter(
            "hapax_outbox_failures_total",
            "Rounds in which a staging table, or the store, failed.",
            &self.failures,
        );
        let staged = *self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(staged) = staged else { return };
        page.gauge(
            "hapax_outbox_staged",
            "Effects in staging tables that wait to be taken over.",
            staged.waiting as f64,
        );
        page.gauge(
            "hapax_outbox_staged_refused",
            "Effects in staging tables that can never be taken over.",
            staged.refused as f64,
        );
        page.gauge(
            "hapax_outbox_staged_oldest_seconds",
            "For how long the oldest of them that waits has been waiting; 0 if none is.",
            staged.oldest.as_secs_f64(),
        );
    }
}
