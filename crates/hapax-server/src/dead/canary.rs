//! A few go first: whether they end well decides about the others.

use std::time::Duration;

use hapax::core::{LastError, Operation, Record, State, Store};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::stop::{Stop, Stopped};
use crate::config::values::Period;
use crate::exit::{Exit, Failure};

/// Where a canary is.
pub(super) struct Canary {
    operation: Operation,
    state: &'static str,
    fate: Fate,
    last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not settled yet.
    Open,
    Well,
    Ill,
}

impl Canary {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            state: "waiting",
            fate: Fate::Open,
            last_error: None,
        }
    }

    /// A line about it.
    fn line(&self) -> String {
        let mut line = format!("  {}: {}", self.operation.key(), self.state);
        if let Some(error) = &self.last_error {
            line.push_str(", ");
            line.push_str(error);
        }
        line
    }

    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "event": "canary",
            "operation": self.operation.id().to_string(),
            "scope": self.operation.scope().as_str(),
            "name": self.operation.name().as_str(),
            "key": self.operation.key().as_str(),
            "state": self.state,
            "last_error": self.last_error,
        })
    }

    fn look(&mut self, record: Option<&Record>) {
        let Some(record) = record else {
            (self.state, self.fate) = ("forgotten", Fate::Ill);
            return;
        };
        self.state = record.state.name().as_str();
        // Before its first new try, its last error is that of its death.
        let error = record.last_error.as_ref().filter(|_| record.tries > 0);
        self.last_error = error.map(LastError::as_str).map(str::to_owned);
        self.fate = match record.state {
            State::Running { .. } | State::Waiting { .. } => Fate::Open,
            State::Dead { .. } | State::Unknown { .. } => Fate::Ill,
            State::Done(_) => Fate::Well,
        };
    }
}

/// Whether the others may follow.
///
/// # Errors
/// If one ended badly, or some have not ended yet.
pub(super) fn judge(canaries: &[Canary], wait: Period) -> Result<(), Failure> {
    const LINES: usize = 10;
    let of = |fate| canaries.iter().filter(move |canary| canary.fate == fate);
    let lines = |fate| of(fate).take(LINES).map(Canary::line).collect::<Vec<_>>().join("\n");
    let (open, ill, all) = (of(Fate::Open).count(), of(Fate::Ill).count(), canaries.len());
    if ill > 0 {
        let message = format!(
            "{ill} of {all} canaries ended badly, so the others were left alone; mend this first (hapax dead show KEY), \
             then redrive again:\n{}",
            lines(Fate::Ill)
        );
        return Err(Failure::new(Exit::Failed, message));
    }
    if open > 0 {
        let message = format!(
            "{open} of {all} canaries have not ended within {wait}, so the others were left alone; see that a gateway \
             runs on this store and what its log says, or give more --canary-wait:\n{}",
            lines(Fate::Open)
        );
        return Err(Failure::new(Exit::Unreachable, message));
    }
    Ok(())
}

/// Watches them until all are settled, one has failed, or the time is over.
pub(super) async fn watch(
    store: &dyn Store,
    canaries: &mut [Canary],
    wait: Duration,
    stop: &mut Stop,
) -> Result<Result<(), Stopped>, Failure> {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let until = Instant::now() + wait;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for canary in canaries.iter_mut().filter(|canary| canary.fate == Fate::Open) {
            let (now, record) = store.read(canary.operation.id()).await?;
            let record = record.map(|record| record.lapsed(now).unwrap_or(record));
            canary.look(record.as_ref());
        }
        let is_over = canaries.iter().all(|canary| canary.fate != Fate::Open);
        let has_failed = canaries.iter().any(|canary| canary.fate == Fate::Ill);
        if is_over || has_failed || Instant::now() >= until {
            return Ok(Ok(()));
        }
        if stop.or(looks.tick()).await.is_err() {
            return Ok(Err(Stopped));
        }
    }
}
