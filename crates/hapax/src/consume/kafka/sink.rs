//! Effects as messages of a topic.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::policy::FailureClass;
use hapax_core::{Answer, BoxFuture, Outcome};
use rdkafka::message::OwnedHeaders;

use super::cluster::{Kafka, KafkaError};
use super::outlet::{Outlet, Sent, header};
use crate::outbox::{Delivery, Sink};
use crate::runner::{Attempted, Failure};

/// A sink that writes each effect to a topic, and returns when every replica in sync has it. Cheap to clone; clones share
/// the connections.
///
/// The message is the payload; its key is the derived key, which is also in the header `Idempotency-Key`; the header
/// `content-type` says what it is. A consumer that reads its identity from `header:Idempotency-Key` handles it once.
/// Within one try a message is stored once, by the idempotent producer; two tries may store two, of the same key.
///
/// ```
/// use hapax::consume::{Kafka, KafkaSink};
///
/// let paid = KafkaSink::new(&Kafka::new("127.0.0.1:9092")?, "orders-paid")?;
/// # Ok::<_, hapax::consume::KafkaError>(())
/// ```
#[derive(Clone)]
pub struct KafkaSink {
    cluster: Kafka,
    topic: String,
    outlet: Arc<Outlet>,
}

impl KafkaSink {
    /// A sink that writes to `topic`, which must be there.
    ///
    /// # Errors
    /// [`KafkaError`] if librdkafka does not take the cluster's settings.
    pub fn new(cluster: &Kafka, topic: &str) -> Result<Self, KafkaError> {
        Ok(Self {
            cluster: cluster.clone(),
            topic: topic.to_owned(),
            outlet: Arc::new(Outlet::new(cluster, topic, Duration::from_secs(20))?),
        })
    }

    /// How long a try may take until the brokers have the message (20 s). Keep it below the policy's `per_try`, which
    /// cuts off without knowing what was sent.
    ///
    /// # Errors
    /// [`KafkaError::Options`] for less than a second.
    pub fn timeout(self, timeout: Duration) -> Result<Self, KafkaError> {
        let outlet = Arc::new(Outlet::new(&self.cluster, &self.topic, timeout)?);
        Ok(Self { outlet, ..self })
    }
}

impl Sink for KafkaSink {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted> {
        let outlet = Arc::clone(&self.outlet);
        Box::pin(async move {
            let headers = OwnedHeaders::new()
                .insert(header("Idempotency-Key", delivery.key.as_bytes()))
                .insert(header("content-type", delivery.content_type.as_bytes()));
            let sent = outlet
                .send(Some(delivery.key.as_bytes()), &delivery.payload, headers)
                .await;
            match sent {
                Ok(()) => Attempted::Done(Outcome::Answer(Answer {
                    status: 204,
                    headers: Vec::new(),
                    body: bytes::Bytes::new(),
                })),
                Err(error) => {
                    let class = match error.sent {
                        Sent::No => FailureClass::Unsent,
                        Sent::Maybe => FailureClass::Ambiguous,
                        Sent::Never => FailureClass::Final,
                    };
                    Attempted::Failed(Failure::new(class, &error.text))
                }
            }
        })
    }
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink")
            .field("to", &self.outlet.label())
            .finish_non_exhaustive()
    }
}
