//! Counts what engines and runners tell of.

use std::sync::atomic::{AtomicU64, Ordering};

use hapax::{Event, Observer};
use hapax_core::policy::BreakerState;

use super::Counts;

#[derive(Default)]
pub(super) struct Tally {
    retries: AtomicU64,
    put_off: AtomicU64,
    opened: AtomicU64,
    suspects: AtomicU64,
    fenced: AtomicU64,
}

impl Observer for Tally {
    fn event(&self, event: &Event<'_>) {
        let count = match event {
            Event::Retried { .. } => &self.retries,
            Event::PutOff { .. } => &self.put_off,
            Event::BreakerChanged {
                state: BreakerState::Open,
                ..
            } => &self.opened,
            Event::Suspect { .. } => &self.suspects,
            Event::Fenced { .. } => &self.fenced,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Tally {
    pub(super) fn add_to(&self, counts: &mut Counts) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        counts.retries += read(&self.retries);
        counts.put_off += read(&self.put_off);
        counts.opened += read(&self.opened);
        counts.suspects += read(&self.suspects);
        counts.fenced += read(&self.fenced);
    }
}
