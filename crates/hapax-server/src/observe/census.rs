//! What is not settled, counted in the store every few seconds: never on a scrape, which may come as often as it likes.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hapax::Engine;
use hapax::core::{Census, Timestamp};

use super::Metrics;
use super::prometheus::Page;

pub(crate) const PAUSE: Duration = Duration::from_secs(15);

/// The last count.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Option<Seen>>);

#[derive(Debug, Clone)]
struct Seen {
    census: Census,
    at: Timestamp,
}

impl Counted {
    pub(super) fn set(&self, census: Census, at: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { census, at });
    }

    /// Nothing before the first count: zero would say that all is well.
    pub(super) fn render(&self, page: &mut Page) {
        let Some(seen) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return;
        };
        let Seen { census, at } = seen;
        let age = |since: Option<Timestamp>| since.map_or(0.0, |since| at.since(since).as_secs_f64());
        page.gauge(
            "hapax_records_waiting",
            "Records that wait for their next run.",
            census.waiting as f64,
        );
        page.gauge(
            "hapax_records_unknown",
            "Records of which nobody knows whether they happened.",
            census.unknown as f64,
        );
        page.gauge("hapax_records_dead", "Dead letters.", census.dead as f64);
        page.gauge(
            "hapax_oldest_due_seconds",
            "For how long the oldest record that a runner should have run has been due; 0 if none is.",
            age(census.oldest_due),
        );
        page.gauge(
            "hapax_oldest_unknown_seconds",
            "For how long the oldest unknown outcome has been unknown; 0 if there is none.",
            age(census.oldest_unknown),
        );
    }
}

/// Counts for ever.
pub(crate) async fn repeat(engine: Engine, metrics: Arc<Metrics>) {
    let mut clock = tokio::time::interval(PAUSE);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let store = engine.store();
        // The last count stands while the store is down, which other metrics say.
        if let Ok(census) = store.census(false).await
            && let Ok((now, _)) = store.time(false).await
        {
            metrics.counted(census, now);
        }
    }
}
