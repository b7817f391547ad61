//! Messages of a stream.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message as Delivered};
use bytes::Bytes;
use futures_util::FutureExt;
use hapax_core::BoxFuture;
use hapax_store::Clock;
use tokio::time::{Instant, timeout_at};

use super::link::{ANSWER, Fault, Link};
use super::place::{Place, timestamp};
use super::pull::{Came, Pull};
use super::reply::Reply;
use super::settle::{NatsSettle, Shared};
use super::subject::{is_name, is_pattern, is_plain};
use super::{Nats, NatsError, NatsOptions};
use crate::consume::{Delivery, Lag, Message, Source, SourceError};

/// A stream of NATS JetStream, as a durable consumer sees it. Its members, in whatever processes, share the messages.
///
/// [`Message::position`] is `STREAM/sequence`, and [`Message::headers`] are sorted by name. What is acknowledged is
/// acknowledged twice over: the server has confirmed it. Messages are acknowledged across reconnects, as the server
/// knows them by their place in the stream; but not once the stream was deleted and made anew.
///
/// ```no_run
/// use hapax::consume::{Nats, NatsOptions, NatsSource};
///
/// let source = NatsSource::new(
///     Nats::new("nats://127.0.0.1:4222")?,
///     NatsOptions {
///         subjects: vec!["orders.paid".to_owned()],
///         dead_letters: Some("dead.points".to_owned()),
///         ..NatsOptions::new("ORDERS", "points")
///     },
/// )?;
/// # Ok::<_, hapax::consume::NatsError>(())
/// ```
pub struct NatsSource {
    nats: Nats,
    options: NatsOptions,
    label: String,
    session: Option<Session>,
    joining: Option<BoxFuture<'static, Result<Session, SourceError>>>,
    /// What came and was not given yet: no more than was asked for.
    ready: VecDeque<Delivered>,
    /// The stream that was seen last.
    born: Option<i128>,
    patience: Duration,
    shared: Arc<Shared>,
    clock: Clock,
}

struct Session {
    link: Link,
    place: Place,
    pull: Pull,
}

impl Session {
    async fn join(nats: Nats, options: NatsOptions) -> Result<Self, SourceError> {
        let link = nats.connect().await?;
        let place = Place::find(&link, &options).await?;
        let pull = Pull::new(&link, &options.stream, &options.consumer).await;
        let pull = pull.map_err(|fault| link.error("listen for messages", &fault))?;
        Ok(Self { link, place, pull })
    }
}

impl NatsSource {
    /// A source that is not connected yet.
    ///
    /// # Errors
    /// [`NatsError`] if a name or a subject makes no sense.
    pub fn new(nats: Nats, options: NatsOptions) -> Result<Self, NatsError> {
        for name in [&options.stream, &options.consumer] {
            if !is_name(name) {
                return Err(NatsError::Name(name.clone()));
            }
        }
        let subjects = options.subjects.iter().map(|subject| (subject, is_pattern(subject)));
        let dead_letters = options.dead_letters.iter().map(|subject| (subject, is_plain(subject)));
        if let Some((subject, _)) = subjects.chain(dead_letters).find(|(_, makes_sense)| !makes_sense) {
            return Err(NatsError::Subject(subject.clone()));
        }
        let label = format!("{} {}/{}", nats.label(), options.stream, options.consumer);
        Ok(Self {
            shared: Arc::new(Shared::new(label.clone(), &options)),
            patience: options.ack_wait,
            nats,
            options,
            label,
            session: None,
            joining: None,
            ready: VecDeque::new(),
            born: None,
            clock: Clock::default(),
        })
    }

    async fn next(&mut self, most: usize) -> Result<Vec<Delivery>, SourceError> {
        let most = most.max(1);
        loop {
            self.take_what_is_here()?;
            let given = self.give(most);
            if !given.is_empty() {
                return Ok(given);
            }
            let came = {
                let session = self.session().await?;
                match session.pull.ask(&session.link, &session.place, most).await {
                    Ok(()) => session.pull.next(&session.link).await,
                    Err(fault) => Came::Over(fault),
                }
            };
            self.take(came)?;
        }
    }

    /// The connection, and what is at its other end.
    async fn session(&mut self) -> Result<&mut Session, SourceError> {
        if self.session.as_ref().is_some_and(|session| session.link.is_lost()) {
            self.leave();
        }
        if self.session.is_none() {
            let (nats, options) = (&self.nats, &self.options);
            // Kept, so that callers without patience get there together.
            let joining = self
                .joining
                .get_or_insert_with(|| Session::join(nats.clone(), options.clone()).boxed());
            let joined = joining.await;
            self.joining = None;
            self.enter(joined?);
        }
        self.session.as_mut().ok_or_else(|| self.shared.gone())
    }

