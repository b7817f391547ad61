use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::config::Config;
use crate::config::check::check;
use crate::config::source::Source;

fn checked(text: &str) -> Result<Config, String> {
    let source = Source::of(text);
    let config = source.parse().map_err(|error| error.to_string())?;
    match check(&config) {
        Ok(()) => Ok(config),
        Err(mistakes) => Err(source.explain(&mistakes, &[]).to_string()),
    }
}

fn consume(from: &str, more: &str) -> Result<Config, String> {
    checked(&format!(
        "[[consume]]\nname = \"points\"\nfrom = \"{from}\"\nidentity = \"position\"\nto = \"http://127.0.0.1:1/p\"\n{more}"
    ))
}

#[track_caller]
fn refused(result: Result<Config, String>, parts: &[&str]) {
    let error = result.unwrap_err();
    for part in parts {
        assert!(error.contains(part), "no {part:?}: {error}");
    }
    assert!(!error.contains("s3cret"), "{error}");
}

fn secret(directory: &Path, text: &str) -> String {
    let file = directory.join("broker.secret");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    format!("secret_file = \"{}\"\n", file.display())
}

#[test]
fn a_login_goes_into_the_url_whatever_it_is() {
    let url = with_login("amqp://guest:guest@mq:5672/%2f", "shop", "p@ss:/ü");
    assert_eq!(url, "amqp://shop:p%40ss%3A%2F%C3%BC@mq:5672/%2f");
    assert_eq!(with_login("amqps://mq", "a", "b"), "amqps://a:b@mq");
    let both = with_login("amqp://mq1/v,amqp://x:y@mq2/v", "a", "b");
    assert_eq!(both, "amqp://a:b@mq1/v,amqp://a:b@mq2/v");
}

#[test]
fn each_scheme_is_a_broker() {
    for (url, kind) in [
        ("nats://h", BrokerKind::Nats),
        ("tls://h", BrokerKind::Nats),
        ("amqp://h", BrokerKind::RabbitMq),
        ("amqps://h", BrokerKind::RabbitMq),
        ("kafka://h:9092", BrokerKind::Kafka),
        ("kafkas://h:9093", BrokerKind::Kafka),
        ("redis://h", BrokerKind::Redis),
        ("rediss://h/2", BrokerKind::Redis),
    ] {
        let broker: BrokerUrl = url.parse().unwrap();
        assert_eq!((broker.kind, &*broker.to_string()), (kind, url));
    }
    let error = "valkey://shop:s3cret@h".parse::<BrokerUrl>().unwrap_err();
    assert!(error.contains("redis://HOST") && !error.contains("s3cret"), "{error}");
}

#[test]
fn a_consumer_of_redis_names_a_stream() {
    for from in ["redis://h", "rediss://shop:s3cret@h:7000/3"] {
        let config = consume(from, "stream = \"orders\"\ngroup = \"g\"\ndead_letters = \"dead\"\n").unwrap();
        assert_eq!(config.consumers[0].place(), Some("orders"));
    }
    refused(consume("redis://h", ""), &["where at Redis", "stream = \"orders\""]);
    for (key, given) in [
        ("queue", "queue = \"q\"\n"),
        ("subject", "subject = \"s\"\n"),
        ("topic", "topic = \"t\"\n"),
    ] {
        let more = format!("stream = \"orders\"\n{given}");
        refused(
            consume("redis://h", &more),
            &["hapax.toml:7:", &format!("Redis has no {key}")],
        );
    }
    let by_key = consume("redis://h", "stream = \"orders\"\norder_by = \"key\"\n");
    refused(by_key, &["Redis's messages have no key"]);
}

#[test]
fn what_cannot_be_connected_to_is_said_where_it_stands() {
    let stream = "stream = \"orders\"\n";
    refused(
        consume("redis://shop:s3cret@:x", stream),
        &["hapax.toml:3:", "is no Redis", "write redis://"],
    );
    refused(
        consume("kafka://h", "topic = \"t\"\n"),
        &["hapax.toml:3:", "a port is missing", "write HOST:PORT"],
    );
    let more = format!("{stream}ca = \"/no/such.pem\"\n");
    refused(
        consume("rediss://h", &more),
        &["hapax.toml:7:", "cannot read /no/such.pem", "PEM"],
    );
    refused(
        consume("redis://h", &more),
        &["hapax.toml:7:", "redis:// is without TLS", "write rediss://"],
    );

    let directory = tempfile::tempdir().unwrap();
    let more = format!("{stream}{}", secret(directory.path(), "s3cret\n"));
    refused(
        consume("redis://h", &more),
        &["hapax.toml:7:", "no USER:PASSWORD", "echo shop:SECRET"],
    );
    let more = format!("{stream}{}", secret(directory.path(), "shop:s3cret\n"));
    consume("redis://h", &more).unwrap();
}

