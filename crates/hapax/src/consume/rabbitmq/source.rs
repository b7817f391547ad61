//! The queue as a source.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::BoxFuture;
use tokio::time::timeout;

use super::link::Link;
use super::settle::Desk;
use super::{RabbitMq, RabbitMqError, RabbitMqOptions, delay};
use crate::consume::{Delivery, Lag, Source, SourceError};

/// How long a call waits for the broker before it says so. What was begun goes on with the next one.
const PATIENCE: Duration = Duration::from_secs(10);

/// A queue of RabbitMQ.
///
/// A message's subject is its routing key; its properties are headers by their names in AMQP (`message-id`,
/// `correlation-id`, `content-type`, `type`, `timestamp`, …), before those of its header table, whose numbers are
/// printed and whose lists and tables are left out. It has no position.
///
/// ```
/// use hapax::consume::{RabbitMq, RabbitMqOptions, RabbitMqRoute, RabbitMqSource};
///
/// let rabbitmq = RabbitMq::new("amqp://shop:secret@127.0.0.1")?;
/// let options = RabbitMqOptions {
///     declare: true,
///     dead_letters: Some(RabbitMqRoute::queue("orders.dead")),
///     ..RabbitMqOptions::new("orders")
/// };
/// let source = RabbitMqSource::new(&rabbitmq, options)?;
/// # Ok::<_, hapax::consume::RabbitMqError>(())
/// ```
pub struct RabbitMqSource {
    desk: Arc<Desk>,
    state: State,
}

type Moving = BoxFuture<'static, Result<Box<Link>, SourceError>>;

enum State {
    Away,
    /// On the way to a link: nothing is in hand.
    Connecting(Moving),
    /// On the way to another subscription, or none.
    Changing(Moving),
    Linked(Box<Link>),
}

impl RabbitMqSource {
    /// A source that connects when it is first asked for something.
    ///
    /// # Errors
    /// [`RabbitMqError`] if AMQP has no room for the names.
    pub fn new(at: &RabbitMq, options: RabbitMqOptions) -> Result<Self, RabbitMqError> {
        options.check()?;
        Ok(Self {
            desk: Arc::new(Desk::new(at.clone(), options)),
            state: State::Away,
        })
    }

    /// The link, once what is under way has ended.
    async fn linked(&mut self, doing: &str) -> Result<&mut Link, SourceError> {
        loop {
            match &mut self.state {
                State::Linked(link) if link.is_open() => break,
                State::Linked(_) | State::Away => {
                    let opening = Link::open(Arc::clone(&self.desk));
                    self.state = State::Connecting(Box::pin(opening));
                }
                State::Connecting(moving) | State::Changing(moving) => {
                    let Ok(moved) = timeout(PATIENCE, moving).await else {
                        return Err(self.desk.silent(doing));
                    };
                    self.state = State::Away;
                    self.state = State::Linked(moved?);
                }
            }
        }
        match &mut self.state {
            State::Linked(link) => Ok(link),
            _ => Err(self.desk.silent(doing)),
        }
    }

    /// Begins a step of the link, by value.
    fn change<F>(&mut self, step: impl FnOnce(Box<Link>) -> F)
    where
        F: Future<Output = Result<Box<Link>, SourceError>> + Send + 'static,
    {
        self.state = match std::mem::replace(&mut self.state, State::Away) {
            State::Linked(link) => State::Changing(Box::pin(step(link))),
            other => other,
        };
    }

    async fn messages(&mut self, most: usize) -> Result<Vec<Delivery>, SourceError> {
        loop {
            let link = self.linked("receive").await?;
            link.pull();
            if let Some(error) = link.take_end() {
                self.state = State::Away;
                return Err(error);
            }
            let given = link.give(most);
            if !given.is_empty() {
                return Ok(given);
            }
            match link.other_prefetch(most) {
                Some(prefetch) => self.change(|link| link.subscribe(prefetch)),
                None => link.wait().await,
            }
        }
    }

    async fn count(&mut self) -> Result<Lag, SourceError> {
        let hand = self.desk.hand.clone();
        let link = self.linked("count").await?;
        link.pull();
        let waiting = link.waiting().await?;
        Ok(Lag {
            messages: waiting + hand.count() as u64,
            oldest: None,
        })
    }

    async fn stop(&mut self) {
        if let State::Changing(_) = self.state {
            // If it failed, there is nothing to stop.
            let _ = self.linked("stop").await;
        }
    }
}

impl Source for RabbitMqSource {
    fn label(&self) -> &str {
        &self.desk.label
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        Box::pin(self.messages(most))
    }

    fn pause(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop().await;
            if let State::Linked(_) = self.state {
                self.change(Link::pause);
                self.stop().await;
            }
        })
    }

    /// What is ready in the queue, and what this process has in hand. What other consumers have in hand is not counted,
    /// nor what waits in delay queues.
    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        Box::pin(async move {
            match timeout(PATIENCE, self.count()).await {
                Ok(lag) => lag,
                Err(_) => Err(self.desk.silent("count")),
            }
        })
    }

    /// By [`RabbitMqOptions::queue_ttl`], and the longest pause. The broker cannot be asked by AMQP.
    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        let said = self.desk.options.queue_ttl.map(|ttl| ttl + delay::LONGEST);
        Box::pin(std::future::ready(Ok(said)))
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop().await;
            if let State::Linked(link) = std::mem::replace(&mut self.state, State::Away) {
                link.close().await;
            }
            self.desk.publisher.close().await;
        })
    }
}

impl fmt::Debug for RabbitMqSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqSource")
            .field("label", &self.desk.label)
            .field("options", &self.desk.options)
            .finish_non_exhaustive()
    }
}
