//! What runners did, and what became of what was laid before them.

use hapax::Event;
use hapax::core::policy::FailureClass;
use hapax::core::{DeadReason, Refusal, StateName};
use hapax::retry::NotAdmitted;

use super::Counter;
use super::prometheus::Page;

const TAKEN: [&str; 2] = ["run", "resolve"];
const ENDED: [&str; 5] = ["retried", "put-off-breaker", "put-off-budget", "died", "unattended"];
/// Who finds out what became of an unknown outcome.
const RESOLVERS: [&str; 4] = ["receipt", "probe", "outbox", "other"];

/// Counters of runners.
#[derive(Debug, Default)]
pub(super) struct WorkMetrics {
    absorbed: Counter,
    accepted: Counter,
    taken: [Counter; TAKEN.len()],
    ended: [Counter; ENDED.len()],
    retried: [Counter; FailureClass::ALL.len()],
    died: [Counter; DeadReason::ALL.len()],
    /// By resolver, and in that by what the record became.
    resolved: [[Counter; StateName::ALL.len()]; RESOLVERS.len()],
    unresolved: Counter,
    suspects: Counter,
}

/// A duplicate that did not run, and would have had its effect twice. One with another fingerprint is no duplicate.
fn is_absorbed(refusal: &Refusal) -> bool {
    !matches!(
        refusal,
        Refusal::Mismatch | Refusal::OtherRecipe(_) | Refusal::AttemptOver
    )
}

impl WorkMetrics {
    pub(super) fn count(&self, event: &Event<'_>) {
        match event {
            Event::Refused { refusal, .. } => self.absorbed.add(u64::from(is_absorbed(refusal))),
            Event::Enqueued { .. } => self.accepted.add(1),
            Event::Taken { runs, resolves, .. } => {
                self.taken[0].add(*runs as u64);
                self.taken[1].add(*resolves as u64);
            }
            Event::Retried { class, .. } => {
                self.ended[0].add(1);
                bump(&self.retried, &FailureClass::ALL, class);
            }
            Event::PutOff { by, .. } => match by {
                NotAdmitted::Open { .. } => self.ended[1].add(1),
                NotAdmitted::BudgetSpent => self.ended[2].add(1),
            },
            Event::Died { reason, .. } => {
                self.ended[3].add(1);
                bump(&self.died, DeadReason::ALL, reason);
            }
            Event::Unattended { .. } => self.ended[4].add(1),
            Event::Resolved { by, state, .. } => {
                let known = RESOLVERS.iter().position(|name| name == by);
                let resolver = known.unwrap_or(RESOLVERS.len() - 1);
                bump(&self.resolved[resolver], StateName::ALL, state);
            }
            Event::Unresolved { .. } => self.unresolved.add(1),
            Event::Suspect { .. } => self.suspects.add(1),
            _ => {}
        }
    }

    pub(super) fn render(&self, page: &mut Page) {
        page.counter(
            "hapax_duplicates_absorbed_total",
            "Duplicates that did not run: effects that would have happened twice.",
            &self.absorbed,
        );
        page.counter(
            "hapax_async_accepted_total",
            "Requests accepted with respond-async, to be run by a runner.",
            &self.accepted,
        );
        let taken: Vec<_> = TAKEN.into_iter().zip(&self.taken).collect();
        page.family(
            "hapax_runner_taken_total",
            "Records that the runner took, by what it did with them.",
            "to",
            &taken,
        );
        let ended: Vec<_> = ENDED.into_iter().zip(&self.ended).collect();
        page.family(
            "hapax_runner_ended_total",
            "Records that the runner took and did not finish, by what became of them.",
            "how",
            &ended,
        );
        let retried: Vec<_> = FailureClass::ALL
            .iter()
            .map(|class| class.as_str())
            .zip(&self.retried)
            .collect();
        page.family(
            "hapax_runner_retried_total",
            "Runs by the runner that failed and are repeated, by what the failure proves.",
            "class",
            &retried,
        );
        let died: Vec<_> = DeadReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .zip(&self.died)
            .collect();
        page.family("hapax_died_total", "New dead letters, by the reason.", "reason", &died);
        let resolved: Vec<_> = RESOLVERS
            .iter()
            .zip(&self.resolved)
            .flat_map(|(by, counters)| {
                let states = StateName::ALL.iter().zip(counters);
                // Nothing is resolved to what it was, or to a run.
                let states = states.filter(|(state, _)| !matches!(state, StateName::Unknown | StateName::Running));
                states.map(move |(state, counter)| ([("by", *by), ("state", state.as_str())], counter.get() as f64))
            })
            .collect();
        page.labelled(
            "hapax_resolved_total",
            "Unknown outcomes that were settled, by whom, and by what the record became.",
            "counter",
            &resolved,
        );
        page.counter(
            "hapax_unresolved_total",
            "Times that no resolver could tell what became of an unknown outcome.",
            &self.unresolved,
        );
        page.counter(
            "hapax_suspects_total",
            "Operations run with nothing beside them, since they may have crashed their process.",
            &self.suspects,
        );
    }
}

fn bump<T: PartialEq>(counters: &[Counter], all: &[T], one: &T) {
    if let Some(counter) = all
        .iter()
        .position(|known| known == one)
        .and_then(|at| counters.get(at))
    {
        counter.add(1);
    }
}
