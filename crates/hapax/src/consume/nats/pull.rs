//! Requests for messages, and what comes of them.
//!
//! A request is short and, as a rule, a one-shot: it waits for a first message, takes what else is there, and is over.
//! So there is never more on its way than was asked for, and a member that pauses or leaves has all that was sent to it
//! a moment later, and can give it back.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::Instant;

use super::link::{ANSWER, Fault, Link};
use super::place::Place;

/// How long a request waits for a first message. A pause takes as long at most.
const EXPIRES: Duration = Duration::from_secs(1);
/// The most of one request: what is on its way fits in the subscription's buffer many times over.
const MOST: usize = 4096;

/// The requests of one connection.
pub(super) struct Pull {
    subscriber: Subscriber,
    inbox: String,
    to: Subject,
    /// The last request, by which its end is told from another's.
    number: u64,
    /// Messages that were asked for and may still come.
    asked: usize,
    /// Whether the request has brought any.
    brought: bool,
    expires: Instant,
    /// Refusals before the request.
    since: u64,
    /// The last request ended at once with nothing: the next one waits even where there is no room, or nothing.
    patient: bool,
}

/// What came.
pub(super) enum Came {
    Message(Box<Message>),
    /// Nothing that concerns anybody else.
    Word,
    /// There is nothing to be had on this connection.
    Over(Fault),
}

impl Pull {
    pub(super) async fn new(link: &Link, stream: &str, consumer: &str) -> Result<Self, Fault> {
        let inbox = link.client.new_inbox();
        let subscriber = link.client.subscribe(format!("{inbox}.*")).await;
        Ok(Self {
            subscriber: subscriber.map_err(|_| Fault::Lost)?,
            inbox,
            to: link.next_subject(stream, consumer),
            number: 0,
            asked: 0,
            brought: false,
            expires: Instant::now(),
            since: 0,
            patient: false,
        })
    }

    /// Whether messages may come.
    pub(super) fn is_open(&self) -> bool {
        self.asked > 0
    }

    /// Asks for messages, if none are on their way.
    pub(super) async fn ask(&mut self, link: &Link, place: &Place, most: usize) -> Result<(), Fault> {
        if self.is_open() {
            return Ok(());
        }
        let batch = most.clamp(1, MOST).min(place.most);
        let expires = EXPIRES.min(place.longest);
        let question = json!({
            "batch": batch,
            "expires": expires.as_nanos() as u64,
            "no_wait": !self.patient,
        });
        let (number, since) = (self.number + 1, link.refused());
        let inbox = format!("{}.{number}", self.inbox);
        let asked = link
            .client
            .publish_with_reply(self.to.clone(), inbox, question.to_string().into());
        // Whoever drops this call here has not asked.
        asked.await.map_err(|_| Fault::Lost)?;
        (self.number, self.since, self.asked) = (number, since, batch);
        (self.brought, self.patient, self.expires) = (false, false, Instant::now() + expires);
        Ok(())
    }

    /// Waits for what comes next.
    pub(super) async fn next(&mut self, link: &Link) -> Came {
        tokio::select! {
            biased;
            came = self.subscriber.next() => match came {
                Some(message) => self.take(message),
                None => Came::Over(Fault::Lost),
            },
            () = link.lost() => Came::Over(Fault::Lost),
            text = link.refusal(self.since, &self.to) => Came::Over(Fault::Forbidden(text)),
            () = tokio::time::sleep_until(self.expires + ANSWER), if self.is_open() => Came::Over(Fault::Silent),
        }
    }

    /// What has come already.
    pub(super) fn here(&mut self) -> Option<Came> {
        let message = self.subscriber.next().now_or_never()??;
        Some(self.take(message))
    }

    fn take(&mut self, message: Message) -> Came {
        let Some(status) = message.status.filter(|status| *status != StatusCode::OK) else {
            self.asked = self.asked.saturating_sub(1);
            self.brought = true;
            return Came::Message(Box::new(message));
        };
        let number = message
            .subject
            .rsplit('.')
            .next()
            .and_then(|number| number.parse().ok());
        if number != Some(self.number) {
            return Came::Word;
        }
        let said = message.description.as_deref().unwrap_or_default();
        let gone = |text: &str| {
            Came::Over(Fault::JetStream {
                status: 503,
                code: 0,
                text: text.to_owned(),
            })
        };
        match status.as_u16() {
            100 => Came::Word,
            // The next call makes it anew, or says why it cannot.
            409 if said.contains("Deleted") => gone("the consumer was deleted"),
            409 if said.contains("push") || said.contains("MaxRequest") => {
                Came::Over(Fault::Senseless(said.to_owned()))
            }
            // Nothing more of this request: its time is over, nothing is there, no room in hand, another leader.
            404 | 408 | 409 => {
                self.patient = !self.brought && Instant::now() < self.expires;
                self.asked = 0;
                Came::Word
            }
            503 => Came::Over(Fault::Nobody),
            status if status >= 500 => gone(said),
            status => Came::Over(Fault::Senseless(format!("{status} {said}"))),
        }
    }
}
