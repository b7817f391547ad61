//! What goes to a topic: effects and dead letters, each until the broker has it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, util};
use tokio::sync::OnceCell;

use super::cluster::{Kafka, KafkaError, check};
use super::poller::log;
use super::state::Held;
use super::trouble::{CREATE, Trouble, is_transport};
use crate::consume::{SourceError, SourceErrorKind};

/// The longest wait for a broker that is asked for a topic.
const PROBE: Duration = Duration::from_secs(5);

/// What a failure to send proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing was stored.
    No,
    /// It may be stored.
    Maybe,
    /// Nothing was stored, nor can it ever be.
    Never,
}

/// Why something may not have arrived.
#[derive(Debug)]
pub(super) struct SendError {
    pub(super) sent: Sent,
    pub(super) kind: SourceErrorKind,
    pub(super) text: String,
}

/// A topic that is written to.
pub(super) struct Outlet {
    label: String,
    topic: String,
    config: ClientConfig,
    timeout: Duration,
    producer: OnceCell<FutureProducer<Context>>,
    condition: Arc<Condition>,
}

/// What is known of the way to the topic.
#[derive(Default)]
struct Condition {
    /// The topic was there, and no broker has gone since.
    open: AtomicBool,
    /// Why a broker was not reached, most recently.
    last: Mutex<Option<Trouble>>,
}

struct Context {
    label: String,
    condition: Arc<Condition>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let trouble = match is_transport(code) {
            true => Some(Trouble::unreachable(format!("{}: {reason}", self.label))),
            // The transport's own words are better.
            false if code == Code::AllBrokersDown => None,
            false => Trouble::of(code, reason, &self.label),
        };
        if let Some(trouble) = trouble {
            *self.condition.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        }
        self.condition.open.store(false, Ordering::Relaxed);
    }
}

impl Outlet {
    pub(super) fn new(cluster: &Kafka, topic: &str, timeout: Duration) -> Result<Self, KafkaError> {
        if timeout < Duration::from_secs(1) {
            return Err(KafkaError::Options(
                "a timeout of less than a second leaves no time to send",
            ));
        }
        let millis = timeout.as_millis().min(900_000).to_string();
        // The broker's own limit holds.
        let defaults = [("message.max.bytes", "100000000"), ("linger.ms", "1")];
        let fixed = [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("message.timeout.ms", &*millis),
        ];
        let config = cluster.config(&defaults, &fixed);
        check(&config)?;
        Ok(Self {
            label: format!("kafka {topic} at {}", cluster.brokers()),
            topic: topic.to_owned(),
            config,
            timeout,
            producer: OnceCell::new(),
            condition: Arc::default(),
        })
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Returns when every replica in sync has it.
    pub(super) async fn send(
        &self,
        key: Option<&[u8]>,
        payload: &[u8],
        headers: OwnedHeaders,
    ) -> Result<(), SendError> {
        let producer = self.producer().await?;
        if !self.condition.open.load(Ordering::Relaxed) {
            self.probe(producer).await?;
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic)
            .payload(payload)
            .headers(headers);
        record.key = key;
        let on_its_way = match producer.send_result(record) {
            Ok(on_its_way) => on_its_way,
            Err((error, _)) => return Err(self.judge(&error, false)),
        };
        match on_its_way.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(self.judge(&error, true)),
            Err(_) => Err(self.judge(&ClientError::Canceled, true)),
        }
    }

    async fn producer(&self) -> Result<&FutureProducer<Context>, SendError> {
        let make = || async {
            let context = Context {
                label: self.label.clone(),
                condition: Arc::clone(&self.condition),
            };
            let made: Result<FutureProducer<Context>, _> = self.config.create_with_context(context);
            made.map_err(|error| SendError {
                sent: Sent::No,
                kind: SourceErrorKind::Refused,
                text: format!("{}: {error}", self.label),
            })
        };
        self.producer.get_or_try_init(make).await
    }

