//! `[[consume]]`: messages of a broker, and the HTTP endpoint that handles them.

use std::fmt;
use std::str::FromStr;

use hapax::consume::{ConsumerOptions, Identity};
use hapax::core::RetryPolicy;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::broker::{self, Broker, BrokerKind, BrokerUrl};
use super::check::{Mistakes, positive};
use super::input::KeyProblem;
use super::receipts::{self, Written};
use super::retry::{Retry, RouteRetry};
use super::source::Step::{self, Index, Key};
use super::values::{File, Period, RouteName, Size, Status, UpstreamUrl, Verb, text_value};
use super::{AfterFailure, Config, Route};

/// Messages, and who handles them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Consume {
    /// The name of the consumer: the same message is another operation for another consumer.
    pub(crate) name: RouteName,
    /// The broker: `nats://HOST`, `amqp://HOST` (RabbitMQ), `kafka://HOST` or `redis://HOST`; with TLS `tls://`,
    /// `amqps://`, `kafkas://`, `rediss://`.
    pub(crate) from: BrokerUrl,
    /// NATS: the JetStream stream. Redis: the stream's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    /// NATS: only messages with this subject, which may have wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// RabbitMQ: the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<String>,
    /// Kafka: the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    /// The consumer group (NATS: the durable consumer); the name if absent. RabbitMQ has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Which message it is: `header:NAME`, `cloudevents`, `json:/pointer` or, as a last resort, `position`.
    pub(crate) identity: IdentityText,
    /// Who handles it: `http://HOST/PATH`, by POST. 2xx is done.
    pub(crate) to: EndpointUrl,
    /// `USER:PASSWORD` for the broker, in a file that nobody else can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<File>,
    /// PEM file with the authorities that the broker is trusted by: for NATS and RabbitMQ beside the system's, for Kafka
    /// and Redis instead of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<File>,
    /// Where the broker gets a copy of each dead letter: a subject, queue, topic or stream. Nowhere if absent:
    /// they are in the records, with their payloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dead_letters: Option<String>,
    /// Keeps the order of messages with the same text: `header:NAME`, `json:/pointer`, `key` (Kafka) or `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) order_by: Option<OrderText>,
    /// Messages that are handled at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<u32>,
    /// Messages in hand, handled or waiting for their turn; four times `concurrency` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prefetch: Option<u32>,
    /// The largest payload; `limits.request_body` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<Size>,
    /// How long the broker may deliver a message again, where it cannot say so itself (RabbitMQ's TTL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redelivers_for: Option<Period>,
    /// How long a message is recognised; as above all routes if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remember_for: Option<Period>,
    /// See above all routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Period>,
    /// See above all routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_run: Option<Period>,
    /// See above all routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_failure: Option<AfterFailure>,
    /// See above all routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_effect: Option<Vec<Status>>,
    /// Whether the endpoint writes receipts, where `[receipts]` names a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipts: Option<Written>,
    /// When a message is sent again, and when intake pauses. By default 8 tries within a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RouteRetry>,
}

/// The endpoint that handles messages: `http://HOST:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointUrl {
    /// Who is connected to.
    pub(crate) origin: UpstreamUrl,
    /// What is asked for there, with its query.
    pub(crate) path: http::uri::PathAndQuery,
}

text_value!(
    EndpointUrl,
    "the URL that handles messages, such as \"http://127.0.0.1:9000/points\"",
    "http://127.0.0.1:9000/points"
);

impl FromStr for EndpointUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write http://HOST:PORT/PATH or https://HOST:PORT/PATH";
        let url: http::Uri = text
            .parse()
            .map_err(|error| format!("{text:?} is no URL ({error}); {WRITE}"))?;
        let path = url
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(format!("{text:?} is no URL of an endpoint; {WRITE}"));
        };
        let origin = format!("{scheme}://{authority}").parse()?;
        Ok(Self { origin, path })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

/// Where the identity of a message stands.
#[derive(Debug, Clone)]
pub(crate) struct IdentityText(pub(crate) Identity);

text_value!(
    IdentityText,
    "\"header:NAME\", \"cloudevents\", \"json:/pointer\" or \"position\"",
    "header:Nats-Msg-Id"
);

impl PartialEq for IdentityText {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl FromStr for IdentityText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|error: hapax::consume::IdentityError| error.to_string())
    }
}

impl fmt::Display for IdentityText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What keeps an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OrderText {
    /// Kafka's key.
    Key,
    Subject,
    /// A header or a JSON pointer.
    In(IdentityText),
}

text_value!(
    OrderText,
    "\"header:NAME\", \"json:/pointer\", \"key\" or \"subject\"",
    "json:/order/id"
);

