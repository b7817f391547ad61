//! Redis Streams: entries of a stream, by a consumer group, and effects into a stream.
//!
//! An entry that was given stays in its group's pending list until it is acknowledged. How long nobody has said a word
//! about it ([`RedisOptions::min_idle`]) is the only clock: what a member gives back, what its settles fail to say, and
//! what a crash leaves behind is found by it, and claimed by whoever is next.
//!
//! What it does not do: Redis Cluster, and what makes Redis durable. Those are the operator's.

mod connect;
mod entry;
mod fault;
mod group;
mod settle;
mod shared;
mod sink;
mod source;

use std::time::Duration;

pub use connect::{Redis, RedisSetupError};
pub use sink::RedisSink;
pub use source::RedisSource;

/// The field that holds what a message says, unless options say otherwise.
const PAYLOAD: &str = "payload";

/// Which messages a [`RedisSource`] takes, and how. All members of a group must have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// The stream's key.
    pub stream: String,
    /// The group whose members share the messages. It is made if there is none, from the stream's first entry on.
    pub group: String,
    /// The field that is the payload (`payload`); all others are headers. An entry without it has a JSON object of all
    /// its fields as payload.
    pub payload: String,
    /// After which time a message without a word is delivered again, to whichever member (30 s; at least 1 s). A handler
    /// says a word every third of it.
    pub min_idle: Duration,
    /// A stream to which dead letters are added, in one step with their acknowledgement, beside their record.
    pub dead_letters: Option<String>,
    /// Whether a stream that is not there is made, empty (no: it is a mistake in a name more often than not).
    pub create: bool,
    /// Whether entries are deleted from the stream when they are done or dead (no). Right only where the stream has one
    /// group.
    pub delete_done: bool,
}

impl RedisOptions {
    /// All entries of a stream, by a group.
    #[must_use]
    pub fn new(stream: &str, group: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            group: group.to_owned(),
            payload: PAYLOAD.to_owned(),
            min_idle: Duration::from_secs(30),
            dead_letters: None,
            create: false,
            delete_done: false,
        }
    }
}