    /// Asks for the topic before anything is handed over: what librdkafka has queued may be sent whenever it can, and
    /// what fails then may have been.
    async fn probe(&self, producer: &FutureProducer<Context>) -> Result<(), SendError> {
        let (asking, topic) = (producer.clone(), self.topic.clone());
        let limit = util::Timeout::After(PROBE.min(self.timeout / 2));
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = asking.client().fetch_metadata(Some(&topic), limit)?;
            match metadata.topics().first().and_then(|topic| topic.error()) {
                Some(error) => Err(ClientError::MetadataFetch(error.into())),
                None => Ok(()),
            }
        });
        match asked.await {
            Ok(Ok(())) => {
                self.condition.open.store(true, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(error)) => Err(self.judge(&error, false)),
            Err(_) => Err(self.judge(&ClientError::Canceled, false)),
        }
    }

    /// What a failure proves, given whether librdkafka had taken the message.
    fn judge(&self, error: &ClientError, taken: bool) -> SendError {
        let (label, code) = (&self.label, error.rdkafka_error_code());
        let advised = |sent, advice: &str| SendError {
            sent,
            kind: SourceErrorKind::Refused,
            text: format!("{label}: {error}: {advice}"),
        };
        match code {
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge) => advised(
                Sent::Never,
                "raise max.message.bytes of the topic, or store the payload elsewhere and send its address",
            ),
            Some(Code::InvalidRecord | Code::InvalidTimestamp) => advised(Sent::Never, "the topic does not take it"),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                advised(Sent::No, CREATE)
            }
            Some(Code::TopicAuthorizationFailed) => advised(Sent::No, "allow this user to write to it (kafka-acls.sh)"),
            Some(Code::ClusterAuthorizationFailed) => {
                advised(Sent::No, "allow this user IDEMPOTENT_WRITE (kafka-acls.sh)")
            }
            Some(Code::InvalidTopic) => advised(Sent::No, "no topic can have that name"),
            // Refused before anything was written.
            Some(Code::NotEnoughReplicas) => advised(Sent::No, "fewer replicas are in sync than min.insync.replicas"),
            Some(Code::QueueFull | Code::PurgeQueue) => self.failed(Sent::No, error),
            _ => self.failed(if taken { Sent::Maybe } else { Sent::No }, error),
        }
    }

    /// With the reason that a broker was not reached, if one is known.
    fn failed(&self, sent: Sent, error: &ClientError) -> SendError {
        let last = self.condition.last.lock().unwrap_or_else(PoisonError::into_inner);
        let label = &self.label;
        match &*last {
            Some(trouble) if !self.condition.open.load(Ordering::Relaxed) => SendError {
                sent,
                kind: trouble.kind,
                text: format!("{} ({error})", trouble.text),
            },
            _ => SendError {
                sent,
                kind: SourceErrorKind::Unreachable,
                text: format!("{label}: {error}"),
            },
        }
    }
}

/// Where a source sends what is dead.
pub(super) struct DeadLetters(Outlet);

impl DeadLetters {
    pub(super) fn new(outlet: Outlet) -> Self {
        Self(outlet)
    }

    /// The message as it was, with what is known of it in headers.
    pub(super) async fn send(&self, held: &Held, reason: &str) -> Result<(), SourceError> {
        let (topic, partition) = &held.place;
        let mut headers = OwnedHeaders::new_with_capacity(held.message.headers.len() + 4);
        for (name, value) in &held.message.headers {
            headers = headers.insert(header(name, value));
        }
        headers = headers
            .insert(header("Hapax-Dead-Reason", reason.as_bytes()))
            .insert(header("Hapax-Topic", topic.as_bytes()))
            .insert(header("Hapax-Partition", partition.to_string().as_bytes()))
            .insert(header("Hapax-Offset", held.offset.to_string().as_bytes()));
        let sent = self
            .0
            .send(held.message.key.as_deref(), &held.message.payload, headers)
            .await;
        sent.map_err(|error| {
            let what = format!("a dead letter is not exported and comes again: {}", error.text);
            SourceError::new(error.kind, what)
        })
    }
}

pub(super) fn header<'a>(name: &'a str, value: &'a [u8]) -> Header<'a, &'a [u8]> {
    Header {
        key: name,
        value: Some(value),
    }
}

/// The context of a client that only asks.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}
