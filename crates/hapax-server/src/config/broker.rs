//! Message brokers: what `[[consume]]` and `[[outbox]]` have in common. Nothing here connects.

use std::fmt;
use std::str::FromStr;

use hapax::consume::{Kafka, KafkaMechanism, Nats, RabbitMq, Redis};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Mistakes;
use super::input::{KeyProblem, read_private};
use super::source::Step;
use super::values::{File, redact, text_value};

/// A broker, by the scheme of its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokerKind {
    Nats,
    RabbitMq,
    Kafka,
    Redis,
}

impl BrokerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nats => "NATS",
            Self::RabbitMq => "RabbitMQ",
            Self::Kafka => "Kafka",
            Self::Redis => "Redis",
        }
    }
}

/// Where a broker is, password included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerUrl {
    pub(crate) kind: BrokerKind,
    tls: bool,
    url: String,
}

text_value!(
    BrokerUrl,
    "a broker: \"nats://HOST\", \"amqp://HOST\", \"kafka://HOST\" or \"redis://HOST\"",
    "nats://127.0.0.1:4222"
);

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, tls) = match text.split_once("://") {
            Some(("nats", _)) => (BrokerKind::Nats, false),
            Some(("tls", _)) => (BrokerKind::Nats, true),
            Some(("amqp", _)) => (BrokerKind::RabbitMq, false),
            Some(("amqps", _)) => (BrokerKind::RabbitMq, true),
            Some(("kafka", _)) => (BrokerKind::Kafka, false),
            Some(("kafkas", _)) => (BrokerKind::Kafka, true),
            Some(("redis", _)) => (BrokerKind::Redis, false),
            Some(("rediss", _)) => (BrokerKind::Redis, true),
            _ => {
                return Err(format!(
                    "{:?} is no broker; write nats://HOST, amqp://HOST, kafka://HOST or redis://HOST (with TLS: tls, \
                     amqps, kafkas, rediss)",
                    redact(text)
                ));
            }
        };
        let url = text.to_owned();
        Ok(Self { kind, tls, url })
    }
}

/// Without the password.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.url))
    }
}

