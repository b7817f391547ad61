//! The stream and the durable consumer: found or made, and looked at before anything is taken.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Config, Info as ConsumerInfo, pull};
use async_nats::jetstream::stream::{Info as StreamInfo, RawMessage};
use async_nats::jetstream::{ErrorCode, consumer::IntoConsumerConfig};
use hapax_core::Timestamp;
use serde_json::{Value, json};

use super::NatsOptions;
use super::link::{Fault, Link};
use super::subject::covers;
use crate::consume::{Lag, SourceError, SourceErrorKind};

/// What is asked for less long than that is not worth a request.
const SHORTEST: Duration = Duration::from_millis(100);

/// A stream and one of its consumers, as they were found.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// When the stream was made, in nanoseconds: another one of its name is another stream.
    pub(super) born: i128,
    /// How long it keeps messages; `None` for ever.
    pub(super) max_age: Option<Duration>,
    /// After which time a message without a word comes again.
    pub(super) patience: Duration,
    /// The most messages and the longest time of one request.
    pub(super) most: usize,
    pub(super) longest: Duration,
    filters: Vec<String>,
}

impl Place {
    /// Finds both, and makes the consumer if there is none.
    pub(super) async fn find(link: &Link, options: &NatsOptions) -> Result<Self, SourceError> {
        let NatsOptions { stream, consumer, .. } = options;
        let info = stream_info(link, options).await?;
        let config = match consumer_info(link, options).await {
            Ok(info) => info.config,
            Err(Fault::JetStream { code, .. }) if code == ErrorCode::CONSUMER_NOT_FOUND.0 => {
                make(link, options).await?.config
            }
            Err(fault) => return Err(link.error(&format!("look at the consumer {consumer} of {stream}"), &fault)),
        };
        check(options, &config)?;
        let filters = filters(&config);
        if let Some(dead_letters) = &options.dead_letters {
            check_dead_letters(link, options, &info, &filters, dead_letters).await?;
        }
        let waits = config.backoff.iter().copied().chain([config.ack_wait]);
        Ok(Self {
            born: info.created.unix_timestamp_nanos(),
            max_age: Some(info.config.max_age).filter(|age| !age.is_zero()),
            patience: waits.filter(|wait| !wait.is_zero()).min().unwrap_or(options.ack_wait),
            most: usize::try_from(config.max_batch)
                .ok()
                .filter(|most| *most > 0)
                .unwrap_or(usize::MAX),
            longest: match config.max_expires {
                Duration::ZERO => Duration::MAX,
                longest => longest.max(SHORTEST),
            },
            filters,
        })
    }

    /// How far the consumer is behind.
    pub(super) async fn lag(&self, link: &Link, options: &NatsOptions, now: Timestamp) -> Result<Lag, SourceError> {
        let info = consumer_info(link, options).await;
        let info = info.map_err(|fault| link.error(&format!("look at the consumer {}", options.consumer), &fault))?;
        let messages = info.num_pending + info.num_ack_pending as u64;
        if messages == 0 {
            return Ok(Lag::default());
        }
        // Everything up to the floor is acknowledged, and what follows it is not.
        let oldest = self
            .oldest(link, &options.stream, info.ack_floor.stream_sequence + 1)
            .await;
        Ok(Lag {
            messages,
            oldest: oldest.map(|published| now.since(published)),
        })
    }

    /// When the first message from `sequence` on was published that this consumer takes, if the server tells.
    async fn oldest(&self, link: &Link, stream: &str, sequence: u64) -> Option<Timestamp> {
        let subject = match self.filters.as_slice() {
            [] => ">",
            [one] => one,
            // It would be a question for each of them.
            _ => return None,
        };
        let question = json!({"seq": sequence, "next_by_subj": subject});
        let mut answer = link.api(&format!("STREAM.MSG.GET.{stream}"), &question).await.ok()?;
        let message: RawMessage = serde_json::from_value(answer.get_mut("message")?.take()).ok()?;
        Some(timestamp(message.time.unix_timestamp_nanos()))
    }
}

/// JetStream's time.
pub(super) fn timestamp(nanos: i128) -> Timestamp {
    Timestamp::from_millis(nanos.div_euclid(1_000_000) as i64)
}

async fn stream_info(link: &Link, options: &NatsOptions) -> Result<StreamInfo, SourceError> {
    let stream = &options.stream;
    let answer = link.api(&format!("STREAM.INFO.{stream}"), &Value::Null).await;
    let read = |answer| serde_json::from_value(answer).map_err(|error| unreadable(&error));
    let fault = match answer.and_then(read) {
        Ok(info) => return Ok(info),
        Err(fault) => fault,
    };
    let advice = match &fault {
        Fault::JetStream { code, .. } if *code == ErrorCode::STREAM_NOT_FOUND.0 => {
            let subjects = options
                .subjects
                .first()
                .map_or("'orders.>'".to_owned(), |one| format!("'{one}'"));
            format!("there is no such stream: make it by `nats stream add {stream} --subjects {subjects}`")
        }
        Fault::JetStream { code, text, .. }
            if [
                ErrorCode::JETSTREAM_NOT_ENABLED.0,
                ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT.0,
            ]
            .contains(code) =>
        {
            format!("{text}: enable it in the server's configuration (`jetstream {{}}`, and for the account)")
        }
        fault => return Err(link.error(&format!("look at the stream {stream}"), fault)),
    };
    let what = format!("the stream {stream} of NATS cannot be used: {advice}");
    Err(SourceError::new(SourceErrorKind::Refused, what))
}

