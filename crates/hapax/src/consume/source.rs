//! The contract with brokers: where messages come from.

use std::fmt;
use std::time::Duration;

use hapax_core::BoxFuture;

use super::message::Message;

/// Where messages come from: a queue, a stream, a topic of one broker, as one consumer group sees it.
///
/// A source MUST
/// - connect by itself, at the first [`receive`](Self::receive) and again after its connection broke; a failure is
///   given as an error, and the next call tries again;
/// - give a message again that was neither acknowledged nor buried, to this process or another, at the latest when its
///   own time for that is over; after a crash of this process all of them, with [`Delivery::redelivered`];
/// - lose nothing when a call is dropped before it ends: what it had in hand is given by the next one, or by the broker.
///
/// It decides nothing: what is acknowledged, and when, is the consumer's.
pub trait Source: Send + 'static {
    /// Where it takes messages from, without secrets: for logs and errors.
    fn label(&self) -> &str;

    /// Waits for messages and gives at most `most` of them, in the broker's order; at least one.
    ///
    /// # Errors
    /// [`SourceError`], as often as it lasts.
    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>>;

    /// Takes nothing more from the broker, and gives back what it was sent ahead, until the next
    /// [`receive`](Self::receive). Stays a member of its group.
    fn pause(&mut self) -> BoxFuture<'_, ()>;

    /// How far the consumer group is behind.
    ///
    /// # Errors
    /// [`SourceError`] if the broker cannot be asked.
    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>>;

    /// How long after its first delivery a message can come again, as far as the broker's own settings bound it: the
    /// largest age of what it keeps. `None` if nothing does.
    ///
    /// # Errors
    /// [`SourceError`] if the broker cannot be asked.
    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>>;

    /// Leaves the group and gives back what it was sent ahead. What was settled before is settled at the broker when
    /// this returns, as far as it can be reached.
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

/// For a source that is chosen at run time.
impl Source for Box<dyn Source> {
    fn label(&self) -> &str {
        (**self).label()
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        (**self).receive(most)
    }

    fn pause(&mut self) -> BoxFuture<'_, ()> {
        (**self).pause()
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        (**self).lag()
    }

    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        (**self).redelivers_for()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        (**self).close()
    }
}

/// A message in hand.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Whether it may have been delivered before: by what the broker says, or because it cannot say.
    pub redelivered: bool,
    /// What becomes of it at the broker.
    pub settle: Box<dyn Settle>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// What becomes of a delivered message at its broker. Dropped without a word, it is delivered again at some time.
pub trait Settle: Send + Sync + 'static {
    /// It is done with: never to be delivered again. Returns when the broker has confirmed it, where it does that.
    ///
    /// # Errors
    /// [`SourceError`]: it may be delivered again.
    fn ack(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>>;

    /// To be delivered again, not before `after`.
    ///
    /// # Errors
    /// [`SourceError`]: it is delivered again at a time of the broker's choice.
    fn retry_later(self: Box<Self>, after: Duration) -> BoxFuture<'static, Result<(), SourceError>>;

    /// It is a dead letter, in the record with its payload: never to be delivered again. Exported to the broker's own
    /// place for dead letters, if the source was given one, before it is acknowledged.
    ///
    /// # Errors
    /// [`SourceError`]: it may be delivered again.
    fn dead(self: Box<Self>, reason: &str) -> BoxFuture<'static, Result<(), SourceError>>;

    /// It is still being worked on.
    fn extend(&self) -> BoxFuture<'_, ()>;

    /// How long it may go without [`extend`](Self::extend) before it is delivered again; `None` for as long as the
    /// connection holds.
    fn patience(&self) -> Option<Duration>;
}

/// How far a consumer group is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Messages that are not done with: not delivered yet, or delivered and not acknowledged.
    pub messages: u64,
    /// Age of the oldest of them, where the broker can tell.
    pub oldest: Option<Duration>,
}

/// Whether waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// The broker is away, or broke the connection.
    Unreachable,
    /// It answers, and refuses: credentials, permissions, a stream, queue or topic that is not there, a setting that
    /// it does not have. A person must act.
    Refused,
}

/// Why a source, or a step on a delivery, failed. Nothing is lost: what is not acknowledged is delivered again.
#[derive(Debug)]
pub struct SourceError {
    kind: SourceErrorKind,
    message: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// An error that says what was being done, at which broker, and what to do next where a person must act.
    #[must_use]
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    /// With the error underneath.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Whether waiting helps.
    #[must_use]
    pub fn kind(&self) -> SourceErrorKind {
        self.kind
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as _)
    }
}
