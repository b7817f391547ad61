//! What becomes of a message at its stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message, Subject};
use bytes::Bytes;
use hapax_core::BoxFuture;

use super::NatsOptions;
use super::link::{Fault, Link};
use super::reply::Reply;
use crate::consume::{Settle, SourceError, SourceErrorKind};

/// Why it is dead, where it was, and its own `Nats-` headers, which would command the stream of dead letters.
const REASON: &str = "Hapax-Dead-Reason";
const SUBJECT: &str = "Hapax-Dead-Subject";
const POSITION: &str = "Hapax-Dead-Position";
const RENAMED: &str = "Hapax-Dead-";
/// More of a reason is in the record.
const REASON_BYTES: usize = 1024;

/// What a source and its messages have in common.
pub(super) struct Shared {
    label: String,
    consumer: String,
    dead_letters: Option<String>,
    /// The source's connection, by which all of its messages are settled, those of earlier ones included.
    link: Mutex<Option<Link>>,
    /// How often another stream of the same name was found.
    streams: AtomicU64,
}

impl Shared {
    pub(super) fn new(label: String, options: &NatsOptions) -> Self {
        Self {
            label,
            consumer: options.consumer.clone(),
            dead_letters: options.dead_letters.clone(),
            link: Mutex::new(None),
            streams: AtomicU64::new(0),
        }
    }

    pub(super) fn join(&self, link: Option<Link>) {
        // Nothing in there panics.
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// Ends what belongs to a stream that is gone.
    pub(super) fn renew(&self) {
        self.streams.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn gone(&self) -> SourceError {
        let what = format!(
            "there is no connection to {} at the moment: what is not settled comes again",
            self.label
        );
        SourceError::new(SourceErrorKind::Unreachable, what)
    }

    fn link(&self) -> Result<Link, SourceError> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        link.ok_or_else(|| self.gone())
    }
}

pub(super) struct NatsSettle {
    shared: Arc<Shared>,
    stream: u64,
    patience: Duration,
    /// Whole only where dead letters are exported.
    message: Message,
}

impl NatsSettle {
    pub(super) fn new(shared: &Arc<Shared>, patience: Duration, mut message: Message) -> Self {
        if shared.dead_letters.is_none() {
            (message.headers, message.payload) = (None, Bytes::new());
        }
        Self {
            shared: Arc::clone(shared),
            stream: shared.streams.load(Ordering::SeqCst),
            patience,
            message,
        }
    }

    /// The connection and where to say it; an error if the message cannot be there any more.
    fn at(&self) -> Result<(Link, &Subject), SourceError> {
        let link = self.shared.link()?;
        if self.stream != self.shared.streams.load(Ordering::SeqCst) {
            let what = format!(
                "the stream of {} was deleted, and this message with it",
                self.shared.label
            );
            return Err(SourceError::new(SourceErrorKind::Unreachable, what));
        }
        let reply = self.message.reply.as_ref().ok_or_else(|| self.shared.gone())?;
        Ok((link, reply))
    }

    /// Says it, and waits until the server has confirmed it.
    async fn say(&self, doing: &str, word: Bytes) -> Result<(), SourceError> {
        let (link, reply) = self.at()?;
        let confirmed = link.ask(reply, word).await;
        confirmed.map(|_| ()).map_err(|fault| match fault {
            Fault::Nobody => {
                let what = format!("{} cannot {doing} a message: its consumer is gone", self.shared.label);
                SourceError::new(SourceErrorKind::Unreachable, what)
            }
            fault => link.error(&format!("{doing} a message of {}", self.shared.label), &fault),
        })
    }

    async fn export(&self, reason: &str) -> Result<(), SourceError> {
        let Some(dead_letters) = &self.shared.dead_letters else {
            return Ok(());
        };
        let (link, _) = self.at()?;
        let stored = link
            .publish(dead_letters, self.dead_headers(reason), self.message.payload.clone())
            .await;
        stored.map_err(|fault| match fault {
            Fault::Nobody => {
                let what = format!(
                    "no stream takes the dead letters to {dead_letters}: make one by `nats stream add DEAD --subjects \
                     {dead_letters}`"
                );
                SourceError::new(SourceErrorKind::Refused, what)
            }
            fault => link.error(&format!("store a dead letter to {dead_letters}"), &fault),
        })
    }

    fn dead_headers(&self, reason: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in self.message.headers.iter().flat_map(HeaderMap::iter) {
            let name = match name.to_string() {
                command if command.to_ascii_lowercase().starts_with("nats-") => format!("{RENAMED}{command}"),
                name => name,
            };
            let Ok(name) = name.parse::<HeaderName>() else { continue };
            values
                .iter()
                .for_each(|value| headers.append(name.clone(), value.clone()));
        }
        let reply = self.message.reply.as_deref().and_then(Reply::parse);
        let position = reply.as_ref().map_or(String::new(), Reply::position);
        let published = reply.map_or(0, |reply| reply.published);
        // With the time, since a stream that is made anew counts anew.
        let id = format!("hapax-dead/{position}/{published}/{}", self.shared.consumer);
        headers.insert(async_nats::header::NATS_MESSAGE_ID, value(&id));
        headers.insert(REASON, value(reason));
        headers.insert(SUBJECT, value(&self.message.subject));
        headers.insert(POSITION, value(&position));
        headers
    }
}

/// On one line, and no longer than a header should be.
fn value(text: &str) -> HeaderValue {
    let line: String = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    let end = (0..=REASON_BYTES.min(line.len()))
        .rev()
        .find(|end| line.is_char_boundary(*end));
    HeaderValue::from(&line[..end.unwrap_or_default()])
}

impl Settle for NatsSettle {
    fn ack(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move { self.say("acknowledge", "+ACK".into()).await })
    }

    fn retry_later(self: Box<Self>, after: Duration) -> BoxFuture<'static, Result<(), SourceError>> {
        let word = match after.as_nanos() {
            0 => "-NAK".to_owned(),
            nanos => format!("-NAK {{\"delay\":{nanos}}}"),
        };
        Box::pin(async move { self.say("give back", word.into()).await })
    }

    fn dead(self: Box<Self>, reason: &str) -> BoxFuture<'static, Result<(), SourceError>> {
        let reason = reason.to_owned();
        Box::pin(async move {
            self.export(&reason).await?;
            let (link, _) = self.at()?;
            // Older servers do not know the word with a reason.
            let word = match link.client.is_server_compatible(2, 11, 0) {
                true => format!("+TERM {}", value(&reason).as_str()),
                false => "+TERM".to_owned(),
            };
            self.say("bury", word.into()).await
        })
    }

    fn extend(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Ok((link, reply)) = self.at() {
                // Whether it arrives or not, its loss is a redelivery.
                let _ = link.client.publish(reply.clone(), "+WPI".into()).await;
            }
        })
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.patience)
    }
}
