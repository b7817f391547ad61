//! What becomes of a message at the broker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use hapax_core::BoxFuture;
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::message::Original;
use super::publish::Publisher;
use super::{RabbitMq, RabbitMqOptions, RabbitMqRoute, delay};
use crate::consume::{Settle, SourceError, SourceErrorKind};

/// A quorum queue of RabbitMQ 3.10 is on disk some seconds after its declaration was confirmed: killed before that, a
/// node comes back without the messages in it.
const SETTLES: Duration = Duration::from_secs(10);
/// How long a message is held that could not be put off or exported.
const HOLD: Duration = Duration::from_secs(30);
/// Messages that are held here at a time.
const HELD: usize = 1_000;

/// What a source and its deliveries share.
pub(super) struct Desk {
    pub(super) at: RabbitMq,
    pub(super) options: RabbitMqOptions,
    pub(super) label: String,
    /// What the names of its delay queues begin with.
    pub(super) delays: String,
    /// What was pulled and not settled.
    pub(super) hand: Hand,
    pub(super) publisher: Publisher,
    /// Since when a delay queue is known to be there.
    declared: Mutex<HashMap<Duration, Instant>>,
    places: Arc<Semaphore>,
}

impl Desk {
    pub(super) fn new(at: RabbitMq, options: RabbitMqOptions) -> Self {
        Self {
            label: format!("queue {} at {}", options.queue, at.label),
            delays: delay::prefix(&options.queue),
            hand: Hand::default(),
            publisher: Publisher::new(at.clone(), "hapax retries and dead letters"),
            declared: Mutex::new(HashMap::new()),
            places: Arc::new(Semaphore::new(HELD)),
            at,
            options,
        }
    }

    /// How long a delay queue must not be used yet; makes it if it is not known to be there.
    async fn unsettled_for(&self, step: Duration) -> Result<Duration, SourceError> {
        let known = self.declared().get(&step).copied();
        let since = match known {
            Some(since) => since,
            None => {
                let queue = &self.options.queue;
                self.publisher
                    .declare(&delay::name(queue, step), delay::arguments(queue, step))
                    .await?;
                *self.declared().entry(step).or_insert_with(Instant::now)
            }
        };
        Ok(SETTLES.saturating_sub(since.elapsed()))
    }

    fn declared(&self) -> std::sync::MutexGuard<'_, HashMap<Duration, Instant>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put_off(&self, original: &Original, step: Duration) -> Result<(), SourceError> {
        let to = RabbitMqRoute::queue(&delay::name(&self.options.queue, step));
        let published = self
            .publisher
            .publish(&to, original.to_retry(), &original.payload)
            .await;
        published.map_err(|not| {
            if not.error.kind() == SourceErrorKind::Refused {
                // Somebody deleted it.
                self.declared().remove(&step);
            }
            not.error
        })
    }
}

/// A count of messages in hand.
#[derive(Clone, Default)]
pub(super) struct Hand(Arc<AtomicUsize>);

