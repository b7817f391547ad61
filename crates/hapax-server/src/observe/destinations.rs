//! What the retry policy does to the backend's load, read at the moment of a scrape; and a log line when a breaker
//! changes.

use std::sync::Arc;
use std::time::Duration;

use hapax::core::policy::BreakerState;
use hapax::retry::{Destination, Snapshot};

use super::prometheus::Page;

/// The destinations by their names: `upstream`, and routes with a policy of their own. Clones share all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Destinations(Arc<[(String, Destination)]>);

/// How often breakers are looked at: they stay open for longer.
const LOOK: Duration = Duration::from_millis(500);

impl Destinations {
    pub(crate) fn new(destinations: Vec<(String, Destination)>) -> Self {
        Self(destinations.into())
    }

    /// These and others.
    pub(crate) fn and(&self, others: Vec<(String, Destination)>) -> Self {
        Self(self.0.iter().cloned().chain(others).collect())
    }

    /// Tells of breakers that open and close, until it is dropped.
    pub(crate) async fn watch(self) {
        let mut known = vec![BreakerState::Closed; self.0.len()];
        let mut clock = tokio::time::interval(LOOK);
        loop {
            clock.tick().await;
            for ((name, destination), known) in self.0.iter().zip(&mut known) {
                let Snapshot { state, .. } = destination.snapshot();
                if let Some(text) = change(*known, state) {
                    tracing::info!(destination = name, state = state.as_str(), "{text}");
                }
                *known = state;
            }
        }
    }

    pub(super) fn render(&self, page: &mut Page) {
        let seen: Vec<(&str, Snapshot)> = self
            .0
            .iter()
            .map(|(name, destination)| (name.as_str(), destination.snapshot()))
            .collect();
        let by_name = |value: fn(&Snapshot) -> f64| -> Vec<([(&str, &str); 1], f64)> {
            let labelled = seen.iter().map(|(name, one)| ([("destination", *name)], value(one)));
            labelled.collect()
        };
        page.labelled(
            "hapax_calls_total",
            "First tries of protected requests at the backend.",
            "counter",
            &by_name(|one| one.calls as f64),
        );
        page.labelled(
            "hapax_retries_total",
            "Further tries: what was spent of the retry budget.",
            "counter",
            &by_name(|one| one.retries as f64),
        );
        page.labelled(
            "hapax_retry_budget_left",
            "Retries that may be made at once.",
            "gauge",
            &by_name(|one| one.budget_left),
        );
        let refused: Vec<_> = seen
            .iter()
            .flat_map(|(name, one)| {
                [("breaker", one.refused_open), ("budget", one.refused_budget)]
                    .map(|(by, number)| ([("destination", *name), ("by", by)], number as f64))
            })
            .collect();
        page.labelled(
            "hapax_not_admitted_total",
            "Tries that were not made, by who refused them.",
            "counter",
            &refused,
        );
        page.labelled(
            "hapax_breaker_probes_total",
            "Tries that were let through to see whether the backend is back.",
            "counter",
            &by_name(|one| one.probes as f64),
        );
        page.labelled(
            "hapax_breaker_state",
            "0 closed, 1 open, 2 probing, 3 ramping.",
            "gauge",
            &by_name(|one| number(one.state)),
        );
    }
}

fn number(state: BreakerState) -> f64 {
    match state {
        BreakerState::Closed => 0.0,
        BreakerState::Open => 1.0,
        BreakerState::Probing => 2.0,
        BreakerState::Ramping => 3.0,
    }
}

/// What is worth a line: open and probing take turns for as long as the backend is down.
fn change(before: BreakerState, after: BreakerState) -> Option<&'static str> {
    let is_down = |state| matches!(state, BreakerState::Open | BreakerState::Probing);
    match (before, after) {
        (before, after) if !is_down(before) && is_down(after) => {
            Some("the breaker opened: the backend fails too often and is left alone")
        }
        (before, BreakerState::Ramping) if is_down(before) => {
            Some("the backend is back: the breaker lets the traffic return little by little")
        }
        (before, BreakerState::Closed) if before != BreakerState::Closed => Some("the breaker closed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_three_lines() {
        use BreakerState::{Closed, Open, Probing, Ramping};
        let outage = [Closed, Open, Probing, Open, Probing, Ramping, Closed];
        let lines: Vec<_> = outage.windows(2).filter_map(|two| change(two[0], two[1])).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(change(Ramping, Open).is_some(), "down again");
        // Faster than anyone looks.
        assert!(change(Open, Closed).is_some());
    }

    #[test]
    fn states_have_numbers_of_their_own() {
        use BreakerState::{Closed, Open, Probing, Ramping};
        assert_eq!([Closed, Open, Probing, Ramping].map(number), [0.0, 1.0, 2.0, 3.0]);
    }
}
