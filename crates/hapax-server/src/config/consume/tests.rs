use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::config::check::check;
use crate::config::source::Source;

/// What is said of a file, which has a mistake.
#[track_caller]
fn said(text: &str) -> String {
    let source = Source::of(text);
    let config = match source.parse() {
        Ok(config) => config,
        Err(error) => return error.to_string(),
    };
    let mistakes = check(&config).expect_err(text);
    source.explain(&mistakes, &[]).to_string()
}

/// A consumer with these lines from the fifth on.
fn consumer(from: &str, lines: &str) -> String {
    let identity = match from {
        "kafka" | "nats" => "header:Id",
        _ => "header:message-id",
    };
    let port = if from == "kafka" { ":9092" } else { "" };
    format!(
        "[[consume]]\nname = \"points\"\nfrom = \"{from}://h{port}\"\nto = \"http://127.0.0.1:1/p\"\n{lines}\n\
         identity = \"{identity}\"\n"
    )
}

const STREAM: &str = "stream = \"S\"\n";

#[test]
fn a_mistake_is_said_where_it_stands_with_what_to_write() {
    for (from, lines, says) in [
        (
            "nats",
            "",
            "1:1 it is not said where at NATS the messages are|stream = \"ORDERS\"",
        ),
        ("nats", "stream = \"\"", "1:1 where at NATS|stream = \"ORDERS\""),
        ("amqp", "", "1:1 where at RabbitMQ|queue = \"orders\""),
        ("kafka", "", "1:1 where at Kafka|topic = \"orders\""),
        (
            "nats",
            "stream = \"S\"\nqueue = \"q\"",
            "6:9 NATS has no queue|leave it out, and write stream",
        ),
        (
            "nats",
            "stream = \"S\"\ntopic = \"t\"",
            "6:9 NATS has no topic|leave it out",
        ),
        (
            "amqp",
            "queue = \"q\"\nstream = \"S\"",
            "6:10 RabbitMQ has no stream|write queue",
        ),
        (
            "amqp",
            "queue = \"q\"\nsubject = \"s\"",
            "6:11 RabbitMQ has no subject|write queue",
        ),
        (
            "kafka",
            "topic = \"t\"\nqueue = \"q\"",
            "6:9 Kafka has no queue|write topic",
        ),
        (
            "amqp",
            "queue = \"q\"\ngroup = \"g\"",
            "6:9 no consumer groups|leave group out",
        ),
        (
            "nats",
            "stream = \"S\"\norder_by = \"key\"",
            "6:12 NATS's messages have no key|\"subject\"",
        ),
        (
            "amqp",
            "queue = \"q\"\norder_by = \"key\"",
            "6:12 RabbitMQ's messages have no key|json:/pointer",
        ),
        (
            "nats",
            "stream = \"S\"\norder_by = \"position\"",
            "6:12 keeps no order|header:NAME",
        ),
        (
            "nats",
            "stream = \"S\"\nprefetch = 15",
            "6:12 prefetch (15) is less than concurrency (16)|raise it",
        ),
        (
            "nats",
            "stream = \"S\"\nconcurrency = 0",
            "6:15 concurrency is 0|from 1 to 10000",
        ),
        (
            "nats",
            "stream = \"S\"\nprefetch = 10001",
            "6:12 prefetch is 10001|from 1 to 10000",
        ),
        (
            "nats",
            "stream = \"S\"\nlease = \"16m\"",
            "6:9 lease (16m) is longer than max_run (15m)|raise max_run",
        ),
        (
            "nats",
            "stream = \"S\"\nmax_run = \"10s\"",
            "6:11 lease (30s) is longer than max_run (10s)|lower lease",
        ),
        (
            "nats",
            "stream = \"S\"\nremember_for = \"0s\"",
            "6:16 remember_for is zero|remember_for = ",
        ),
        (
            "nats",
            "stream = \"S\"\nreceipts = \"required\"",
            "6:12 no database of theirs is named|[receipts]",
        ),
        (
            "nats",
            "streem = \"S\"",
            "5:1 unknown key `streem`|did you mean `stream`?",
        ),
        ("http", "", "3:8 is no broker|nats://HOST"),
    ] {
        let said = said(&consumer(from, lines));
        for part in says.split('|') {
            let (place, text) = match part.split_once(' ') {
                Some((place, text)) if place.contains(':') && place.as_bytes()[0].is_ascii_digit() => {
                    (format!("hapax.toml:{place}"), text)
                }
                _ => (String::new(), part),
            };
            assert!(
                said.contains(&place) && said.contains(text),
                "{lines:?}: no {part:?}:\n{said}"
            );
        }
    }
}

#[test]
fn rabbitmq_has_no_positions() {
    let text = consumer("amqp", "queue = \"q\"").replace("header:message-id", "position");
    let said = said(&text);
    for part in ["hapax.toml:6:12", "have no position", "header:message-id"] {
        assert!(said.contains(part), "no {part:?}: {said}");
    }
}

#[test]
fn a_name_is_one_consumers_own() {
    let one = consumer("nats", STREAM);
    let route = "[[route]]\nname = \"points\"\npath = \"/p\"\n";
    let outbox = "[[outbox]]\nname = \"points\"\nto = \"http://127.0.0.1:1\"\ndatabase = \"sqlite:/tmp/none.db\"\n";
    for (text, says) in [
        (format!("{one}{one}"), "two consumers with the name \"points\""),
        (
            format!("{one}{route}"),
            "\"points\" is the name of a route's operations, too",
        ),
        (format!("{one}{outbox}"), "\"points\" is the name of an outbox, too"),
        (
            one.replace("\"points\"", "\"default\""),
            "\"default\" is the name of a route's operations, too",
        ),
    ] {
        let said = said(&text);
        assert!(
            said.contains(says) && said.contains("hapax.toml:"),
            "no {says:?}: {said}"
        );
    }
}

#[test]
fn receipts_and_guesses_exclude_each_other() {
    let receipts = "[receipts]\ndatabase = \"postgres://u@h/d\"\n";
    let one = consumer("nats", "stream = \"S\"\nafter_failure = \"retry\"");
    let said = said(&format!("{one}{receipts}"));
    for part in [
        "hapax.toml:6:17",
        "nothing is run again by guess",
        "receipts = \"never\"",
    ] {
        assert!(said.contains(part), "no {part:?}: {said}");
    }
}

#[test]
fn a_secret_is_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broker.secret");
    let text = consumer("nats", &format!("{STREAM}secret_file = \"{}\"", file.display()));
    let is = |parts: &[&str]| {
        let said = said(&text);
        for part in parts {
            assert!(said.contains(part), "no {part:?}: {said}");
        }
        assert!(said.contains("hapax.toml:6:15") && !said.contains("s3cret"), "{said}");
    };
    is(&["umask 077"]);
    fs::write(&file, "s3cret").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    is(&["chmod"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    is(&["no USER:PASSWORD", "umask 077"]);
}