impl FromStr for OrderText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Identity>() {
            _ if text == "key" => Ok(Self::Key),
            _ if text == "subject" => Ok(Self::Subject),
            Ok(found @ (Identity::Header(_) | Identity::Json(_))) => Ok(Self::In(IdentityText(found))),
            _ => Err(format!(
                "{text:?} keeps no order; write header:NAME, json:/pointer, key (Kafka) or subject"
            )),
        }
    }
}

impl fmt::Display for OrderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Subject => f.write_str("subject"),
            Self::In(place) => place.fmt(f),
        }
    }
}

impl Consume {
    /// What the broker calls the place that messages come from.
    pub(crate) fn place(&self) -> Option<&str> {
        match self.from.kind {
            BrokerKind::Nats | BrokerKind::Redis => self.stream.as_deref(),
            BrokerKind::RabbitMq => self.queue.as_deref(),
            BrokerKind::Kafka => self.topic.as_deref(),
        }
    }

    pub(crate) fn group(&self) -> String {
        self.group.clone().unwrap_or_else(|| self.name.to_string())
    }

    /// The policy: the usual one of a consumer, with what this one says otherwise.
    pub(crate) fn policy(&self, config: &Config) -> RetryPolicy {
        let usual = Retry::of(&ConsumerOptions::policy());
        let own = self.retry.clone().unwrap_or_default();
        usual.but(&own).policy(self.after_failure(config), &config.timeouts)
    }

    pub(crate) fn after_failure(&self, config: &Config) -> AfterFailure {
        self.after_failure.unwrap_or(config.after_failure)
    }

    pub(crate) fn remember_for(&self, config: &Config) -> Period {
        self.remember_for.unwrap_or(config.remember_for)
    }

    pub(crate) fn lease(&self, config: &Config) -> Period {
        self.lease.unwrap_or(config.lease)
    }

    pub(crate) fn max_run(&self, config: &Config) -> Period {
        self.max_run.unwrap_or(config.max_run)
    }

    pub(crate) fn concurrency(&self) -> u32 {
        self.concurrency.unwrap_or(16)
    }

    pub(crate) fn prefetch(&self) -> u32 {
        self.prefetch.unwrap_or(self.concurrency().saturating_mul(4))
    }

    pub(crate) fn message(&self, config: &Config) -> Size {
        self.message.unwrap_or(config.limits.request_body)
    }

    /// What holds for its runs, as a route of its name would say it.
    pub(crate) fn route(&self, config: &Config) -> Route {
        let remembered = self.remember_for(config);
        Route {
            path: self.to.path.path().to_owned(),
            methods: vec![Verb(http::Method::POST)],
            name: self.name.clone(),
            require_key: None,
            scope: None,
            ignore: Vec::new(),
            select: Vec::new(),
            wait: None,
            lease: self.lease,
            max_run: self.max_run,
            after_failure: self.after_failure,
            no_effect: self.no_effect.clone(),
            final_statuses: None,
            replay_for: Some(remembered),
            remember_for: Some(remembered),
            client_retries_for: None,
            redrive_for: None,
            settle: None,
            respond_async: None,
            when_store_is_down: None,
            keep_headers: Vec::new(),
            request_body: self.message,
            answer: None,
            retry: self.retry.clone(),
            probe: None,
            receipts: self.receipts,
        }
    }

    /// The broker, and who we are to it.
    pub(crate) fn broker(&self) -> Broker<'_> {
        Broker {
            key: "from",
            url: &self.from,
            secret_file: self.secret_file.as_ref(),
            ca: self.ca.as_ref(),
        }
    }
}

pub(super) fn check(config: &Config, mistakes: &mut Mistakes) {
    for (index, consume) in config.consumers.iter().enumerate() {
        let at = |key| [Key("consume"), Index(index), Key(key)];
        names(config, index, consume, &at, mistakes);
        places(consume, index, &at, mistakes);
        times(config, consume, &at, mistakes);
        numbers(consume, &at, mistakes);
        if let Err((key, KeyProblem { problem, help })) = consume.broker().check() {
            mistakes.add(&at(key), problem, help);
        }
        if consume.receipts.is_some() && config.receipts.database.is_none() {
            mistakes.add(
                &at("receipts"),
                "the endpoint is said to write receipts, but no database of theirs is named",
                "write [receipts] with database = \"postgres://USER@HOST/DATABASE\", or leave receipts out",
            );
        }
        let written = receipts::written(config, Some(&consume.route(config)));
        if written != Written::Never && consume.after_failure(config) == AfterFailure::Retry {
            mistakes.add(
                &at("after_failure"),
                "receipts say what happened, so that nothing is run again by guess",
                "leave out after_failure = \"retry\", or write receipts = \"never\" for this consumer",
            );
        }
        if let Err(error) = consume.policy(config).check() {
            mistakes.add(
                &[&at("retry")[..], &[Key(error.field())]].concat(),
                format!("consume.retry.{} {}", error.field(), error.problem()),
                error.write(),
            );
        }
    }
}

