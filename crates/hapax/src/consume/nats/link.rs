//! A connection: questions with answers, and why there was none.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{Client, ClientError, Event, HeaderMap, Message, Request, RequestErrorKind, ServerError, Subject};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use crate::consume::{SourceError, SourceErrorKind};

/// How long the server has for an answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// As many refusals are kept as questions can be on their way without being told apart.
const REFUSALS: usize = 32;

/// What was heard about a connection, beside answers.
#[derive(Debug, Default)]
pub(super) struct Heard {
    lost: bool,
    /// Permissions that the server denied, counted from the first.
    refusals: VecDeque<(u64, String)>,
    refused: u64,
}

impl Heard {
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed | Event::ClientError(ClientError::MaxReconnects) => self.lost = true,
            Event::ServerError(ServerError::Other(text)) if text.to_ascii_lowercase().contains("permissions") => {
                self.refused += 1;
                self.refusals.push_back((self.refused, text.clone()));
                if self.refusals.len() > REFUSALS {
                    self.refusals.pop_front();
                }
            }
            _ => {}
        }
    }

    /// What was refused after `since` about a subject, or about listening to any answers.
    fn refusal(&self, since: u64, subject: &str) -> Option<&String> {
        let concerns = |text: &str| text.contains(&format!("\"{subject}\"")) || text.contains("Subscription");
        let mut later = self.refusals.iter().filter(|(number, _)| *number > since);
        later.find(|(_, text)| concerns(text)).map(|(_, text)| text)
    }
}

/// A connection that is used until it breaks, and then never again. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Client,
    heard: watch::Receiver<Heard>,
    at: std::sync::Arc<str>,
    api: std::sync::Arc<str>,
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection broke, after the question was sent or before.
    Lost,
    Silent,
    /// Nobody listens to the subject.
    Nobody,
    /// The user may not, in the server's words.
    Forbidden(String),
    /// More bytes than the server takes.
    TooLarge(String),
    /// JetStream's own word.
    JetStream {
        status: u64,
        code: u64,
        text: String,
    },
    Senseless(String),
}

impl Link {
    pub(super) fn new(client: Client, heard: watch::Receiver<Heard>, at: String, api: String) -> Self {
        Self {
            client,
            heard,
            at: at.into(),
            api: api.into(),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.heard.borrow().lost
    }

    /// Returns when the connection is broken.
    pub(super) async fn lost(&self) {
        // The sender is gone only after the connection.
        let _ = self.heard.clone().wait_for(|heard| heard.lost).await;
    }

    /// Returns when the server refused something about a subject.
    pub(super) async fn refusal(&self, since: u64, subject: &str) -> String {
        let mut heard = self.heard.clone();
        let refused = heard.wait_for(|heard| heard.refusal(since, subject).is_some()).await;
        match refused.map(|heard| heard.refusal(since, subject).cloned()) {
            Ok(Some(text)) => text,
            _ => std::future::pending().await,
        }
    }

    /// How much was refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.heard.borrow().refused
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(&self, subject: &str, payload: Bytes) -> Result<Message, Fault> {
        self.send(subject, Request::new().payload(payload)).await
    }

    /// Publishes to a stream, and waits for its word that it is stored.
    pub(super) async fn publish(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<(), Fault> {
        let request = Request::new().headers(headers).payload(payload);
        jetstream(&self.send(subject, request).await?).map(|_| ())
    }

    /// Asks JetStream; `Null` is a question without words.
    pub(super) async fn api(&self, call: &str, question: &Value) -> Result<Value, Fault> {
        let subject = format!("{}.{call}", self.api);
        let question = match question {
            Value::Null => Bytes::new(),
            question => question.to_string().into(),
        };
        jetstream(&self.ask(&subject, question).await?)
    }

    /// What JetStream is asked for messages by.
    pub(super) fn next_subject(&self, stream: &str, consumer: &str) -> Subject {
        format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", self.api).into()
    }

    async fn send(&self, subject: &str, request: Request) -> Result<Message, Fault> {
        if self.is_lost() {
            return Err(Fault::Lost);
        }
        let since = self.refused();
        let sent = self
            .client
            .send_request(subject.to_owned(), request.timeout(Some(ANSWER)));
        let answer = tokio::select! {
            biased;
            answer = sent => answer,
            text = self.refusal(since, subject) => return Err(Fault::Forbidden(text)),
            () = self.lost() => return Err(Fault::Lost),
        };
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => Fault::Silent,
            RequestErrorKind::NoResponders => Fault::Nobody,
            RequestErrorKind::MaxPayloadExceeded => Fault::TooLarge(error.to_string()),
            RequestErrorKind::InvalidSubject => Fault::Senseless(error.to_string()),
            RequestErrorKind::Other => Fault::Lost,
        })
    }

    /// An error with this connection's server in it.
    pub(super) fn error(&self, doing: &str, fault: &Fault) -> SourceError {
        let at = &self.at;
        let (kind, why) = match fault {
            Fault::Lost => (SourceErrorKind::Unreachable, "the connection broke".to_owned()),
            Fault::Silent => (SourceErrorKind::Unreachable, format!("no answer within {ANSWER:?}")),
            Fault::Nobody => (
                SourceErrorKind::Unreachable,
                "nobody there answers for it: JetStream is off, has no leader at the moment, or is in another domain"
                    .to_owned(),
            ),
            Fault::Forbidden(text) => (
                SourceErrorKind::Refused,
                format!("the user may not: {text}; allow it in the account's permissions"),
            ),
            Fault::TooLarge(text) | Fault::Senseless(text) => (SourceErrorKind::Refused, text.clone()),
            // 503 and its like: no leader, no room for the moment.
            Fault::JetStream { status, text, .. } if *status >= 500 => (SourceErrorKind::Unreachable, text.clone()),
            Fault::JetStream { text, .. } => (SourceErrorKind::Refused, text.clone()),
        };
        SourceError::new(kind, format!("NATS at {at} cannot {doing}: {why}"))
    }
}

/// JetStream's answer, or its error.
fn jetstream(answer: &Message) -> Result<Value, Fault> {
    let value: Value = serde_json::from_slice(&answer.payload)
        .map_err(|error| Fault::Senseless(format!("an answer that is not JetStream's: {error}")))?;
    match value.get("error") {
        Some(error) => Err(Fault::JetStream {
            status: error["code"].as_u64().unwrap_or(500),
            code: error["err_code"].as_u64().unwrap_or_default(),
            text: error["description"]
                .as_str()
                .unwrap_or("an error without words")
                .to_owned(),
        }),
        None => Ok(value),
    }
}
