//! A person who corrects records, rightly or not.

use std::time::Duration;

use hapax_core::{Amend, Amendment, Audit, NotKept, Outcome, Resolution, StateName, Summary};

use super::super::client::{name, operation};
use super::super::plan::SAFE_SETTLE;
use super::{Event, World, millis};

impl World {
    pub(super) fn draw_corrections(&mut self) {
        let active = millis(self.config.active);
        for _ in 0..self.plan.corrections {
            let at = self.dice.below(active * 3 / 2);
            self.at(at, Event::Correct);
        }
    }

    /// Looks at all records, and corrects one that can be corrected: after the faults only what is dead.
    pub(super) fn correct(&mut self) {
        let mut found = Vec::new();
        for number in 0..self.plan.operations {
            let record = self.record(operation(number).id());
            found.extend(record.map(|record| (number, Summary::of(&record, self.time.now()))));
        }
        if self.dice.chance(800) || self.healed {
            found.retain(|(_, record)| {
                record.state == StateName::Dead || (record.state == StateName::Unknown && !self.healed)
            });
        }
        let node = self.dice.below(self.nodes.len() as u64) as usize;
        let Some((number, record)) = self.dice.pick(&found).cloned() else {
            return;
        };
        let amendment = Amendment {
            amend: self.draw_amend(record.state),
            fence: self.dice.chance(500).then_some(record.fence),
            audit: Audit {
                actor: "person".into(),
                reason: "drawn".into(),
            },
        };
        self.note(|| format!("a person in node {node}: {:?} of {}", amendment.amend, name(number)));
        if let Some(node) = &self.nodes[node] {
            node.correct(operation(number), amendment);
        }
    }

    fn draw_amend(&mut self, state: StateName) -> Amend {
        let settle = match self.dice.chance(500) {
            true => SAFE_SETTLE,
            false => Duration::from_secs(self.dice.below(4)),
        };
        let resolve = |resolution| Amend::Resolve { resolution, settle };
        match (state, self.dice.below(10)) {
            (StateName::Dead, 0..=5) => Amend::Redrive,
            (StateName::Dead, 6) => Amend::Undo,
            (_, 0) => Amend::Redrive,
            (_, 1) => Amend::Discard,
            (_, 2..=4) => resolve(Resolution::NotDone),
            (_, 5) => resolve(Resolution::Dead),
            (_, 6 | 7) => resolve(Resolution::Done(Outcome::NotKept(NotKept::Discarded))),
            _ => Amend::Forget {
                even_unknown: self.dice.chance(500),
            },
        }
    }
}
