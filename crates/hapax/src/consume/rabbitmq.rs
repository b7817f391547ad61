//! RabbitMQ: messages of a queue, and effects to an exchange.
//!
//! A message that is to come again later waits in a queue of its own for each pause, from which the broker sends it back:
//! nothing holds up what is behind it, and a plain RabbitMQ (3.10 or later) without plugins is enough. What is to come
//! again at once is given back as it is.
//!
//! What it does not do: exchanges and bindings, which are the operator's; the queue itself only where it is told to
//! ([`RabbitMqOptions::declare`]).

mod address;
mod connect;
mod copy;
mod delay;
mod judge;
mod link;
mod message;
mod publish;
mod settle;
mod sink;
mod source;

use std::time::Duration;

pub use address::{RabbitMq, RabbitMqError};
pub use sink::RabbitMqSink;
pub use source::RabbitMqSource;

/// Which messages a [`RabbitMqSource`] takes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RabbitMqOptions {
    /// The queue: at most 230 bytes.
    pub queue: String,
    /// Whether the queue is made if it is not there (no): durable, a quorum queue, which refuses what it has no room for
    /// rather than dropping what it has. With [`dead_letters`](Self::dead_letters), what the broker itself gives up on
    /// goes there too, not before it has arrived; a queue for them is made as well.
    ///
    /// A queue that is there and was made otherwise is refused: leave this off for it.
    pub declare: bool,
    /// Where dead letters are published to, beside their record (nowhere).
    pub dead_letters: Option<RabbitMqRoute>,
    /// The longest that a message can wait in the queue (nothing said). AMQP cannot ask for a queue's `x-message-ttl`:
    /// with it, a consumer can tell whether it remembers messages for long enough.
    pub queue_ttl: Option<Duration>,
}

impl RabbitMqOptions {
    /// The messages of a queue that is there.
    #[must_use]
    pub fn new(queue: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            declare: false,
            dead_letters: None,
            queue_ttl: None,
        }
    }
}

/// Where a message is published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RabbitMqRoute {
    /// The exchange; the empty one has a route to each queue by its name.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}

impl RabbitMqRoute {
    /// Straight to a queue.
    #[must_use]
    pub fn queue(name: &str) -> Self {
        Self::exchange("", name)
    }

    /// To an exchange.
    #[must_use]
    pub fn exchange(exchange: &str, routing_key: &str) -> Self {
        Self {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
        }
    }
}