impl Hand {
    pub(super) fn one_more(&self) -> InHand {
        self.0.fetch_add(1, Ordering::Relaxed);
        InHand(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A message in hand, for as long as it lives.
pub(super) struct InHand(Hand);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A delivery that the broker waits for a word on. Dropped, it is given back.
pub(super) struct Unsettled {
    acker: Acker,
    _counts: [InHand; 2],
}

impl Unsettled {
    pub(super) fn new(acker: Acker, counts: [InHand; 2]) -> Self {
        Self { acker, _counts: counts }
    }

    /// An error if no word about it would reach the broker: a copy would be one too many.
    fn check(&self, label: &str) -> Result<(), SourceError> {
        match self.acker.usable() {
            true => Ok(()),
            false => arrived(Ok(false), label, "settle"),
        }
    }

    async fn ack(self, label: &str) -> Result<(), SourceError> {
        let told = self.acker.ack(BasicAckOptions::default()).await;
        arrived(told, label, "acknowledge")
    }

    async fn give_back(self, label: &str) -> Result<(), SourceError> {
        let told = self.acker.nack(REQUEUE).await;
        arrived(told, label, "give back")
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        // It is on its way after the first poll; and nothing happens if it was settled, or its channel is gone.
        let _ = self.acker.nack(REQUEUE).now_or_never();
    }
}

const REQUEUE: BasicNackOptions = BasicNackOptions {
    multiple: false,
    requeue: true,
};

fn arrived(told: lapin::Result<bool>, label: &str, doing: &str) -> Result<(), SourceError> {
    let text = format!("{label}: {doing}: the channel that it came by is gone; it comes again");
    let gone = SourceError::new(SourceErrorKind::Unreachable, text);
    match told {
        Ok(true) => Ok(()),
        Ok(false) => Err(gone),
        Err(error) => Err(gone.caused_by(error)),
    }
}

/// A delivery with what a copy of it needs.
pub(super) struct Held {
    desk: Arc<Desk>,
    unsettled: Unsettled,
    original: Original,
}

impl Held {
    pub(super) fn new(desk: Arc<Desk>, unsettled: Unsettled, original: Original) -> Self {
        Self {
            desk,
            unsettled,
            original,
        }
    }

    /// Puts it off: a copy waits at the broker, and then it is acknowledged.
    async fn again(self, after: Duration) -> Result<(), SourceError> {
        self.unsettled.check(&self.desk.label)?;
        let step = delay::step(after);
        let unsettled_for = match self.desk.unsettled_for(step).await {
            Ok(unsettled_for) => unsettled_for,
            Err(error) => return self.failed(after, error).await,
        };
        if unsettled_for.is_zero() {
            match self.desk.put_off(&self.original, step).await {
                Ok(()) => self.unsettled.ack(&self.desk.label).await,
                Err(error) => self.failed(after, error).await,
            }
        } else {
            self.hold(after, unsettled_for).await;
            Ok(())
        }
    }

    /// Holds it here, and then gives it back, or puts it off for the rest.
    async fn hold(self, after: Duration, at_most: Duration) {
        // It is never closed. Whoever waits here keeps its place in hand.
        let place = Arc::clone(&self.desk.places).acquire_owned().await;
        tokio::spawn(async move {
            let rest = after.saturating_sub(at_most);
            sleep(after.min(at_most)).await;
            if !rest.is_zero() {
                // Failed or not, it comes again.
                let _ = Box::pin(self.again_boxed(rest)).await;
            }
            drop(place);
        });
    }

    /// A future that names no type of its own.
    fn again_boxed(self, after: Duration) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(self.again(after))
    }

    /// Holds it for a while, so that it does not come again and again while the broker refuses its copy.
    async fn failed(self, after: Duration, error: SourceError) -> Result<(), SourceError> {
        let time = after.min(HOLD);
        self.hold(time, time).await;
        Err(error)
    }
}

impl Settle for Held {
    fn ack(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move { self.unsettled.ack(&self.desk.label).await })
    }

    fn retry_later(self: Box<Self>, after: Duration) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            match after.is_zero() {
                true => self.unsettled.give_back(&self.desk.label).await,
                false => self.again(after).await,
            }
        })
    }

    fn dead(self: Box<Self>, reason: &str) -> BoxFuture<'static, Result<(), SourceError>> {
        let Some(to) = self.desk.options.dead_letters.clone() else {
            return self.ack();
        };
        let properties = self.original.to_dead(reason);
        Box::pin(async move {
            self.unsettled.check(&self.desk.label)?;
            let publisher = &self.desk.publisher;
            match publisher.publish(&to, properties, &self.original.payload).await {
                Ok(()) => self.unsettled.ack(&self.desk.label).await,
                Err(not) => self.failed(HOLD, not.error).await,
            }
        })
    }

    fn extend(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn patience(&self) -> Option<Duration> {
        None
    }
}