fn outbox(to: &str, more: &str) -> Result<Config, String> {
    checked(&format!("[[outbox]]\nname = \"paid\"\nto = \"{to}\"\n{more}"))
}

#[test]
fn effects_go_to_each_broker() {
    for (to, more) in [
        ("nats://a:4222,nats://b:4222", "subject = \"orders.paid\"\n"),
        ("tls://h", "subject = \"orders.paid\"\n"),
        ("amqp://h/vhost", "queue = \"orders\"\n"),
        ("amqps://h", "exchange = \"orders\"\nrouting_key = \"orders.paid\"\n"),
        ("amqp://h", "exchange = \"fanned-out\"\n"),
        ("kafka://a:9092,b:9092", "topic = \"orders\"\n"),
        ("redis://h", "stream = \"orders\"\nordered = true\n"),
        ("rediss://shop:s3cret@h/1", "stream = \"orders\"\n"),
    ] {
        let config = outbox(to, more).unwrap();
        let shown = config.to_toml().unwrap();
        assert!(!shown.contains("s3cret"), "{shown}");
        if !to.contains("s3cret") {
            assert_eq!(Source::of(&shown).parse().unwrap(), config);
        }
    }
}

#[test]
fn an_effect_goes_to_a_place_that_its_receiver_has() {
    let (nats, rabbitmq) = ("nats://h", "amqp://h");
    for (to, more, parts) in [
        (
            nats,
            "",
            &["hapax.toml:1:", "where at NATS the effects go", "write subject ="][..],
        ),
        (nats, "subject = \"\"\n", &["where at NATS"]),
        (
            nats,
            "subject = \"a.b\"\nstream = \"A\"\n",
            &["hapax.toml:5:", "NATS has no stream here", "write subject"],
        ),
        (nats, "subject = \"orders.*\"\n", &["hapax.toml:4:", "is no subject"]),
        (
            rabbitmq,
            "",
            &["where at RabbitMQ", "queue = \"orders\", or exchange ="],
        ),
        (rabbitmq, "topic = \"t\"\n", &["RabbitMQ has no topic here"]),
        (
            rabbitmq,
            "queue = \"q\"\nexchange = \"e\"\n",
            &["hapax.toml:4:", "not to both"],
        ),
        (
            rabbitmq,
            "queue = \"q\"\nrouting_key = \"k\"\n",
            &["hapax.toml:5:", "no exchange that the routing key is for"],
        ),
        ("kafka://h:9092", "", &["where at Kafka", "topic = "]),
        ("kafka://h", "topic = \"t\"\n", &["hapax.toml:3:", "a port is missing"]),
        (
            "redis://h",
            "queue = \"q\"\n",
            &["Redis has no queue here", "stream = "],
        ),
        (
            "redis://h",
            "stream = \"s\"\nfrom = \"a@b.c\"\n",
            &["hapax.toml:5:", "Redis has no sender", "smtp://HOST"],
        ),
        (
            "redis://h",
            "stream = \"s\"\nca = \"/no/such.pem\"\n",
            &["hapax.toml:5:", "write rediss://"],
        ),
        (
            "https://h/",
            "topic = \"t\"\n",
            &["hapax.toml:4:", "a webhook has no topic", "nats://HOST"],
        ),
        (
            "smtp://h",
            "from = \"a@b.c\"\nqueue = \"q\"\n",
            &["hapax.toml:5:", "an email has no queue"],
        ),
        ("https://h/", "from = \"a@b.c\"\n", &["a webhook has no sender"]),
        (
            "mqtt://shop:s3cret@h",
            "",
            &["hapax.toml:3:", "no receiver of effects", "kafka://HOST"],
        ),
    ] {
        refused(outbox(to, more), parts);
    }
    let directory = tempfile::tempdir().unwrap();
    let more = format!("subject = \"a.b\"\n{}", secret(directory.path(), "s3cret\n"));
    refused(outbox(nats, &more), &["hapax.toml:5:", "no USER:PASSWORD"]);
}
