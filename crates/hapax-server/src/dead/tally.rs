//! What became of the records of a command.

use std::collections::BTreeMap;

use hapax::core::{Amended, StateName};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

/// What is skipped by a redrive although it is dead.
pub(super) const UNDONE: &str = "undone";

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A runner has it: its input is stored.
    Run,
    /// It waits for its next arrival.
    Release,
    /// It is closed.
    Discard,
    /// It was no longer the dead letter that was meant: it is this.
    Skip(&'static str),
}

impl Step {
    /// # Errors
    /// If the store answered something that this amendment cannot have done.
    pub(super) fn of(amended: &Amended, discards: bool) -> Result<Self, Failure> {
        Ok(match amended {
            Amended::Became(_) if discards => Self::Discard,
            Amended::Became(record) if record.input.is_some() => Self::Run,
            Amended::Became(_) => Self::Release,
            Amended::Absent => Self::Skip("forgotten"),
            // A dead letter that cannot be redriven or closed is one whose compensation has begun.
            Amended::Refused(StateName::Dead) => Self::Skip(UNDONE),
            Amended::Refused(state) | Amended::Changed(state) => Self::Skip(state.as_str()),
            Amended::Forgotten | Amended::Unsettled(_) => {
                return Err(Failure::new(
                    Exit::Internal,
                    "the store answered something else than was asked",
                ));
            }
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Release => "release",
            Self::Discard => "discard",
            Self::Skip(_) => "skip",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    run: u64,
    release: u64,
    discard: u64,
    skipped: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, step: Step) {
        match step {
            Step::Run => self.run += 1,
            Step::Release => self.release += 1,
            Step::Discard => self.discard += 1,
            Step::Skip(state) => *self.skipped.entry(state).or_default() += 1,
        }
    }

    /// How many are, or would be, changed.
    pub(super) fn changed(&self) -> u64 {
        self.run + self.release + self.discard
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changed() == 0 && self.skipped.is_empty()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "run": self.run,
            "release": self.release,
            "discard": self.discard,
            "skip": self.skipped,
        })
    }

    /// What was done, or `would` be.
    pub(super) fn sentence(&self, discards: bool, would: bool) -> String {
        let mut sentence = match (discards, would) {
            (true, true) => format!("{} would be closed", self.discard),
            (true, false) => format!("closed {}", self.discard),
            (false, true) => format!(
                "{} would run now (input stored), {} at their next arrival (no input stored)",
                self.run, self.release
            ),
            (false, false) => format!(
                "redriven {}: {} to run now (input stored), {} at their next arrival (no input stored)",
                self.changed(),
                self.run,
                self.release
            ),
        };
        sentence.push_str(if would { "; would be skipped: " } else { "; skipped: " });
        if self.skipped.is_empty() {
            sentence.push('0');
        } else {
            let parts: Vec<String> = self.skipped.iter().map(|(state, n)| part(state, *n)).collect();
            sentence.push_str(&parts.join(", "));
        }
        sentence
    }
}

fn part(state: &str, n: u64) -> String {
    match state {
        UNDONE => format!("{n} {state} (compensation has begun)"),
        _ => format!("{n} {state}"),
    }
}
