//! What a receiver forgets: after `receiver_remembers_for`, the same key no longer protects from a second effect.
//!
//! A send that may have arrived is repeated only while the receiver still knows the key. Its time is kept in the
//! record's last error (`may have arrived since …`); where there is none, as after a crash, the record's creation is a
//! safe bound, since nothing was sent before. A person's "it did not happen" puts the bound to when it was said.

use std::time::Duration;

use hapax_core::policy::FailureClass;
use hapax_core::{BoxFuture, Cause, LastError, Operation, Record, State, StoreError, Timestamp};

use crate::engine::{Engine, Run};
use crate::resolver::{Found, ResolveError, Resolver};
use crate::runner::{Attempted, Failure};

const MARK: &str = "may have arrived since ";
/// How this resolver is named in the audit.
pub(super) const ACTOR: &str = "outbox";

/// How long a receiver remembers keys.
#[derive(Clone)]
pub(super) struct Memory {
    pub(super) engine: Engine,
    pub(super) remembers_for: Duration,
}

/// What may be done about an entry.
pub(super) enum Leave {
    /// Send it. What may have arrived did so from then on, if anything.
    Send(Option<Timestamp>),
    /// Sending it again could do it twice.
    Hold(Failure),
}

impl Memory {
    /// Whether an entry may be sent now.
    pub(super) async fn leave(&self, run: &Run) -> Result<Leave, StoreError> {
        let (now, record) = self.engine.store().read(run.operation.id()).await?;
        let Some(record) = record else {
            // Forgotten under this run, which will lose its fence.
            return Ok(Leave::Send(None));
        };
        let Some(since) = self.in_doubt_since(&record, run.tries > 1).await? else {
            return Ok(Leave::Send(None));
        };
        if now < since.after(self.remembers_for) {
            return Ok(Leave::Send(Some(since)));
        }
        let text = format!(
            "{}not sent again: the receiver forgets keys after {:?}",
            marked(since),
            self.remembers_for
        );
        Ok(Leave::Hold(Failure::new(FailureClass::Ambiguous, &text)))
    }

    /// Since when an earlier send may have arrived; `None` if none can have.
    async fn in_doubt_since(&self, record: &Record, was_started: bool) -> Result<Option<Timestamp>, StoreError> {
        let marked = record.last_error.as_ref().and_then(|error| mark_of(error.as_str()));
        // A redrive forgets what was: whether it died in doubt is not known any more.
        if marked.is_none() && !was_started && record.redriven.is_none() {
            return Ok(None);
        }
        let since = marked.unwrap_or(record.created);
        Ok(Some(
            self.denied(&record.operation).await?.map_or(since, |at| at.max(since)),
        ))
    }

    /// When somebody last said that it had not happened.
    async fn denied(&self, operation: &Operation) -> Result<Option<Timestamp>, StoreError> {
        let (mut after, mut denied) = (None, None);
        loop {
            let (entries, next) = self.engine.store().audit(Some(operation.id()), after, 100).await?;
            let said = entries
                .iter()
                .filter(|entry| entry.action == "resolve-not-done" && entry.audit.actor != ACTOR);
            denied = said.map(|entry| entry.at).max().max(denied);
            match next {
                Some(next) => after = Some(next),
                None => return Ok(denied),
            }
        }
    }

    /// What a try came to: an ambiguous failure is safe to repeat, and remembered with its time.
    pub(super) fn judge(&self, attempted: Attempted, doubt: Option<Timestamp>, sent: Timestamp) -> Attempted {
        let Attempted::Failed(mut failure) = attempted else {
            return attempted;
        };
        let in_doubt = failure.class == FailureClass::Ambiguous;
        let since = if in_doubt { Some(doubt.unwrap_or(sent)) } else { doubt };
        if let Some(since) = since {
            let text = format!("{}{}", marked(since), failure.last_error);
            failure.last_error = LastError::new(&text);
        }
        if in_doubt {
            Attempted::Repeat(failure)
        } else {
            Attempted::Failed(failure)
        }
    }
}

/// A crash left the outcome unknown: while the receiver remembers the key, sending again settles it.
impl Resolver for Memory {
    fn name(&self) -> &str {
        ACTOR
    }

    fn resolve<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
        Box::pin(async move {
            if !matches!(
                record.state,
                State::Unknown {
                    cause: Cause::Lapsed,
                    ..
                }
            ) {
                let saw = "it may have arrived, and the receiver has forgotten the key".to_owned();
                return Ok(Found::CannotSay { saw });
            }
            let store = self.engine.store();
            let failed = |error: StoreError| ResolveError::new("the store could not be asked").caused_by(error);
            let (now, _) = store.time(false).await.map_err(failed)?;
            let since = self.in_doubt_since(record, true).await.map_err(failed)?;
            let until = since.unwrap_or(record.created).after(self.remembers_for);
            Ok(match now < until {
                true => Found::NotFound {
                    saw: format!("a crash; the receiver remembers the key until {until}, so it is sent again"),
                },
                false => Found::CannotSay {
                    saw: format!("a crash; the receiver has forgotten the key since {until}"),
                },
            })
        })
    }
}

fn marked(since: Timestamp) -> String {
    format!("{MARK}{since} ({}): ", since.as_millis())
}

fn mark_of(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.strip_prefix(MARK)?.split_once(" (")?;
    let (millis, _) = rest.split_once(')')?;
    millis.parse().ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests;