async fn consumer_info(link: &Link, options: &NatsOptions) -> Result<ConsumerInfo, Fault> {
    let call = format!("CONSUMER.INFO.{}.{}", options.stream, options.consumer);
    let answer = link.api(&call, &Value::Null).await?;
    serde_json::from_value(answer).map_err(|error| unreadable(&error))
}

/// Another process may make it at the same time, the same way.
async fn make(link: &Link, options: &NatsOptions) -> Result<ConsumerInfo, SourceError> {
    let NatsOptions { stream, consumer, .. } = options;
    let (filter_subject, filter_subjects) = match options.subjects.as_slice() {
        [] => (String::new(), Vec::new()),
        [one] => (one.clone(), Vec::new()),
        several => (String::new(), several.to_vec()),
    };
    let config = pull::Config {
        durable_name: Some(consumer.clone()),
        description: Some("hapax".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.ack_wait,
        // Beyond a number JetStream delivers no more, and only an advisory says so: the message is neither done nor
        // dead. Tries are counted in its record.
        max_deliver: -1,
        max_ack_pending: options.max_ack_pending.map_or(0, i64::from),
        filter_subject,
        filter_subjects,
        ..pull::Config::default()
    };
    let question = json!({"stream_name": stream, "config": config.into_consumer_config()});
    let made = link
        .api(&format!("CONSUMER.DURABLE.CREATE.{stream}.{consumer}"), &question)
        .await;
    made.and_then(|answer| serde_json::from_value(answer).map_err(|error| unreadable(&error)))
        .map_err(|fault| link.error(&format!("make the consumer {consumer} of {stream}"), &fault))
}

/// Whether a consumer loses nothing, says all, and takes what was asked for.
fn check(options: &NatsOptions, config: &Config) -> Result<(), SourceError> {
    let NatsOptions { stream, consumer, .. } = options;
    let edit = |flag: &str| format!("`nats consumer edit {stream} {consumer} {flag}`");
    let anew = "delete it and let it be made anew, or name another";
    let (what, advice) = if config.deliver_subject.is_some() {
        (
            "is a push consumer, and this takes messages when it has room".to_owned(),
            anew.to_owned(),
        )
    } else if config.ack_policy != AckPolicy::Explicit {
        (
            format!(
                "has the ack policy {:?}, with which messages count as done that are not",
                config.ack_policy
            ),
            anew.to_owned(),
        )
    } else if config.max_deliver > 0 {
        (
            format!(
                "gives up after {} deliveries without a word, and the message is then neither done nor dead",
                config.max_deliver
            ),
            edit("--max-deliver=-1"),
        )
    } else if config.headers_only {
        (
            "delivers headers without payloads".to_owned(),
            edit("--no-headers-only"),
        )
    } else if !config.inactive_threshold.is_zero() {
        (
            format!(
                "is deleted with its place in the stream when nobody asks it for {:?}",
                config.inactive_threshold
            ),
            edit("--inactive-threshold=0s"),
        )
    } else if !options.subjects.is_empty() && sorted(&options.subjects) != sorted(&filters(config)) {
        (
            format!("takes {:?}, not {:?}", filters(config), options.subjects),
            edit(
                &options
                    .subjects
                    .iter()
                    .map(|one| format!("--filter={one}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
        )
    } else {
        return Ok(());
    };
    let what = format!("the consumer {consumer} of the stream {stream} {what}: {advice}");
    Err(SourceError::new(SourceErrorKind::Refused, what))
}

/// Whether dead letters are stored, and do not come back as messages.
async fn check_dead_letters(
    link: &Link,
    options: &NatsOptions,
    info: &StreamInfo,
    filters: &[String],
    subject: &str,
) -> Result<(), SourceError> {
    let takes = |patterns: &[String]| patterns.iter().any(|pattern| covers(pattern, subject));
    if takes(&info.config.subjects) && (filters.is_empty() || takes(filters)) {
        let what = format!(
            "dead letters to {subject} would come back to the consumer {}: choose a subject that it does not take",
            options.consumer
        );
        return Err(SourceError::new(SourceErrorKind::Refused, what));
    }
    match link.api("STREAM.NAMES", &json!({"subject": subject})).await {
        Ok(answer) if answer["streams"].as_array().is_none_or(Vec::is_empty) => {
            let what = format!(
                "no stream takes the dead letters to {subject}: make one by `nats stream add DEAD --subjects {subject}`"
            );
            Err(SourceError::new(SourceErrorKind::Refused, what))
        }
        // Whoever may not ask sees it at the first dead letter.
        Ok(_) | Err(Fault::Forbidden(_)) => Ok(()),
        Err(fault) => Err(link.error(&format!("ask who takes {subject}"), &fault)),
    }
}

fn filters(config: &Config) -> Vec<String> {
    match config.filter_subject.as_str() {
        "" => config.filter_subjects.clone(),
        one => vec![one.to_owned()],
    }
}

fn sorted(subjects: &[String]) -> Vec<&String> {
    let mut sorted: Vec<_> = subjects.iter().collect();
    sorted.sort();
    sorted
}

fn unreadable(error: &serde_json::Error) -> Fault {
    Fault::Senseless(format!("an answer that cannot be read: {error}"))
}
