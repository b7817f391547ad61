//! What every source of messages must do ([`Source`]), asked of the real broker.
//!
//! In a test, [`source_tests!`](crate::source_tests) makes one test of each case.

mod cases;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hapax::consume::{Delivery, Message, Source, SourceError};
use hapax_core::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use super::Failure;

/// A queue, stream or topic of its own at a real broker, empty at first.
pub trait Broker: Send + Sync + 'static {
    /// One more member of the same consumer group, not connected yet. It exports dead letters to a place of this test's
    /// own, gives back abandoned messages after [`abandoned`](Self::abandoned), and has a patience that is as short.
    fn source(&self) -> Box<dyn Source>;

    /// Publishes messages, in this order; durable when it returns. What a broker has no place for (a position, a
    /// time, a key) is left out.
    fn publish(&self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), Failure>>;

    /// Kills the broker and starts it again on the same data. `None` if it keeps nothing, so that nothing can be asked of
    /// a restart.
    fn restart(&self) -> Option<BoxFuture<'_, Result<(), Failure>>>;

    /// Payloads of the dead letters that were exported.
    fn exported(&self) -> BoxFuture<'_, Result<Vec<bytes::Bytes>, Failure>>;

    /// A source at the same broker whose queue, stream or topic does not exist; `None` if there is no such thing.
    fn missing(&self) -> Option<Box<dyn Source>>;

    /// A source whose credentials the broker refuses; `None` if this broker asks for none.
    fn stranger(&self) -> Option<Box<dyn Source>>;

    /// A source at an address where nobody listens; `None` if there are no addresses.
    fn nobody(&self) -> Option<Box<dyn Source>>;

    /// After which time, at most, messages come again whose holder is gone without a word or says nothing.
    fn abandoned(&self) -> Duration;

    /// Whether messages of one publisher come in its order, as long as none comes again.
    fn ordered(&self) -> bool;

    /// A payload that is as large as the broker takes, or ten million bytes.
    fn large(&self) -> usize;
}

/// Makes one broker's place for each case.
pub trait Brokers: Send + Sync + 'static {
    /// A new place.
    fn place(&self) -> BoxFuture<'_, Result<Box<dyn Broker>, Failure>>;
}

impl<F> Brokers for F
where
    F: Fn() -> BoxFuture<'static, Result<Box<dyn Broker>, Failure>> + Send + Sync + 'static,
{
    fn place(&self) -> BoxFuture<'_, Result<Box<dyn Broker>, Failure>> {
        self()
    }
}

type Checked<T = ()> = Result<T, Failure>;

/// What a case asks.
type Case = fn(Arc<dyn Broker>) -> BoxFuture<'static, Checked>;

/// Runs one case and panics with its name if it fails: the body of a test.
///
/// # Panics
/// When the case fails, or there is none of that name.
#[track_caller]
pub fn check(name: &str, brokers: &impl Brokers) {
    let Some((_, case)) = cases::CASES.iter().find(|(had, _)| *had == name) else {
        panic!("the suite has no case {name}");
    };
    let ran = super::block_on(async {
        let broker: Arc<dyn Broker> = brokers.place().await?.into();
        case(broker).await
    });
    if let Err(failure) = ran {
        panic!("{name}: {failure}");
    }
}

/// One test of each case, against what an expression of type [`Brokers`] gives.
#[macro_export]
macro_rules! source_tests {
    ($brokers:expr) => {
        $crate::source_cases!($brokers);
    };
}

/// Longer than anything takes that happens at all.
const LIMIT: Duration = Duration::from_secs(60);

/// A member of the group, and what it was given.
struct Member {
    source: Box<dyn Source>,
    hand: Vec<Delivery>,
}

impl Member {
    fn new(broker: &dyn Broker) -> Self {
        Self {
            source: broker.source(),
            hand: Vec::new(),
        }
    }

    /// Receives until it has at least that many in hand, past failures.
    async fn hold(&mut self, least: usize) -> Checked {
        let until = Instant::now() + LIMIT;
        let mut last = String::new();
        while self.hand.len() < least {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left, self.source.receive(64)).await {
                Ok(Ok(deliveries)) => self.hand.extend(deliveries),
                Ok(Err(error)) => {
                    last = format!("; the last failure: {error}");
                    sleep(PAUSE).await;
                }
                Err(_) => {
                    let had = self.hand.len();
                    return Err(Failure(format!(
                        "{least} messages were due, {had} came in {LIMIT:?}{last}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Whatever comes within a time; for what must not come.
    async fn hear(&mut self, time: Duration) -> usize {
        let (before, until) = (self.hand.len(), Instant::now() + time);
        while let Ok(received) = timeout(until.saturating_duration_since(Instant::now()), self.source.receive(64)).await
        {
            match received {
                Ok(deliveries) => self.hand.extend(deliveries),
                Err(_) => sleep(PAUSE).await,
            }
        }
        self.hand.len() - before
    }

    async fn ack_all(&mut self) -> Result<(), SourceError> {
        for delivery in self.hand.drain(..) {
            delivery.settle.ack().await?;
        }
        Ok(())
    }
}

/// Between two tries at a broker that is away.
const PAUSE: Duration = Duration::from_millis(50);

fn numbered(numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(message).collect()
}

fn message(number: usize) -> Message {
    Message::new("", format!("message {number}")).header("Id", number.to_string())
}

/// The number of a message that [`message`] made.
fn number(delivery: &Delivery) -> Checked<usize> {
    let id = delivery.message.text("Id").and_then(|id| id.parse().ok());
    let number = id.ok_or_else(|| Failure(format!("no header Id in {:?}", delivery.message)))?;
    ensure(delivery.message.payload == message(number).payload, || {
        format!("message {number} has another payload")
    })?;
    Ok(number)
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Failure(otherwise())) }
}

/// Each of these came, at least once.
fn all_came(counts: &BTreeMap<usize, usize>, of: usize) -> Checked {
    let missing: Vec<_> = (0..of).filter(|number| !counts.contains_key(number)).collect();
    ensure(missing.is_empty(), || format!("never delivered: {missing:?}"))
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self(format!("the source failed: {error}"))
    }
}
