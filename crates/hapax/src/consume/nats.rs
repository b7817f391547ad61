//! NATS JetStream: messages of a stream, by a durable pull consumer, and effects into a stream.
//!
//! What it does not do: make streams, or change a consumer that is there. Those are the operator's.

mod connect;
mod link;
mod place;
mod pull;
mod reply;
mod settle;
mod sink;
mod source;
mod subject;

use std::time::Duration;

pub use connect::{Nats, NatsError};
pub use sink::NatsSink;
pub use source::NatsSource;

/// Which messages a [`NatsSource`] takes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsOptions {
    /// The stream, which must exist.
    pub stream: String,
    /// The durable consumer: the group whose members share the messages. It is made if there is none, from the stream's
    /// first message on.
    pub consumer: String,
    /// Only messages of these subjects, wildcards included (none: all of the stream, or as the consumer that is there
    /// has it). More than one needs NATS 2.10.
    pub subjects: Vec<String>,
    /// After which time a message without a word is delivered again (30 s). A consumer that is there keeps its own.
    pub ack_wait: Duration,
    /// The most messages that the whole group may have in hand (the server's own: 1,000). A consumer that is there keeps
    /// its own.
    pub max_ack_pending: Option<u32>,
    /// A subject to which dead letters are published, beside their record. A stream must take it, and this consumer must
    /// not.
    pub dead_letters: Option<String>,
}

impl NatsOptions {
    /// All messages of a stream, by a durable consumer.
    #[must_use]
    pub fn new(stream: &str, consumer: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
            subjects: Vec::new(),
            ack_wait: Duration::from_secs(30),
            max_ack_pending: None,
            dead_letters: None,
        }
    }
}
