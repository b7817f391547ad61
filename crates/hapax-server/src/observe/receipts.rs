//! Receipts that are there, are missing, and are gone.

use hapax::Event;

use super::Counter;
use super::prometheus::Page;

const CHECKED: [&str; 2] = ["found", "missing"];

/// Counters of what looks after receipts.
#[derive(Debug, Default)]
pub(super) struct ReceiptMetrics {
    checked: [Counter; CHECKED.len()],
    purged: Counter,
    failures: Counter,
}

impl ReceiptMetrics {
    pub(super) fn count(&self, event: &Event<'_>) {
        match event {
            Event::ReceiptChecked { found, .. } => self.checked[usize::from(!found)].add(1),
            Event::ReceiptsPurged { rows } => self.purged.add(*rows),
            Event::ReceiptsFailed { .. } => self.failures.add(1),
            _ => {}
        }
    }

    pub(super) fn render(&self, page: &mut Page) {
        let checked: Vec<_> = CHECKED.into_iter().zip(&self.checked).collect();
        page.family(
            "hapax_receipts_checked_total",
            "Answered operations whose receipt was looked for.",
            "receipt",
            &checked,
        );
        page.counter(
            "hapax_receipts_purged_total",
            "Receipts removed after their records.",
            &self.purged,
        );
        page.counter(
            "hapax_receipts_failures_total",
            "Times that receipts could not be looked after.",
            &self.failures,
        );
    }
}