    fn enter(&mut self, session: Session) {
        let place = &session.place;
        if self.born.is_some_and(|born| born != place.born) {
            // Its numbers begin again: nothing may be said about them that was meant for the other stream's.
            self.ready.clear();
            self.shared.renew();
        }
        (self.born, self.patience) = (Some(place.born), place.patience);
        self.shared.join(Some(session.link.clone()));
        self.session = Some(session);
    }

    /// Takes what the connection has brought already, the end of it included.
    fn take_what_is_here(&mut self) -> Result<(), SourceError> {
        while let Some(came) = self.session.as_mut().and_then(|session| session.pull.here()) {
            self.take(came)?;
        }
        Ok(())
    }

    fn take(&mut self, came: Came) -> Result<(), SourceError> {
        match came {
            Came::Message(message) => self.ready.push_back(*message),
            Came::Word => {}
            Came::Over(fault) => {
                let error = match &self.session {
                    Some(session) => session.link.error(&format!("give messages of {}", self.label), &fault),
                    None => self.shared.gone(),
                };
                self.leave();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Leaves a connection, with what it has brought.
    fn leave(&mut self) {
        self.shared.join(None);
        let Some(mut session) = self.session.take() else { return };
        while let Some(came) = session.pull.here() {
            if let Came::Message(message) = came {
                self.ready.push_back(*message);
            }
        }
    }

    fn give(&mut self, most: usize) -> Vec<Delivery> {
        let given = self.ready.len().min(most);
        let given: Vec<_> = self.ready.drain(..given).collect();
        given.into_iter().filter_map(|message| self.delivery(message)).collect()
    }

    fn delivery(&self, delivered: Delivered) -> Option<Delivery> {
        let Some(reply) = delivered.reply.as_deref().and_then(Reply::parse) else {
            // Somebody else published to our inbox: JetStream's own always say whose they are.
            tracing::warn!(source = self.label, "a message that is not JetStream's was left aside");
            return None;
        };
        let message = Message {
            subject: delivered.subject.as_str().into(),
            position: Some(reply.position().into()),
            key: None,
            headers: headers(&delivered),
            payload: delivered.payload.clone(),
            published: Some(timestamp(reply.published)),
        };
        Some(Delivery {
            message,
            redelivered: reply.delivered > 1,
            settle: Box::new(NatsSettle::new(&self.shared, self.patience, delivered)),
        })
    }

    /// Waits until nothing more can come, and gives back what came.
    async fn give_back(&mut self) {
        let until = Instant::now() + ANSWER;
        while let Some(session) = self.session.as_mut().filter(|session| session.pull.is_open()) {
            let came = match timeout_at(until, session.pull.next(&session.link)).await {
                Ok(came) => came,
                Err(_) => Came::Over(Fault::Silent),
            };
            // Its error is the next call's, which finds it again.
            let _ = self.take(came);
        }
        let _ = self.take_what_is_here();
        let Some(link) = self.session.as_ref().map(|session| session.link.clone()) else {
            // Whoever is not connected cannot: they come again when their time is over.
            self.ready.clear();
            return;
        };
        while let Some(message) = self.ready.front() {
            if let Some(reply) = message.reply.clone() {
                let _ = link.client.publish(reply, "-NAK".into()).await;
            }
            self.ready.pop_front();
        }
        let _ = timeout_at(until, link.client.flush()).await;
    }
}

impl Source for NatsSource {
    fn label(&self) -> &str {
        &self.label
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        Box::pin(self.next(most))
    }

    fn pause(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.give_back())
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        Box::pin(async move {
            let (link, place) = self
                .session()
                .await
                .map(|session| (session.link.clone(), session.place.clone()))?;
            let (now, _) = self.clock.reading();
            let lag = place.lag(&link, &self.options, now).await;
            if lag.is_err() {
                // It may be frozen, and would be asked again and again.
                self.leave();
            }
            lag
        })
    }

    /// The stream's `max_age`.
    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        Box::pin(async move { Ok(self.session().await?.place.max_age) })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.give_back().await;
            self.leave();
            self.ready.clear();
        })
    }
}

impl fmt::Debug for NatsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NatsSource").field(&self.label).finish()
    }
}

/// JetStream keeps their order, the client library does not.
fn headers(delivered: &Delivered) -> Vec<(Box<str>, Bytes)> {
    let all = delivered.headers.iter().flat_map(HeaderMap::iter);
    let mut headers: Vec<(Box<str>, Bytes)> = all
        .flat_map(|(name, values)| {
            values.iter().map(|value| {
                (
                    name.to_string().into(),
                    Bytes::copy_from_slice(value.as_str().as_bytes()),
                )
            })
        })
        .collect();
    // Several of one name stay in theirs.
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    headers
}
