//! `[[outbox]]`: effects on other systems, and where they go.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use hapax::consume::{KafkaSink, NatsSink, RabbitMqRoute, RabbitMqSink, RedisSink};
use hapax::core::RetryPolicy;
use hapax::outbox::{Email, Sink, SinkOptions, Webhook, WebhookSecret};
use hapax::receipts::Dialect;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::broker::{self, Broker, BrokerKind, BrokerUrl, Wrong};
use super::check::{Mistakes, positive};
use super::input::{KeyProblem, read_private};
use super::retry::{Retry, RouteRetry};
use super::source::Step::{self, Index, Key};
use super::values::{File, Period, RouteName, redact, text_value};
use super::{AfterFailure, Config};

/// An effect and where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outbox {
    /// The name of the effect, as it is enqueued.
    pub(crate) name: RouteName,
    /// Where it goes: `https://HOST/PATH` (a webhook), `smtp://HOST` or `smtps://HOST` (email), or a broker:
    /// `nats://HOST`, `amqp://HOST` (RabbitMQ), `kafka://HOST`, `redis://HOST`; with TLS `tls://`, `amqps://`, `kafkas://`,
    /// `rediss://`.
    pub(crate) to: SinkUrl,
    /// NATS: the subject, which a stream takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// RabbitMQ: the queue; or else `exchange`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<String>,
    /// RabbitMQ: the exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exchange: Option<String>,
    /// RabbitMQ: the routing key at the exchange; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) routing_key: Option<String>,
    /// Kafka: the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    /// Redis: the stream's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    /// A webhook's secrets (`whsec_…`, one a line: all sign), or `USER:PASSWORD` for a mail server or a broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<File>,
    /// Email: the sender, such as `Shop <shop@example.org>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// PEM file with the authorities that the receiver is trusted by: beside the system's, for Kafka and Redis instead of
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<File>,
    /// The database in which programs enqueue by `hapax_enqueue`. Without it, only what is in the store already is
    /// delivered: what the library enqueued there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<DatabaseUrl>,
    /// Whether the effects of one aggregate are delivered one after the other. One that is dead or unknown holds up those
    /// behind it until it is redriven, resolved or discarded.
    #[serde(default)]
    pub(crate) ordered: bool,
    /// How long the receiver remembers keys: what may have arrived longer ago is not sent again. For ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receiver_remembers_for: Option<Period>,
    /// How long it is remembered that an effect was delivered; as above all routes if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remember_for: Option<Period>,
    /// How long a delivery may go without a sign of life; as above all routes if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Period>,
    /// When the receiver is asked again, and when it is left alone. By default 20 tries within 3 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RouteRetry>,
}

/// Where effects go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SinkUrl {
    Webhook(String),
    Email(String),
    Broker(BrokerUrl),
}

text_value!(
    SinkUrl,
    "a receiver: \"https://HOST/PATH\", \"smtp://HOST\" or a broker such as \"nats://HOST\"",
    "https://shop.example/hooks"
);

impl FromStr for SinkUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => Ok(Self::Webhook(text.to_owned())),
            Some("smtp" | "smtps") => Ok(Self::Email(text.to_owned())),
            _ => text.parse().map(Self::Broker).map_err(|_| {
                format!(
                    "{:?} is no receiver of effects; write https://HOST/PATH, smtp://HOST, nats://HOST, amqp://HOST, \
                     kafka://HOST or redis://HOST (with TLS: smtps, tls, amqps, kafkas, rediss)",
                    redact(text)
                )
            }),
        }
    }
}

impl fmt::Display for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(url) | Self::Email(url) => f.write_str(&redact(url)),
            Self::Broker(url) => url.fmt(f),
        }
    }
}

/// A database of the user's, password included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseUrl(pub(crate) String);

