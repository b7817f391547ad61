//! A connection to the broker, and the subscription on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tokio::time::timeout;

use super::connect::{open, silent};
use super::delay::{hand_over, quorum};
use super::judge::judge;
use super::message::Original;
use super::settle::{Desk, Hand, Held, Unsettled};
use crate::consume::{Delivery, SourceError, SourceErrorKind};

const GOODBYE: Duration = Duration::from_secs(5);

/// What is done with a link is done by value, so that a step that is dropped halfway can be gone on with.
pub(super) struct Link {
    desk: Arc<Desk>,
    connection: Connection,
    channel: Channel,
    subscription: Option<Subscription>,
    subscriptions: u64,
    /// Pulled, not given out.
    ready: VecDeque<Delivery>,
    /// Why there is no subscription any more, other than by our own word.
    ended: Option<SourceError>,
}

struct Subscription {
    consumer: Consumer,
    prefetch: u16,
    /// What it gave that is not settled, pulled or given out.
    hand: Hand,
}

impl Link {
    /// Connects, and makes sure of the queue.
    pub(super) async fn open(desk: Arc<Desk>) -> Result<Box<Self>, SourceError> {
        let connection = open(&desk.at, "hapax consumer").await?;
        let opening = async {
            let channel = connection.create_channel().await?;
            if desk.options.declare {
                declare(&channel, &desk).await?;
            } else {
                look(&channel, &desk.options.queue).await?;
            }
            Ok(channel)
        };
        let channel = opening.await.map_err(|error| desk.judge("open the queue", error))?;
        Ok(Box::new(Self {
            desk,
            connection,
            channel,
            subscription: None,
            subscriptions: 0,
            ready: VecDeque::new(),
            ended: None,
        }))
    }

    /// Whether it is worth being asked: a subscription says itself how it ended.
    pub(super) fn is_open(&self) -> bool {
        let speaks = self.subscription.is_some() || self.ended.is_some();
        speaks || (self.connection.status().connected() && self.channel.status().connected())
    }

    /// Takes over what has arrived, without waiting.
    pub(super) fn pull(&mut self) {
        while let Some(subscription) = &mut self.subscription {
            match subscription.consumer.next().now_or_never() {
                Some(next) => self.arrived(next),
                None => break,
            }
        }
    }

    /// Waits until something has arrived. Dropped, it has lost nothing.
    pub(super) async fn wait(&mut self) {
        match &mut self.subscription {
            Some(subscription) => {
                let next = subscription.consumer.next().await;
                self.arrived(next);
            }
            None => std::future::pending().await,
        }
    }

    fn arrived(&mut self, next: Option<lapin::Result<lapin::message::Delivery>>) {
        let desk = &self.desk;
        match (next, &self.subscription) {
            (Some(Ok(delivery)), Some(subscription)) => {
                let acker = delivery.acker.clone();
                let (original, redelivered) = Original::of(delivery, &desk.delays);
                let unsettled = Unsettled::new(acker, [desk.hand.one_more(), subscription.hand.one_more()]);
                self.ready.push_back(Delivery {
                    message: original.message(),
                    redelivered,
                    settle: Box::new(Held::new(Arc::clone(desk), unsettled, original)),
                });
            }
            (Some(Err(error)), _) => (self.subscription, self.ended) = (None, Some(desk.judge("consume", error))),
            (None, _) => {
                let text = format!(
                    "{}: consume: the broker ended the subscription: its queue was deleted, or moved to another node",
                    desk.label
                );
                let ended = SourceError::new(SourceErrorKind::Unreachable, text);
                (self.subscription, self.ended) = (None, Some(ended));
            }
            (Some(Ok(_)), None) => {}
        }
    }

    /// At most `most` of what is ready.
    pub(super) fn give(&mut self, most: usize) -> Vec<Delivery> {
        let most = most.min(self.ready.len());
        self.ready.drain(..most).collect()
    }

    /// Why the subscription ended, if it did: what is ready went with it.
    pub(super) fn take_end(&mut self) -> Option<SourceError> {
        self.ended.take()
    }

