//! Effects as HTTP requests, signed by the Standard Webhooks scheme.

mod client;
mod connect;
mod secret;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::policy::FailureClass;
use hapax_core::{Answer, BoxFuture, LastError, Outcome};
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::sink::{Delivery, Sink};
use crate::http::{IDEMPOTENCY_KEY, Proof};
use crate::retry::judge;
use crate::runner::{Attempted, Failure};
use client::{Answered, Client, SendError};
use connect::Connector;

pub use secret::{WebhookSecret, WebhookSecretError};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("hapax/", env!("CARGO_PKG_VERSION")));

/// As much is kept of the answer to a failed delivery.
const KEPT_BYTES: usize = 4 << 10;
/// An answer that is longer costs its connection.
const DRAINED_BYTES: usize = 64 << 10;

/// A sink that POSTs each effect to a URL. Cheap to clone; clones share the connections.
///
/// The request's body is the payload. `Idempotency-Key` and `webhook-id` are the derived key; with a secret,
/// `webhook-timestamp` and `webhook-signature` let the receiver verify it with any library of the Standard Webhooks
/// scheme. 2xx is delivered; what else proves what is the table of [`judge`]: 429, and 503 with `Retry-After`, are
/// throttled; 408 and 425 were not carried out; 3xx and every other 4xx are refused for good; the rest may have
/// happened.
///
/// ```
/// use hapax::outbox::{Webhook, WebhookSecret};
///
/// let webhook = Webhook::new("https://shop.example/hooks?from=billing")?
///     .secret(WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Webhook {
    client: Arc<Client>,
    secrets: Vec<WebhookSecret>,
    headers: HeaderMap,
}

/// Why a webhook cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The URL makes no sense.
    #[error("{url:?} is no address of a webhook: {why}; write https://HOST[:PORT]/PATH")]
    Url {
        /// The URL without its query.
        url: String,
        /// Why not.
        why: String,
    },
    /// The URL has a user or a password.
    #[error("the URL of a webhook has a user name in it; send credentials in a header instead")]
    User,
    /// A certificate cannot be used.
    #[error("the certificates to trust cannot be used: {0}; give a PEM file of authorities")]
    Authority(String),
    /// The system has no list of authorities.
    #[error("no certificate authorities are known: install the package ca-certificates")]
    NoAuthorities,
}

impl Webhook {
    /// A sink that POSTs to `http://` or `https://`, path and query included.
    ///
    /// # Errors
    /// [`WebhookError`] if the URL makes no sense, or TLS cannot be set up.
    pub fn new(url: &str) -> Result<Self, WebhookError> {
        Ok(Self {
            client: Arc::new(Client::new(Connector::new(url)?)),
            secrets: Vec::new(),
            headers: HeaderMap::new(),
        })
    }

    /// Signs with this secret, too: while a secret is replaced, both sign, and receivers accept either.
    #[must_use]
    pub fn secret(mut self, secret: WebhookSecret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Sends this header with each request. Those that this sink makes itself cannot be replaced.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// How long connecting may take (10 s), and then an answer (20 s). Keep their sum below the policy's `per_try`,
    /// which cuts off without knowing what was sent.
    #[must_use]
    pub fn timeouts(mut self, connect: Duration, answer: Duration) -> Self {
        if let Some(client) = Arc::get_mut(&mut self.client) {
            (client.connect_timeout, client.timeout) = (connect, answer);
        }
        self
    }

    /// Believes these authorities (PEM) beside the system's.
    ///
    /// # Errors
    /// [`WebhookError::Authority`] if there is none in it, or one cannot be read.
    pub fn trust(mut self, pem: &[u8]) -> Result<Self, WebhookError> {
        if let Some(client) = Arc::get_mut(&mut self.client) {
            client.connector_mut().trust(pem)?;
        }
        Ok(self)
    }

    fn request(&self, delivery: &Delivery) -> Result<Request<Full<Bytes>>, http::Error> {
        let connector = self.client.connector();
        let timestamp = delivery.now.as_millis().div_euclid(1000);
        let mut request = Request::post(connector.path.clone()).body(Full::new(delivery.payload.clone()))?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(HOST, connector.host_header.clone());
        headers.insert(USER_AGENT, AGENT);
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(&delivery.content_type)?);
        let key = HeaderValue::from_str(&delivery.key)?;
        headers.insert(IDEMPOTENCY_KEY, key.clone());
        headers.insert(ID, key);
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        if !self.secrets.is_empty() {
            let sign = |secret: &WebhookSecret| secret.sign(&delivery.key, timestamp, &delivery.payload);
            let signatures: Vec<_> = self.secrets.iter().map(sign).collect();
            headers.insert(SIGNATURE, HeaderValue::try_from(signatures.join(" "))?);
        }
        Ok(request)
    }

    async fn post(self, delivery: Delivery) -> Attempted {
        let request = match self.request(&delivery) {
            Ok(request) => request,
            Err(error) => {
                let text = format!("the effect makes no HTTP request: {error}");
                return Attempted::Failed(Failure::new(FailureClass::Final, &text));
            }
        };
        let answered = self.client.send(request).await;
        match answered {
            Ok(answered) => self.answered(answered).await,
            Err(SendError { proof, text }) => {
                let class = match proof {
                    Proof::Unsent => FailureClass::Unsent,
                    Proof::TimedOut | Proof::Reset => FailureClass::Ambiguous,
                };
                Attempted::Failed(Failure::new(class, &text))
            }
        }
    }

    async fn answered(&self, answered: Answered) -> Attempted {
        let (response, sender) = answered.parts();
        let (parts, body) = response.into_parts();
        // The head has said it all: an answer that does not end is cut off.
        let body = timeout(self.client.timeout, drain(body)).await.unwrap_or_default();
        if body.is_whole {
            self.client.keep(sender);
        }
        if parts.status.is_success() {
            return Attempted::Done(Outcome::Answer(answer(parts.status, &parts.headers, Bytes::new())));
        }
        let judgement = judge(&Method::POST, parts.status, &parts.headers);
        Attempted::Failed(Failure {
            class: judgement.class,
            answer: Some(answer(parts.status, &parts.headers, body.kept)),
            last_error: LastError::new(&format!("status {}", parts.status.as_u16())),
            retry_after: judgement.retry_after,
        })
    }
}

impl Sink for Webhook {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted> {
        Box::pin(self.clone().post(delivery))
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.client.connector().host_header)
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Drained {
    kept: Bytes,
    is_whole: bool,
}

/// Reads the body to its end, so that the connection can be used again.
async fn drain(mut body: Incoming) -> Drained {
    let (mut kept, mut read) = (Vec::new(), 0);
    loop {
        match body.frame().await {
            None => {
                let kept = Bytes::from(kept);
                return Drained { kept, is_whole: true };
            }
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                read += data.len();
                let room = KEPT_BYTES - kept.len();
                kept.extend_from_slice(&data[..room.min(data.len())]);
            }
            Some(Err(_)) => read = usize::MAX,
        }
        if read > DRAINED_BYTES {
            let kept = Bytes::from(kept);
            return Drained { kept, is_whole: false };
        }
    }
}

fn answer(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Answer {
    let content_type = headers.get(CONTENT_TYPE).filter(|_| !body.is_empty());
    let headers = content_type.map(|value| (CONTENT_TYPE.as_str().into(), Bytes::copy_from_slice(value.as_bytes())));
    Answer {
        status: status.as_u16(),
        headers: headers.into_iter().collect(),
        body,
    }
}

#[cfg(test)]
mod tests;
