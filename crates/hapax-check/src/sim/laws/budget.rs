//! The law of the retry budget, checked on every start of every runner.

use super::Laws;

/// The window of every budget of a simulation.
const WINDOW_MS: u64 = 10_000;
/// The window moves in steps of this.
const STEP_MS: u64 = 1_000;

/// What one process's runner has started.
#[derive(Default)]
pub(super) struct Starts(Vec<Start>);

struct Start {
    at_ms: u64,
    retry: bool,
    /// Probes of its breaker by then.
    probes: u64,
}

impl Laws {
    /// A process begins: its budget is new.
    pub(in super::super) fn node_starts(&mut self, node: usize) {
        self.starts.remove(&node);
    }

    /// A runner's handler began.
    pub(in super::super) fn runs(&mut self, node: usize, number: usize, at_ms: u64, probes: u64) {
        let Some(held) = self.pasts.get(&number).and_then(|past| past.held) else {
            return;
        };
        // Suspects run whatever the budget says: put off, they would look as if they had not crashed.
        if held.alone {
            return;
        }
        let budget = self.plan.policy.budget;
        let Starts(starts) = self.starts.entry(node).or_default();
        let retry = held.retry;
        starts.push(Start { at_ms, retry, probes });
        let count = |retry: bool, window_ms: u64| {
            let from = at_ms.saturating_sub(window_ms);
            let within = starts.iter().filter(|start| start.at_ms > from && start.retry == retry);
            within.count() as f64
        };
        let before = starts.iter().rev().find(|start| start.at_ms + WINDOW_MS < at_ms);
        let probes = probes - before.map_or(0, |start| start.probes);
        let (first, retries) = (count(false, WINDOW_MS + STEP_MS), count(true, WINDOW_MS - STEP_MS));
        let most = (budget.share * first).max(budget.floor * (WINDOW_MS as f64 / 1000.0)) + probes as f64 + 1.0;
        if retry && retries > most {
            let what = format!("{retries} retries in node {node} beside {first} first starts; {most} are allowed");
            self.broken("budget", what);
        }
    }
}