text_value!(
    DatabaseUrl,
    "a database: \"postgres://USER@HOST/DATABASE\", \"mysql://USER@HOST/DATABASE\" or \"sqlite:FILE\"",
    "postgres://shop@db/shop"
);

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Dialect::of(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(format!(
                "{:?} is no database; write postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:FILE",
                redact(text)
            )),
        }
    }
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl Outbox {
    /// The policy: the usual one of an outbox, with what this one says otherwise.
    pub(crate) fn policy(&self, config: &Config) -> RetryPolicy {
        let usual = Retry::of(&SinkOptions::policy());
        let own = self.retry.clone().unwrap_or_default();
        let given = own.per_try.is_some();
        let mut policy = usual.but(&own).policy(AfterFailure::Retry, &config.timeouts);
        if !given {
            // The backend's time-outs are not the receiver's.
            policy.limits.per_try = SinkOptions::policy().limits.per_try.min(policy.limits.total);
        }
        policy
    }

    pub(crate) fn remember_for(&self, config: &Config) -> Period {
        self.remember_for.unwrap_or(config.remember_for)
    }

    pub(crate) fn lease(&self, config: &Config) -> Period {
        self.lease.unwrap_or(config.lease)
    }

    /// What delivers.
    ///
    /// # Errors
    /// The key that is wrong, what is wrong with it, and what to do.
    pub(crate) fn sink(&self, config: &Config) -> Result<Box<dyn Sink>, Wrong> {
        // Its own time-outs know what was sent; that of the policy does not, and must come later.
        let per_try = self.policy(config).limits.per_try;
        match &self.to {
            SinkUrl::Webhook(url) => self.webhook(url, per_try),
            SinkUrl::Email(url) => self.email(url, per_try),
            SinkUrl::Broker(url) => self.message(url, per_try),
        }
    }

    fn webhook(&self, url: &str, per_try: Duration) -> Result<Box<dyn Sink>, Wrong> {
        let secret = self.secret()?;
        let connect = (per_try / 3).min(Duration::from_secs(10));
        let answer = (per_try - connect).mul_f64(0.9);
        let mut webhook = Webhook::new(url).map_err(|error| wrong("to", &error))?;
        webhook = webhook.timeouts(connect, answer);
        if let Some(pem) = self.authorities()? {
            webhook = webhook.trust(&pem).map_err(|error| wrong("ca", &error))?;
        }
        for line in secret.lines().filter(|line| !line.trim().is_empty()) {
            let secret = WebhookSecret::parse(line).map_err(|error| wrong("secret_file", &error))?;
            webhook = webhook.secret(secret);
        }
        Ok(Box::new(webhook))
    }

    fn email(&self, url: &str, per_try: Duration) -> Result<Box<dyn Sink>, Wrong> {
        let secret = self.secret()?;
        let from = self.from.as_deref().unwrap_or_default();
        let key = if Email::new(url, "a@example.org").is_err() {
            "to"
        } else {
            "from"
        };
        let mut email = Email::new(url, from).map_err(|error| wrong(key, &error))?;
        email = email.timeout((per_try / 4).min(Duration::from_secs(10)));
        if let Some(pem) = self.authorities()? {
            email = email.trust(&pem).map_err(|error| wrong("ca", &error))?;
        }
        if self.secret_file.is_some() {
            let Some((user, password)) = secret.trim().split_once(':') else {
                let problem = "the file has no USER:PASSWORD".to_owned();
                let help = "write the mail server's user name, a colon and the password into it".to_owned();
                return Err(("secret_file", KeyProblem { problem, help }));
            };
            email = email.login(user, password);
        }
        Ok(Box::new(email))
    }

    fn message(&self, url: &BrokerUrl, per_try: Duration) -> Result<Box<dyn Sink>, Wrong> {
        let broker = Broker {
            key: "to",
            url,
            secret_file: self.secret_file.as_ref(),
            ca: self.ca.as_ref(),
        };
        let named = |name: &Option<String>| name.clone().unwrap_or_default();
        Ok(match url.kind {
            BrokerKind::Nats => {
                let sink = NatsSink::to(broker.nats()?, &named(&self.subject));
                Box::new(sink.map_err(|error| wrong("subject", &error))?)
            }
            BrokerKind::RabbitMq => {
                let (key, route) = match &self.exchange {
                    Some(exchange) => ("exchange", RabbitMqRoute::exchange(exchange, &named(&self.routing_key))),
                    None => ("queue", RabbitMqRoute::queue(&named(&self.queue))),
                };
                let sink = RabbitMqSink::new(&broker.rabbitmq()?, route);
                Box::new(sink.map_err(|error| wrong(key, &error))?)
            }
            BrokerKind::Kafka => {
                let answer = per_try
                    .mul_f64(0.9)
                    .clamp(Duration::from_secs(1), Duration::from_secs(20));
                let sink = KafkaSink::new(&broker.kafka()?, &named(&self.topic)).and_then(|sink| sink.timeout(answer));
                Box::new(sink.map_err(|error| wrong("to", &error))?)
            }
            BrokerKind::Redis => {
                let sink = RedisSink::new(broker.redis()?, &named(&self.stream));
                Box::new(sink.map_err(|error| wrong("stream", &error))?)
            }
        })
    }

    fn authorities(&self) -> Result<Option<Vec<u8>>, Wrong> {
        self.ca.as_ref().map(|file| read(file.path())).transpose()
    }

    fn secret(&self) -> Result<String, Wrong> {
        let Some(file) = &self.secret_file else {
            return Ok(String::new());
        };
        let make = "write the secret into it: (umask 077; echo whsec_$(openssl rand -base64 32) > webhook.secret)";
        read_private(file.path(), "a secret", make).map_err(|problem| ("secret_file", problem))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Wrong> {
    std::fs::read(path).map_err(|error| {
        let problem = format!("cannot read {}: {error}", path.display());
        let help = "check the path and its permissions".to_owned();
        ("ca", KeyProblem { problem, help })
    })
}

fn wrong(key: &'static str, error: &dyn fmt::Display) -> Wrong {
    (key, KeyProblem::of(error))
}

pub(super) fn check(config: &Config, mistakes: &mut Mistakes) {
    for (index, outbox) in config.outboxes.iter().enumerate() {
        let at = |key| [Key("outbox"), Index(index), Key(key)];
        let name = outbox.name.to_string();
        if config.outboxes[..index].iter().any(|before| before.name == outbox.name) {
            mistakes.add(
                &at("name"),
                format!("there are two outboxes with the name {name:?}"),
                "an effect goes to one receiver: enqueue two effects, or give one of them another name",
            );
        }
        if name == "default" || config.routes.iter().any(|route| route.name == outbox.name) {
            mistakes.add(
                &at("name"),
                format!("{name:?} is the name of a route's operations, too"),
                "give the effect another name",
            );
        }
        times(config, outbox, &at, mistakes);
        if !places(outbox, index, &at, mistakes) {
            continue;
        }
        match outbox.policy(config).check() {
            Err(error) => mistakes.add(
                &[&at("retry")[..], &[Key(error.field())]].concat(),
                format!("outbox.retry.{} {}", error.field(), error.problem()),
                error.write(),
            ),
            Ok(()) => {
                if let Err((key, KeyProblem { problem, help })) = outbox.sink(config) {
                    mistakes.add(&at(key), problem, help);
                }
            }
        }
    }
}

fn times(config: &Config, outbox: &Outbox, at: &dyn Fn(&'static str) -> [Step; 3], mistakes: &mut Mistakes) {
    let given = [
        ("receiver_remembers_for", outbox.receiver_remembers_for),
        ("remember_for", outbox.remember_for),
        ("lease", outbox.lease),
    ];
    for (key, period) in given.into_iter().filter_map(|(key, period)| Some((key, period?))) {
        positive(&at(key), key, period, mistakes);
    }
    if let Some(lease) = outbox.lease.filter(|lease| *lease > config.max_run) {
        mistakes.add(
            &at("lease"),
            format!("lease ({lease}) is longer than max_run ({})", config.max_run),
            format!("lower lease to {} or less", config.max_run),
        );
    }
}

/// Whether it is said where it goes, and nothing that makes no sense there.
fn places(outbox: &Outbox, index: usize, at: &dyn Fn(&'static str) -> [Step; 3], mistakes: &mut Mistakes) -> bool {
    let before = mistakes.count();
    let given: [(_, _, &[BrokerKind]); 6] = [
        ("subject", &outbox.subject, &[BrokerKind::Nats]),
        ("queue", &outbox.queue, &[BrokerKind::RabbitMq]),
        ("exchange", &outbox.exchange, &[BrokerKind::RabbitMq]),
        ("routing_key", &outbox.routing_key, &[BrokerKind::RabbitMq]),
        ("topic", &outbox.topic, &[BrokerKind::Kafka]),
        ("stream", &outbox.stream, &[BrokerKind::Redis]),
    ];
    let who = match &outbox.to {
        SinkUrl::Webhook(_) => "a webhook",
        SinkUrl::Email(_) => "an email",
        SinkUrl::Broker(url) => url.kind.name(),
    };
    if let SinkUrl::Broker(url) = &outbox.to {
        let wanted = wanted(url.kind);
        broker::places(url.kind, &given, wanted, at, mistakes);
        let place = match url.kind {
            BrokerKind::Nats => &outbox.subject,
            BrokerKind::RabbitMq if outbox.exchange.is_some() => &outbox.exchange,
            BrokerKind::RabbitMq => &outbox.queue,
            BrokerKind::Kafka => &outbox.topic,
            BrokerKind::Redis => &outbox.stream,
        };
        if place.as_ref().is_none_or(String::is_empty) {
            let problem = format!("it is not said where at {who} the effects go");
            mistakes.add(&[Key("outbox"), Index(index)], problem, format!("write {wanted}"));
        }
        if outbox.queue.is_some() && outbox.exchange.is_some() {
            let problem = "an effect goes to a queue or to an exchange, not to both";
            mistakes.add(
                &at("queue"),
                problem,
                "leave one of them out; an exchange can feed several queues",
            );
        }
        if outbox.routing_key.is_some() && outbox.exchange.is_none() && url.kind == BrokerKind::RabbitMq {
            let problem = "there is no exchange that the routing key is for";
            mistakes.add(
                &at("routing_key"),
                problem,
                "write exchange = \"orders\", or leave routing_key out",
            );
        }
    } else {
        for (key, _, _) in given.iter().filter(|(_, given, _)| given.is_some()) {
            let help = "leave it out, or write a broker: to = \"nats://HOST\"";
            mistakes.add(&at(key), format!("{who} has no {key}"), help);
        }
    }
    match &outbox.to {
        SinkUrl::Email(_) if outbox.from.is_none() => {
            let help = "write from = \"Shop <shop@example.org>\"";
            mistakes.add(&at("to"), "emails have no sender", help);
        }
        SinkUrl::Webhook(_) | SinkUrl::Broker(_) if outbox.from.is_some() => {
            let help = "leave from out, or write to = \"smtp://HOST\"";
            mistakes.add(&at("from"), format!("{who} has no sender"), help);
        }
        _ => {}
    }
    mistakes.count() == before
}

/// What says where at a broker effects go.
fn wanted(kind: BrokerKind) -> &'static str {
    match kind {
        BrokerKind::Nats => "subject = \"orders.paid\", which a stream takes",
        BrokerKind::RabbitMq => "queue = \"orders\", or exchange = \"orders\" and routing_key = \"orders.paid\"",
        BrokerKind::Kafka => "topic = \"orders\"",
        BrokerKind::Redis => "stream = \"orders\"",
    }
}