/// Finds keys that name a place which the broker does not have. `wanted` says what to write instead.
pub(super) fn places(
    kind: BrokerKind,
    given: &[(&'static str, &Option<String>, &[BrokerKind])],
    wanted: &str,
    at: &dyn Fn(&'static str) -> [Step; 3],
    mistakes: &mut Mistakes,
) {
    for (key, given, kinds) in given {
        if given.is_some() && !kinds.contains(&kind) {
            mistakes.add(
                &at(key),
                format!("{} has no {key} here", kind.name()),
                format!("leave it out, and write {wanted}"),
            );
        }
    }
}

/// A broker as a table of the file has it, and who we are to it.
pub(crate) struct Broker<'a> {
    /// The key that the URL is given by.
    pub(crate) key: &'static str,
    pub(crate) url: &'a BrokerUrl,
    pub(crate) secret_file: Option<&'a File>,
    pub(crate) ca: Option<&'a File>,
}

/// A key of the table, what is wrong with it, and what to do.
pub(crate) type Wrong = (&'static str, KeyProblem);

type Login = Option<(String, String)>;

impl Broker<'_> {
    /// Whether one could connect, as far as is known without trying.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        match self.url.kind {
            BrokerKind::Nats => self.nats().map(drop),
            BrokerKind::RabbitMq => self.rabbitmq().map(drop),
            BrokerKind::Kafka => self.kafka().map(drop),
            BrokerKind::Redis => self.redis().map(drop),
        }
    }

    pub(crate) fn nats(&self) -> Result<Nats, Wrong> {
        let mut nats = Nats::new(&self.url.url).map_err(|error| self.wrong(&error))?;
        if let Some((user, password)) = self.login()? {
            nats = nats.user(&user, &password);
        }
        // A server may ask for TLS whatever the URL says.
        if self.authorities()?.is_some()
            && let Some(ca) = self.ca
        {
            nats = nats.authorities(ca.path());
        }
        Ok(nats)
    }

    pub(crate) fn rabbitmq(&self) -> Result<RabbitMq, Wrong> {
        self.tls_for_authorities()?;
        let url = match self.login()? {
            None => self.url.url.clone(),
            Some((user, password)) => with_login(&self.url.url, &user, &password),
        };
        let rabbitmq = RabbitMq::new(&url).map_err(|error| self.wrong(&error))?;
        Ok(match self.authorities()? {
            Some(pem) => rabbitmq.trust(pem),
            None => rabbitmq,
        })
    }

    pub(crate) fn kafka(&self) -> Result<Kafka, Wrong> {
        self.tls_for_authorities()?;
        let brokers = self.url.url.split_once("://").map_or("", |(_, brokers)| brokers);
        let mut cluster = Kafka::new(brokers).map_err(|error| self.wrong(&error))?;
        if self.url.tls {
            cluster = cluster.tls();
        }
        if self.authorities()?.is_some()
            && let Some(ca) = self.ca
        {
            cluster = cluster.ca(ca.path());
        }
        if let Some((user, password)) = self.login()? {
            // Without TLS only a mechanism that does not send the password itself.
            let mechanism = if self.url.tls {
                KafkaMechanism::Plain
            } else {
                KafkaMechanism::ScramSha512
            };
            cluster = cluster.login(mechanism, &user, &password);
        }
        Ok(cluster)
    }

    pub(crate) fn redis(&self) -> Result<Redis, Wrong> {
        self.tls_for_authorities()?;
        let mut redis = Redis::new(&self.url.url).map_err(|error| self.wrong(&error))?;
        if let Some((user, password)) = self.login()? {
            redis = redis.user(&user, &password);
        }
        if self.authorities()?.is_some()
            && let Some(ca) = self.ca
        {
            redis = redis.authorities(ca.path());
        }
        Ok(redis)
    }

    fn login(&self) -> Result<Login, Wrong> {
        let Some(file) = self.secret_file else { return Ok(None) };
        let make = "write the broker's user name, a colon and the password into it: (umask 077; echo shop:SECRET > \
                    broker.secret)";
        let text = read_private(file.path(), "a secret", make).map_err(|problem| ("secret_file", problem))?;
        match text.trim().split_once(':') {
            Some((user, password)) => Ok(Some((user.to_owned(), password.to_owned()))),
            None => {
                let problem = "the file has no USER:PASSWORD".to_owned();
                let help = make.to_owned();
                Err(("secret_file", KeyProblem { problem, help }))
            }
        }
    }

    fn authorities(&self) -> Result<Option<String>, Wrong> {
        let read = |file: &File| {
            std::fs::read_to_string(file.path()).map_err(|error| {
                let problem = format!("cannot read {file}: {error}");
                let help = "check the path and its permissions; it is a PEM file".to_owned();
                ("ca", KeyProblem { problem, help })
            })
        };
        self.ca.map(read).transpose()
    }

    fn tls_for_authorities(&self) -> Result<(), Wrong> {
        if self.ca.is_none() || self.url.tls {
            return Ok(());
        }
        let scheme = self.url.url.split_once("://").map_or("", |(scheme, _)| scheme);
        let problem = format!("{scheme}:// is without TLS, where no authority is asked");
        let help = format!("write {scheme}s://, or leave ca out");
        Err(("ca", KeyProblem { problem, help }))
    }

    fn wrong(&self, error: &dyn fmt::Display) -> Wrong {
        (self.key, KeyProblem::of(error))
    }
}

/// A URL with user and password, whatever characters are in them; of several with commas between, each.
fn with_login(urls: &str, user: &str, password: &str) -> String {
    let login = format!("{}:{}", encoded(user), encoded(password));
    let each: Vec<_> = urls
        .split(',')
        .map(|url| {
            let (scheme, rest) = url.trim().split_once("://").unwrap_or(("amqp", url));
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            format!("{scheme}://{login}@{rest}")
        })
        .collect();
    each.join(",")
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
