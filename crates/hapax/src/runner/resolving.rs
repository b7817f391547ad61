//! Finding out what became of one unknown outcome.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Amend, Amended, Amendment, Audit, Record, Resolution, State, Timestamp};

use super::Handled;
use crate::engine::Inner;
use crate::event::Event;
use crate::resolver::{Found, Resolver};

/// Asks the resolvers in their order, and amends the record by the first that knows. `now` is the store's time from
/// before they looked.
pub(super) async fn resolve(inner: Arc<Inner>, handled: Arc<Handled>, record: Record, now: Timestamp) {
    let operation = &record.operation;
    let handling = &handled.handling;
    let mut seen = String::new();
    for resolver in &handling.resolvers {
        let saw = match resolver.resolve(&record).await {
            Ok(Found::Done { outcome, saw }) => {
                return amend(
                    &inner,
                    &record,
                    resolver.as_ref(),
                    Resolution::Done(outcome),
                    saw,
                    handling.run.settle,
                )
                .await;
            }
            // Seen too early, it proves nothing: what was sent may have arrived since.
            Ok(Found::NotFound { saw }) if now < inner.passed(record.since, handling.run.settle) => {
                format!("{saw}, too early to count")
            }
            Ok(Found::NotFound { saw }) => {
                return amend(
                    &inner,
                    &record,
                    resolver.as_ref(),
                    Resolution::NotDone,
                    saw,
                    handling.run.settle,
                )
                .await;
            }
            Ok(Found::CannotSay { saw }) => saw,
            Err(error) => error.to_string(),
        };
        if !seen.is_empty() {
            seen.push_str("; ");
        }
        seen.push_str(resolver.name());
        seen.push_str(": ");
        seen.push_str(&saw);
    }
    inner.emit(&Event::Unresolved { operation, saw: &seen });
}

async fn amend(
    inner: &Inner,
    record: &Record,
    resolver: &dyn Resolver,
    resolution: Resolution,
    saw: String,
    settle: Duration,
) {
    let operation = &record.operation;
    let amendment = Amendment {
        amend: Amend::Resolve { resolution, settle },
        fence: Some(record.fence),
        audit: Audit {
            actor: resolver.name().to_owned(),
            reason: saw,
        },
    };
    let (id, patience) = (operation.id(), inner.options.store_patience);
    let amended = inner
        .insist("amend", patience, |store| store.amend(id, amendment.clone()))
        .await;
    match amended {
        Ok(Amended::Became(after)) => {
            inner.emit(&Event::Resolved {
                operation,
                by: resolver.name(),
                state: after.state.name(),
            });
            match after.state {
                State::Waiting { .. } if after.input.is_some() => inner.alarm.set(Duration::ZERO),
                _ => inner.cache.keep(*after),
            }
        }
        Ok(Amended::Unsettled(_)) => inner.emit(&Event::Unresolved {
            operation,
            saw: "not found, too early to count",
        }),
        // Its run, a person or another runner was faster; or, after a lost reply, this one.
        Ok(Amended::Changed(_) | Amended::Refused(_) | Amended::Absent | Amended::Forgotten) => {}
        // It is looked into again later.
        Err(_) => {}
    }
}
