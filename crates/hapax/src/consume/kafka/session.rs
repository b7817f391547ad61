//! One membership in the group: the threads that poll librdkafka and commit, and what they share with the source and its deliveries.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hapax_core::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::outlet::DeadLetters;
use super::poller::Poller;
use super::state::{Bounds, Held, State};
use super::trouble::Trouble;
use crate::consume::{Delivery, Message, Settle, SourceError};

/// After so long a message is given again that was dropped without a word.
const DROPPED: Duration = Duration::from_secs(1);

/// What it takes to join.
#[derive(Clone)]
pub(super) struct Joining {
    pub(super) label: Arc<str>,
    pub(super) config: ClientConfig,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) bounds: Bounds,
    pub(super) commit_every: Duration,
    /// Whether a partition without a committed offset begins at its end.
    pub(super) from_end: bool,
}

/// Shared by the threads, the source and the deliveries.
pub(super) struct Session {
    pub(super) joining: Joining,
    state: Mutex<State>,
    /// Something came for the source.
    pub(super) arrived: Notify,
    /// The source took something.
    pub(super) room: Condvar,
    /// The window of some partition is nearly over.
    pub(super) hurry: Condvar,
    /// Whoever commits has it.
    pub(super) turn: Mutex<()>,
    over: watch::Sender<bool>,
    dead_letters: Option<Arc<DeadLetters>>,
}

impl Session {
    /// Starts the thread, which connects by itself.
    pub(super) fn start(joining: Joining, dead_letters: Option<Arc<DeadLetters>>) -> std::io::Result<Arc<Self>> {
        let session = Arc::new(Self {
            state: Mutex::new(State::new(joining.bounds)),
            joining,
            arrived: Notify::new(),
            room: Condvar::new(),
            hurry: Condvar::new(),
            turn: Mutex::default(),
            over: watch::Sender::new(false),
            dead_letters,
        });
        let poller = Poller::new(Arc::clone(&session));
        // Rebalances and the last commit block: they must not block the caller's runtime.
        let thread = std::thread::Builder::new().name("hapax-kafka".to_owned());
        thread.spawn(move || poller.run())?;
        Ok(session)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, trouble: Trouble) {
        self.state().trouble = Some(trouble);
        self.arrived.notify_one();
    }

    /// At most `most` deliveries; none if there are none.
    pub(super) fn take(self: &Arc<Self>, most: usize) -> Vec<Delivery> {
        let taken = self.state().take(most, Instant::now());
        self.room.notify_one();
        let deliver = |(held, redelivered): (Held, bool)| Delivery {
            message: held.message.clone(),
            redelivered,
            settle: Box::new(KafkaSettle {
                session: Arc::clone(self),
                held: Some(held),
            }),
        };
        taken.into_iter().map(deliver).collect()
    }

    /// Asks the thread to leave the group.
    pub(super) fn leave(&self) {
        self.state().closing = true;
        self.room.notify_one();
    }

    /// Waits for the thread to end.
    pub(super) async fn over(&self) {
        // The sender is here.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    pub(super) fn ended(&self) {
        {
            let mut state = self.state();
            state.ended = true;
            // Whoever waits for an answer hears that there is none.
            state.questions.clear();
        }
        self.over.send_replace(true);
        self.arrived.notify_one();
    }

    fn done(&self, held: &Held) -> Result<(), SourceError> {
        match self.state().done(held) {
            true => Ok(()),
            false => Err(self.lost(held)),
        }
    }

    fn park(&self, held: Held, after: Duration) -> bool {
        let parked = self.state().park(held, Instant::now() + after);
        // It waits for the earliest.
        self.arrived.notify_one();
        parked
    }

    fn lost(&self, held: &Held) -> SourceError {
        let (topic, partition) = &held.place;
        let text = format!(
            "{}: partition {partition} of {topic} went to another member of the group, or came back since message {} was \
             received: whoever has it now is given the message again",
            self.joining.label, held.offset
        );
        Trouble::unreachable(text).error()
    }
}

/// What becomes of a message.
struct KafkaSettle {
    session: Arc<Session>,
    /// `None` once it is settled.
    held: Option<Held>,
}

impl Settle for KafkaSettle {
    /// Returns once it is noted, not when it is committed: the commit follows within
    /// [`KafkaOptions::commit_every`](super::KafkaOptions::commit_every), and one that is lost in a crash means a
    /// redelivery.
    fn ack(mut self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        // At once: a future that nobody polls would leave it open.
        let done = match self.held.take() {
            Some(held) => self.session.done(&held),
            None => Ok(()),
        };
        Box::pin(std::future::ready(done))
    }

    /// Kafka has no such thing: it is kept here until then.
    fn retry_later(mut self: Box<Self>, after: Duration) -> BoxFuture<'static, Result<(), SourceError>> {
        let parked = match self.held.take() {
            Some(held) => {
                let lost = self.session.lost(&held);
                if self.session.park(held, after) {
                    Ok(())
                } else {
                    Err(lost)
                }
            }
            None => Ok(()),
        };
        Box::pin(std::future::ready(parked))
    }

    fn dead(mut self: Box<Self>, reason: &str) -> BoxFuture<'static, Result<(), SourceError>> {
        let reason = reason.to_owned();
        Box::pin(async move {
            let Some(held) = &self.held else { return Ok(()) };
            if !self.session.state().holds(held) {
                return Err(self.session.lost(held));
            }
            // Dropped in here, or failed, it is given again.
            if let Some(dead_letters) = &self.session.dead_letters {
                dead_letters.send(held, &reason).await?;
            }
            let done = self.session.done(held);
            self.held = None;
            done
        })
    }

    fn extend(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn patience(&self) -> Option<Duration> {
        None
    }
}

impl Drop for KafkaSettle {
    /// The group would never get past a message that nobody settles.
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.session.park(held, DROPPED);
        }
    }
}

/// The topics' names, shared by their messages.
pub(super) struct Names(HashMap<String, Arc<str>>);

impl Names {
    pub(super) fn new(topics: &[Arc<str>]) -> Self {
        Self(
            topics
                .iter()
                .map(|topic| (topic.to_string(), Arc::clone(topic)))
                .collect(),
        )
    }

    pub(super) fn of(&self, topic: &str) -> Arc<str> {
        self.0.get(topic).map_or_else(|| topic.into(), Arc::clone)
    }
}

/// A message as consumers see it.
pub(super) fn message(from: &BorrowedMessage<'_>) -> Message {
    let headers = from.headers().map(|headers| {
        let header = |header: rdkafka::message::Header<'_, &[u8]>| {
            let value = header.value.map(Bytes::copy_from_slice).unwrap_or_default();
            (header.key.into(), value)
        };
        headers.iter().map(header).collect()
    });
    Message {
        subject: from.topic().into(),
        position: Some(format!("{}/{}/{}", from.topic(), from.partition(), from.offset()).into()),
        key: from.key().map(Bytes::copy_from_slice),
        headers: headers.unwrap_or_default(),
        payload: from.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
        published: from.timestamp().to_millis().map(Timestamp::from_millis),
    }
}