    /// The prefetch of a new subscription, if there must be one for `most` more to come. One that has room is kept, even if
    /// for fewer: what is on its way when a subscription ends comes again behind the others.
    pub(super) fn other_prefetch(&self, most: usize) -> Option<u16> {
        let is_full = |had: &Subscription| had.hand.count() >= had.prefetch.into();
        let asked = u16::try_from(most.max(1)).unwrap_or(u16::MAX);
        self.subscription.as_ref().is_none_or(is_full).then_some(asked)
    }

    /// Subscribes with this prefetch, instead of what was there. What that one was sent stays in hand.
    pub(super) async fn subscribe(mut self: Box<Self>, prefetch: u16) -> Result<Box<Self>, SourceError> {
        self.unsubscribe().await?;
        if self.ended.is_some() {
            // Its reason comes first.
            return Ok(self);
        }
        self.subscriptions += 1;
        let tag = format!("hapax-{}-{}", std::process::id(), self.subscriptions);
        let subscribing = async {
            self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let (queue, options) = (self.desk.options.queue.as_str(), BasicConsumeOptions::default());
            self.channel
                .basic_consume(queue.into(), tag.as_str().into(), options, FieldTable::default())
                .await
        };
        let consumer = subscribing.await.map_err(|error| self.desk.judge("consume", error))?;
        self.subscription = Some(Subscription {
            consumer,
            prefetch,
            hand: Hand::default(),
        });
        Ok(self)
    }

    /// Ends the subscription, and gives back what was not given out.
    pub(super) async fn pause(mut self: Box<Self>) -> Result<Box<Self>, SourceError> {
        self.unsubscribe().await?;
        // Dropped without a word, they are given back; the last first, as a classic queue puts each before the others.
        while self.ready.pop_back().is_some() {}
        Ok(self)
    }

    async fn unsubscribe(&mut self) -> Result<(), SourceError> {
        self.pull();
        let Some(subscription) = &self.subscription else {
            return Ok(());
        };
        let tag = subscription.consumer.tag();
        let cancelled = self.channel.basic_cancel(tag, BasicCancelOptions::default()).await;
        cancelled.map_err(|error| self.desk.judge("end the subscription", error))?;
        // All that it was sent came before the confirmation, and behind that the end we asked for.
        self.pull();
        (self.subscription, self.ended) = (None, None);
        Ok(())
    }

    /// Messages in the queue that nobody has in hand.
    pub(super) async fn waiting(&self) -> Result<u64, SourceError> {
        let counting = async {
            let channel = self.connection.create_channel().await?;
            let queue = look(&channel, &self.desk.options.queue).await?;
            // It ends anyway when it is dropped.
            let _ = channel.close(200, "counted".into()).await;
            Ok(queue.message_count())
        };
        let counted = counting.await;
        counted.map(u64::from).map_err(|error| self.desk.judge("count", error))
    }

    /// Gives back what is in hand and leaves; acknowledgements on their way arrive before that.
    pub(super) async fn close(mut self: Box<Self>) {
        while self.ready.pop_back().is_some() {}
        let closing = async {
            self.channel.close(200, "closed".into()).await?;
            self.connection.close(200, "closed".into()).await
        };
        // Whoever is away takes it for closed.
        let _ = timeout(GOODBYE, closing).await;
    }
}

/// Whether the queue is there.
async fn look(channel: &Channel, queue: &str) -> lapin::Result<lapin::Queue> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await
}

/// Makes the queue, and that of its dead letters.
async fn declare(channel: &Channel, desk: &Desk) -> lapin::Result<()> {
    let mut arguments = quorum();
    if let Some(dead) = &desk.options.dead_letters {
        hand_over(&mut arguments, &dead.exchange, &dead.routing_key);
        if dead.exchange.is_empty() {
            // However it was made.
            let made = channel.queue_declare(
                dead.routing_key.as_str().into(),
                QueueDeclareOptions::durable(),
                quorum(),
            );
            made.await?;
        }
    }
    let queue = desk.options.queue.as_str();
    channel
        .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
        .await?;
    Ok(())
}

impl Desk {
    fn judge(&self, doing: &str, error: lapin::Error) -> SourceError {
        judge(&self.label, doing, error)
    }

    pub(super) fn silent(&self, doing: &str) -> SourceError {
        silent(&self.label, doing)
    }
}
