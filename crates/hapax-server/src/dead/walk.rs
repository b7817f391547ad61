//! One record after the other, each by one amendment.

use std::collections::HashSet;
use std::io::{self, Write};

use hapax::core::{Amend, Amendment, Audit, OperationId, Store, StoreError, Summary};
use serde_json::json;

use super::canary::{self, Canary};
use super::choice::Chosen;
use super::pace::Pace;
use super::progress::Progress;
use super::stop::{Stop, Stopped};
use super::tally::{Step, Tally};
use crate::config::values::Period;
use crate::exit::{Exit, Failure};

/// Why a walk ended before its end.
pub(super) enum Cut {
    /// Somebody asked for it.
    Stopped,
    /// The canaries did not end well.
    Canary(Failure),
    /// The store, or standard output.
    Failed(Failure),
}

impl From<Stopped> for Cut {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<Failure> for Cut {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for Cut {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Records, amended one after the other.
pub(super) struct Walk<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) amend: Amend,
    pub(super) audit: Audit,
    pub(super) pace: Pace,
    pub(super) stop: Stop,
    pub(super) progress: Progress,
    pub(super) tally: Tally,
    pub(super) json: bool,
}

impl Walk<'_> {
    pub(super) async fn all(&mut self, chosen: &Chosen, except: &HashSet<OperationId>) -> Result<(), Cut> {
        let mut pages = chosen.pages();
        while let Some(page) = pages.next(self.store).await? {
            for summary in page.iter().filter(|summary| !except.contains(&summary.operation.id())) {
                self.one(summary).await?;
            }
        }
        Ok(())
    }

    /// One record, if it is still the dead letter that was looked at.
    pub(super) async fn one(&mut self, summary: &Summary) -> Result<Step, Cut> {
        self.stop.or(self.pace.turn()).await?;
        let amendment = Amendment {
            amend: self.amend.clone(),
            fence: Some(summary.fence),
            audit: self.audit.clone(),
        };
        let amended = self.store.amend(summary.operation.id(), amendment).await?;
        let step = Step::of(&amended, self.amend == Amend::Discard)?;
        self.progress.step();
        self.note(summary, step)?;
        Ok(step)
    }

    pub(super) fn note(&mut self, summary: &Summary, step: Step) -> Result<(), Cut> {
        self.tally.add(step);
        if self.json {
            let operation = &summary.operation;
            let state = match step {
                Step::Skip(state) => Some(state),
                _ => None,
            };
            let value = json!({
                "event": step.as_str(),
                "operation": operation.id().to_string(),
                "scope": operation.scope().as_str(),
                "name": operation.name().as_str(),
                "key": operation.key().as_str(),
                "state": state,
            });
            writeln!(io::stdout(), "{value}")?;
        }
        Ok(())
    }

    /// The first ones whose input is stored, and what becomes of them.
    pub(super) async fn canaries(
        &mut self,
        chosen: &Chosen,
        limit: usize,
        wait: Period,
        first: &mut HashSet<OperationId>,
    ) -> Result<(), Cut> {
        let mut canaries = Vec::new();
        let mut pages = chosen.pages();
        'pages: while let Some(page) = pages.next(self.store).await? {
            for summary in page.iter().filter(|summary| summary.has_input) {
                if canaries.len() == limit {
                    break 'pages;
                }
                first.insert(summary.operation.id());
                if self.one(summary).await? == Step::Run {
                    canaries.push(Canary::new(summary.operation.clone()));
                }
            }
        }
        if canaries.is_empty() {
            return Err(Cut::Canary(Failure::new(
                Exit::Failed,
                "none of these has its input stored, so none would run by itself and a canary would show nothing: \
                 leave out --canary; they run when they are asked for again",
            )));
        }
        canary::watch(self.store, &mut canaries, wait.0, &mut self.stop).await??;
        if self.json {
            for canary in &canaries {
                writeln!(io::stdout(), "{}", canary.json())?;
            }
        }
        canary::judge(&canaries, wait).map_err(Cut::Canary)
    }
}
