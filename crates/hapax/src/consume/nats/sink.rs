//! Effects into a stream.

use std::fmt;
use std::sync::Arc;

use async_nats::{HeaderMap, HeaderValue};
use hapax_core::policy::FailureClass;
use hapax_core::{Answer, BoxFuture, Outcome};
use tokio::sync::Mutex;

use super::link::{Fault, Link};
use super::subject::is_plain;
use super::{Nats, NatsError};
use crate::consume::SourceError;
use crate::outbox::{Delivery, Sink};
use crate::runner::{Attempted, Failure};

/// JetStream's codes for what no repetition changes: too large a message, or too large headers.
const TOO_LARGE: [u64; 2] = [10054, 10097];
/// Its status for too many requests.
const TOO_MANY: u64 = 429;

/// A sink that publishes each effect to a stream, and waits for its word that it is stored. Cheap to clone; clones share
/// the connection.
///
/// `Nats-Msg-Id` is the derived key: a stream drops what it has stored within its `duplicate_window` (2 min unless set
/// otherwise), so [`receiver_remembers_for`](crate::outbox::SinkOptions::receiver_remembers_for) must not be longer,
/// unless those who consume the stream know its messages for longer.
///
/// | the server | proves |
/// |---|---|
/// | says that it is stored, or was before | it is delivered |
/// | cannot be reached, or refuses the login or the subject | it is not |
/// | has no stream for the subject | it is not |
/// | answers with an error | it is not; too large a message is a dead letter |
/// | breaks off or says nothing | nothing |
///
/// ```
/// use hapax::consume::{Nats, NatsSink};
///
/// let nats = Nats::new("nats://127.0.0.1:4222")?;
/// let all_to_one = NatsSink::to(nats.clone(), "orders.paid")?;
/// let each_to_its_own = NatsSink::below(nats, "effects")?; // effects.order-paid, …
/// # Ok::<_, hapax::consume::NatsError>(())
/// ```
#[derive(Clone)]
pub struct NatsSink {
    inner: Arc<Inner>,
}

struct Inner {
    nats: Nats,
    subject: Subject,
    link: Mutex<Option<Link>>,
}

enum Subject {
    One(String),
    Below(String),
}

impl NatsSink {
    /// All effects to one subject.
    ///
    /// # Errors
    /// [`NatsError::Subject`] if nothing can be published to it.
    pub fn to(nats: Nats, subject: &str) -> Result<Self, NatsError> {
        Self::new(nats, subject, Subject::One(subject.to_owned()))
    }

    /// Each effect to the subject `PREFIX.NAME`, where the name is the effect's.
    ///
    /// # Errors
    /// [`NatsError::Subject`] if nothing can be published below it.
    pub fn below(nats: Nats, prefix: &str) -> Result<Self, NatsError> {
        Self::new(nats, prefix, Subject::Below(prefix.to_owned()))
    }

    fn new(nats: Nats, text: &str, subject: Subject) -> Result<Self, NatsError> {
        if !is_plain(text) {
            return Err(NatsError::Subject(text.to_owned()));
        }
        let link = Mutex::new(None);
        Ok(Self {
            inner: Arc::new(Inner { nats, subject, link }),
        })
    }
}

impl Inner {
    async fn publish(&self, delivery: Delivery) -> Attempted {
        let subject = match &self.subject {
            Subject::One(subject) => subject.clone(),
            Subject::Below(prefix) => format!("{prefix}.{}", delivery.name.as_str()),
        };
        let Some(headers) = headers(&delivery).filter(|_| is_plain(&subject)) else {
            let text =
                format!("the effect makes no message: its name is no subject ({subject:?}), or its type no header");
            return failed(FailureClass::Final, &text);
        };
        let link = match self.link().await {
            Ok(link) => link,
            // Nothing was sent.
            Err(error) => return failed(FailureClass::Unsent, &error.to_string()),
        };
        let fault = match link.publish(&subject, headers, delivery.payload).await {
            Ok(()) => return Attempted::Done(Outcome::Answer(stored())),
            Err(fault) => fault,
        };
        let text = match &fault {
            Fault::Nobody => format!(
                "no stream takes {subject}: make one by `nats stream add NAME --subjects {subject}`, or enable JetStream"
            ),
            fault => link.error(&format!("store a message to {subject}"), fault).to_string(),
        };
        failed(class(&fault), &text)
    }

    async fn link(&self) -> Result<Link, SourceError> {
        let mut link = self.link.lock().await;
        match &*link {
            Some(link) if !link.is_lost() => Ok(link.clone()),
            _ => Ok(link.insert(self.nats.connect().await?).clone()),
        }
    }
}

/// What a failure proves.
fn class(fault: &Fault) -> FailureClass {
    match fault {
        Fault::Lost | Fault::Silent | Fault::Senseless(_) => FailureClass::Ambiguous,
        Fault::Nobody | Fault::Forbidden(_) => FailureClass::Unsent,
        Fault::TooLarge(_) => FailureClass::Final,
        Fault::JetStream { code, .. } if TOO_LARGE.contains(code) => FailureClass::Final,
        Fault::JetStream { status: TOO_MANY, .. } => FailureClass::Throttled,
        Fault::JetStream { .. } => FailureClass::Unsent,
    }
}

fn headers(delivery: &Delivery) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(
        async_nats::header::NATS_MESSAGE_ID,
        delivery.key.parse::<HeaderValue>().ok()?,
    );
    headers.insert("Content-Type", delivery.content_type.parse::<HeaderValue>().ok()?);
    Some(headers)
}

/// There is no more to say than that.
fn stored() -> Answer {
    Answer {
        status: 202,
        headers: Vec::new(),
        body: bytes::Bytes::new(),
    }
}

fn failed(class: FailureClass, text: &str) -> Attempted {
    Attempted::Failed(Failure::new(class, text))
}

impl Sink for NatsSink {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.publish(delivery).await })
    }
}

impl fmt::Debug for NatsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match &self.inner.subject {
            Subject::One(subject) => subject.clone(),
            Subject::Below(prefix) => format!("{prefix}.*"),
        };
        f.debug_struct("NatsSink")
            .field("nats", &self.inner.nats)
            .field("subject", &subject)
            .finish()
    }
}
