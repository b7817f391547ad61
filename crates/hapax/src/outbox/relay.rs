//! Deliveries: a run of the runner for each entry.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::policy::{Backoff, BreakerPolicy, FailureClass, Limits, RetryPolicy};
use hapax_core::{AfterFailure, Input, Name, Retention};
use hapax_store::Clock;

use super::effect::opened;
use super::memory::{Leave, Memory};
use super::sink::{Delivery, Sink};
use crate::engine::{Engine, Run, RunOptions};
use crate::failpoint::{self, Failpoint};
use crate::resolver::Resolver;
use crate::retry::Destination;
use crate::runner::{Attempted, Failure, Handling, Runner};

/// How the effects of one name are delivered. Every field has a default.
#[derive(Clone)]
pub struct SinkOptions {
    /// Retry policy, budget and breaker of the receiver (see [`SinkOptions::policy`]). Names that go to the same
    /// receiver share it.
    pub destination: Destination,
    /// How long the receiver remembers keys (for ever). A send that may have arrived longer ago is not repeated: the
    /// entry becomes unknown, for a person to settle.
    pub receiver_remembers_for: Option<Duration>,
    /// How long a delivery may go without a sign of life (30 s): after a crash of the relay, what it was delivering is
    /// delivered again when that time is over.
    pub lease: Duration,
    /// Whether a crash of the relay can be an effect's fault (no): if it can, those that were in flight are delivered
    /// one at a time after it.
    pub crashes_count: bool,
    /// Whether the effects of one aggregate are delivered one after the other (no): the next one starts when the one
    /// before is done. One that is dead or unknown holds those behind it up until it is redriven, resolved or discarded.
    pub ordered: bool,
    /// How long the record lives on (24 h, 30 d): for that long, the same key is not delivered again.
    pub retention: Retention,
}

impl SinkOptions {
    /// The usual policy of a receiver that is away at times: 20 tries within 3 days, pauses from 1 s to 1 h, and a
    /// breaker that looks at as few as 20 calls.
    #[must_use]
    pub fn policy() -> RetryPolicy {
        RetryPolicy {
            backoff: Backoff {
                base: Duration::from_secs(1),
                throttle_base: Duration::from_secs(5),
                cap: Duration::from_secs(3600),
            },
            limits: Limits {
                tries: 20,
                elapsed: Duration::from_secs(3 * 24 * 3600),
                ..Limits::default()
            },
            breaker: BreakerPolicy {
                minimum_calls: 20,
                ..BreakerPolicy::default()
            },
            ..RetryPolicy::default()
        }
    }

    /// The usual, for a destination.
    #[must_use]
    pub fn new(destination: Destination) -> Self {
        Self {
            destination,
            receiver_remembers_for: None,
            lease: Duration::from_secs(30),
            crashes_count: false,
            ordered: false,
            retention: Retention::default(),
        }
    }

    fn handling(&self, name: &Name, memory: Option<&Memory>) -> Handling {
        let resolver = memory.map(|memory| Arc::new(memory.clone()) as Arc<dyn Resolver>);
        Handling {
            run: RunOptions {
                lease: self.lease,
                // Where the receiver forgets, a crash is looked into before the key is sent again.
                after_failure: match memory {
                    Some(_) => AfterFailure::Hold,
                    None => AfterFailure::Retry,
                },
                retention: self.retention,
                attended: true,
                // "Sent again" is true at once.
                settle: Duration::ZERO,
                ..RunOptions::default()
            },
            crashes_count: self.crashes_count,
            resolvers: resolver.into_iter().collect(),
            ordered: self.ordered,
            ..Handling::new(name.clone(), self.destination.clone())
        }
    }
}

impl Default for SinkOptions {
    #[allow(clippy::expect_used, reason = "the usual policy makes sense, which a test proves")]
    fn default() -> Self {
        Self::new(Destination::new(Self::policy()).expect("the usual policy makes sense"))
    }
}

/// A name and what delivers its effects.
#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) name: Name,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) options: SinkOptions,
}

impl Outlet {
    pub(super) fn equip(&self, runner: Runner, engine: &Engine) -> Runner {
        let memory = self.options.receiver_remembers_for.map(|remembers_for| Memory {
            engine: engine.clone(),
            remembers_for,
        });
        let handling = self.options.handling(&self.name, memory.as_ref());
        let courier = Courier {
            engine: engine.clone(),
            sink: Arc::clone(&self.sink),
            memory,
        };
        runner.handle(handling, move |run, input| courier.clone().run(run, input))
    }
}

#[derive(Clone)]
struct Courier {
    engine: Engine,
    sink: Arc<dyn Sink>,
    memory: Option<Memory>,
}

impl Courier {
    async fn run(self, run: Run, input: Input) -> Attempted {
        let Some((content_type, payload)) = opened(&input) else {
            let text = "its input is no outbox entry's: another program enqueued under this name";
            return Attempted::Failed(Failure::new(FailureClass::Final, text));
        };
        let mut doubt = None;
        if let Some(memory) = &self.memory {
            match memory.leave(&run).await {
                Ok(Leave::Send(since)) => doubt = since,
                Ok(Leave::Hold(failure)) => return Attempted::Failed(failure),
                Err(error) => {
                    let text = format!("the store could not be asked: {error}");
                    return Attempted::Failed(Failure::new(FailureClass::Unsent, &text));
                }
            }
        }
        let now = self.engine.store_time().unwrap_or_else(|| Clock::default().reading().0);
        let delivery = Delivery {
            name: run.operation.name().clone(),
            key: Delivery::key_of(&run.operation.id()),
            content_type,
            payload,
            now,
            tries: run.tries,
        };
        failpoint::hit(Failpoint::BeforeUpstream);
        let attempted = self.sink.deliver(delivery).await;
        failpoint::hit(Failpoint::AfterUpstream);
        match &self.memory {
            Some(memory) => memory.judge(attempted, doubt, now),
            None => attempted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_policy_makes_sense() {
        SinkOptions::policy().check().unwrap();
    }
}
