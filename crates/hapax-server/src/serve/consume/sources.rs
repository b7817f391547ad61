//! A consumer's source, by the scheme of its broker's URL.

use hapax::consume::{
    Kafka, KafkaMechanism, KafkaOptions, KafkaSource, Nats, NatsOptions, NatsSource, RabbitMq, RabbitMqOptions,
    RabbitMqRoute, RabbitMqSource, Source,
};

use crate::config::consume::{BrokerKind, Consume};

/// What messages come from, not connected yet.
///
/// # Errors
/// What makes no sense, and what to write instead.
pub(super) fn source(one: &Consume) -> Result<Box<dyn Source>, String> {
    let login = one.login().map_err(|problem| format!("secret_file: {problem}"))?;
    let place = one.place().unwrap_or_default();
    match one.from.kind {
        BrokerKind::Nats => nats(one, place, login),
        BrokerKind::RabbitMq => rabbitmq(one, place, login),
        BrokerKind::Kafka => kafka(one, place, login),
    }
}

type Login = Option<(String, String)>;

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn nats(one: &Consume, stream: &str, login: Login) -> Result<Box<dyn Source>, String> {
    let mut nats = Nats::new(&one.from.url).map_err(said)?;
    if let Some((user, password)) = login {
        nats = nats.user(&user, &password);
    }
    if let Some(ca) = &one.ca {
        nats = nats.authorities(ca.path());
    }
    let options = NatsOptions {
        subjects: one.subject.iter().cloned().collect(),
        dead_letters: one.dead_letters.clone(),
        ..NatsOptions::new(stream, &one.group())
    };
    Ok(Box::new(NatsSource::new(nats, options).map_err(said)?))
}

fn rabbitmq(one: &Consume, queue: &str, login: Login) -> Result<Box<dyn Source>, String> {
    let url = match login {
        None => one.from.url.clone(),
        Some((user, password)) => with_login(&one.from.url, &user, &password),
    };
    let mut rabbitmq = RabbitMq::new(&url).map_err(said)?;
    if let Some(ca) = &one.ca {
        let pem = std::fs::read_to_string(ca.path()).map_err(|error| format!("ca: cannot read it: {error}"))?;
        rabbitmq = rabbitmq.trust(pem);
    }
    let options = RabbitMqOptions {
        dead_letters: one.dead_letters.as_deref().map(RabbitMqRoute::queue),
        queue_ttl: one.redelivers_for.map(|period| period.0),
        ..RabbitMqOptions::new(queue)
    };
    Ok(Box::new(RabbitMqSource::new(&rabbitmq, options).map_err(said)?))
}

fn kafka(one: &Consume, topic: &str, login: Login) -> Result<Box<dyn Source>, String> {
    let brokers = one.from.url.split_once("://").map_or("", |(_, brokers)| brokers);
    let mut cluster = Kafka::new(brokers).map_err(said)?;
    if one.from.tls {
        cluster = cluster.tls();
    }
    if let Some(ca) = &one.ca {
        cluster = cluster.ca(ca.path());
    }
    if let Some((user, password)) = login {
        // Without TLS only a mechanism that does not send the password itself.
        let mechanism = if one.from.tls {
            KafkaMechanism::Plain
        } else {
            KafkaMechanism::ScramSha512
        };
        cluster = cluster.login(mechanism, &user, &password);
    }
    let options = KafkaOptions {
        dead_letters: one.dead_letters.clone(),
        ..KafkaOptions::default()
    };
    let source = KafkaSource::new(&cluster, &one.group(), &[topic], options);
    Ok(Box::new(source.map_err(said)?))
}

/// A URL with user and password, whatever characters are in them.
fn with_login(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("amqp", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{}:{}@{rest}", encoded(user), encoded(password))
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
mod tests {
    use super::*;

    #[test]
    fn a_login_goes_into_the_url_whatever_it_is() {
        let url = with_login("amqp://guest:guest@mq:5672/%2f", "shop", "p@ss:/ü");
        assert_eq!(url, "amqp://shop:p%40ss%3A%2F%C3%BC@mq:5672/%2f");
        assert_eq!(with_login("amqps://mq", "a", "b"), "amqps://a:b@mq");
    }
}