fn names(
    config: &Config,
    index: usize,
    consume: &Consume,
    at: &dyn Fn(&'static str) -> [Step; 3],
    mistakes: &mut Mistakes,
) {
    let name = consume.name.to_string();
    if config.consumers[..index]
        .iter()
        .any(|before| before.name == consume.name)
    {
        mistakes.add(
            &at("name"),
            format!("there are two consumers with the name {name:?}"),
            "give each a name of its own: the same message is then handled by both",
        );
    }
    if name == "default" || config.routes.iter().any(|route| route.name == consume.name) {
        mistakes.add(
            &at("name"),
            format!("{name:?} is the name of a route's operations, too"),
            "give the consumer another name",
        );
    }
    if config.outboxes.iter().any(|outbox| outbox.name == consume.name) {
        mistakes.add(
            &at("name"),
            format!("{name:?} is the name of an outbox, too"),
            "give the consumer another name",
        );
    }
}

fn places(consume: &Consume, index: usize, at: &dyn Fn(&'static str) -> [Step; 3], mistakes: &mut Mistakes) {
    let kind = consume.from.kind;
    let given: [(_, _, &[BrokerKind]); 4] = [
        ("stream", &consume.stream, &[BrokerKind::Nats, BrokerKind::Redis]),
        ("subject", &consume.subject, &[BrokerKind::Nats]),
        ("queue", &consume.queue, &[BrokerKind::RabbitMq]),
        ("topic", &consume.topic, &[BrokerKind::Kafka]),
    ];
    broker::places(kind, &given, wanted(kind), at, mistakes);
    if consume.place().is_none_or(str::is_empty) {
        mistakes.add(
            &[Key("consume"), Index(index)],
            format!("it is not said where at {} the messages are", kind.name()),
            format!("write {}", wanted(kind)),
        );
    }
    if kind == BrokerKind::RabbitMq {
        if consume.group.is_some() {
            mistakes.add(
                &at("group"),
                "RabbitMQ has no consumer groups: whoever consumes a queue shares it",
                "leave group out, and give each consumer a queue of its own",
            );
        }
        if matches!(consume.identity.0, Identity::Position) {
            mistakes.add(
                &at("identity"),
                "RabbitMQ's messages have no position: the same message may come in two places",
                "write identity = \"header:message-id\", \"cloudevents\" or \"json:/pointer\"",
            );
        }
    }
    if consume.order_by == Some(OrderText::Key) && kind != BrokerKind::Kafka {
        mistakes.add(
            &at("order_by"),
            format!("{}'s messages have no key", kind.name()),
            "write order_by = \"header:NAME\", \"json:/pointer\" or \"subject\"",
        );
    }
}

/// What says where at a broker messages are.
fn wanted(kind: BrokerKind) -> &'static str {
    match kind {
        BrokerKind::Nats => "stream = \"ORDERS\", and subject = \"orders.paid\" if not all of it is meant",
        BrokerKind::RabbitMq => "queue = \"orders\"",
        BrokerKind::Kafka => "topic = \"orders\"",
        BrokerKind::Redis => "stream = \"orders\"",
    }
}

fn times(config: &Config, consume: &Consume, at: &dyn Fn(&'static str) -> [Step; 3], mistakes: &mut Mistakes) {
    let given = [
        ("redelivers_for", consume.redelivers_for),
        ("remember_for", consume.remember_for),
        ("lease", consume.lease),
        ("max_run", consume.max_run),
    ];
    for (key, period) in given.into_iter().filter_map(|(key, period)| Some((key, period?))) {
        positive(&at(key), key, period, mistakes);
    }
    let (lease, max_run) = (consume.lease(config), consume.max_run(config));
    if (consume.lease.is_some() || consume.max_run.is_some()) && lease > max_run {
        mistakes.add(
            &at(if consume.lease.is_some() { "lease" } else { "max_run" }),
            format!("lease ({lease}) is longer than max_run ({max_run})"),
            format!("lower lease to {max_run} or less, or raise max_run"),
        );
    }
}

fn numbers(consume: &Consume, at: &dyn Fn(&'static str) -> [Step; 3], mistakes: &mut Mistakes) {
    const MOST: u32 = 10_000;
    for (key, given) in [("concurrency", consume.concurrency), ("prefetch", consume.prefetch)] {
        if given.is_some_and(|given| !(1..=MOST).contains(&given)) {
            mistakes.add(
                &at(key),
                format!("{key} is {}", given.unwrap_or_default()),
                format!("give a number from 1 to {MOST}"),
            );
        }
    }
    if consume.prefetch() < consume.concurrency() {
        mistakes.add(
            &at("prefetch"),
            format!(
                "prefetch ({}) is less than concurrency ({})",
                consume.prefetch(),
                consume.concurrency()
            ),
            "raise it: with fewer messages in hand some would never be handled at a time",
        );
    }
}

#[cfg(test)]
mod tests;
