//! Effects as messages to an exchange.

use std::fmt;
use std::sync::Arc;

use hapax_core::policy::FailureClass;
use hapax_core::{Answer, BoxFuture, Outcome};
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::publish::Publisher;
use super::{RabbitMq, RabbitMqError, RabbitMqRoute};
use crate::outbox::{Delivery, Sink};
use crate::runner::{Attempted, Failure};

/// As HTTP has it.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
const PERSISTENT: u8 = 2;

/// A sink that publishes each effect. Cheap to clone; clones share the connection.
///
/// `message-id` and the header `Idempotency-Key` are the effect's key, `type` its name, `timestamp` the time of this try.
/// A message is persistent, and delivered when the broker has confirmed that every queue it goes to has it. One that no
/// queue is bound for was not sent: it waits until somebody binds one. One that the broker refuses since a queue is full
/// is throttled. One whose confirmation did not come may be there.
///
/// ```
/// use hapax::consume::{RabbitMq, RabbitMqRoute, RabbitMqSink};
///
/// let rabbitmq = RabbitMq::new("amqp://shop:secret@127.0.0.1")?;
/// let sink = RabbitMqSink::new(&rabbitmq, RabbitMqRoute::exchange("orders", "orders.paid"))?;
/// # Ok::<_, hapax::consume::RabbitMqError>(())
/// ```
#[derive(Clone)]
pub struct RabbitMqSink {
    inner: Arc<Inner>,
}

struct Inner {
    to: RabbitMqRoute,
    publisher: Publisher,
    label: Arc<str>,
}

impl RabbitMqSink {
    /// A sink that connects at its first effect, and again whenever it must.
    ///
    /// # Errors
    /// [`RabbitMqError::Route`] if AMQP has no room for the names.
    pub fn new(at: &RabbitMq, to: RabbitMqRoute) -> Result<Self, RabbitMqError> {
        to.check()?;
        let inner = Inner {
            to,
            publisher: Publisher::new(at.clone(), "hapax outbox"),
            label: Arc::clone(&at.label),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Sink for RabbitMqSink {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let properties = match properties(&delivery) {
                Ok(properties) => properties,
                Err(text) => return Attempted::Failed(Failure::new(FailureClass::Final, &text)),
            };
            match inner.publisher.publish(&inner.to, properties, &delivery.payload).await {
                Ok(()) => Attempted::Done(Outcome::Answer(Answer {
                    status: 202,
                    headers: Vec::new(),
                    body: bytes::Bytes::new(),
                })),
                Err(not) => Attempted::Failed(Failure::new(not.class, &not.error.to_string())),
            }
        })
    }
}

fn properties(delivery: &Delivery) -> Result<BasicProperties, String> {
    let content_type = ShortString::try_new(&*delivery.content_type)
        .map_err(|_| "the content type has more than 255 bytes, which AMQP has no room for".to_owned())?;
    let mut headers = FieldTable::default();
    let key = AMQPValue::LongString(delivery.key.as_str().into());
    headers.insert(IDEMPOTENCY_KEY.into(), key);
    let mut properties = BasicProperties::default()
        .with_message_id(delivery.key.as_str().into())
        .with_content_type(content_type)
        .with_timestamp(u64::try_from(delivery.now.as_millis() / 1_000).unwrap_or_default())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers);
    if let Ok(name) = ShortString::try_new(delivery.name.as_str()) {
        properties = properties.with_type(name);
    }
    Ok(properties)
}

impl fmt::Debug for RabbitMqSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqSink")
            .field("at", &self.inner.label)
            .field("to", &self.inner.to)
            .finish()
    }
}
