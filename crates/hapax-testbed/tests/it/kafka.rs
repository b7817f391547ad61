use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hapax_testbed::Kafka;

use crate::brokers::{a_killed_owner_leaves_nothing, a_run_shares_one_server, ask, is_up};

/// "Which topics are there?", as the first version has it that can ask for all of them.
fn metadata() -> Vec<u8> {
    const METADATA: [u8; 4] = [0, 3, 0, 1];
    const NUMBER: [u8; 4] = [0, 0, 0, 7];
    const CLIENT: [u8; 4] = [0, 2, b'i', b't'];
    const ALL: [u8; 4] = [0xff; 4];
    let request = [METADATA, NUMBER, CLIENT, ALL].concat();
    [&16_u32.to_be_bytes(), &request[..]].concat()
}

/// How many partitions a topic has, if it exists.
fn partitions(port: u16, topic: &str) -> Option<u8> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let is_whole = |answer: &[u8]| answer.len() >= 4 && answer.len() >= 4 + number(answer);
    let answer = ask(port, &metadata(), is_whole);
    let name = [&[0, u8::try_from(topic.len()).unwrap()], topic.as_bytes()].concat();
    let at = answer.windows(name.len()).position(|window| window == name)?;
    // Then whether it is an internal one, and then the count.
    Some(answer[at + name.len() + 4])
}

#[test]
fn a_topic_has_the_partitions_asked_for_and_goes_with_a_restart() {
    let mut kafka = Kafka::start();
    let port = kafka.port();
    assert_eq!(kafka.address(), format!("127.0.0.1:{port}"));
    kafka.create_topic("orders", 5);
    kafka.create_topic("payments", 1);
    assert_eq!(partitions(port, "orders"), Some(5));
    assert_eq!(partitions(port, "payments"), Some(1));
    assert_eq!(partitions(port, "refunds"), None);

    kafka.kill();
    assert!(!is_up(port), "a killed server answers");
    kafka.restart();
    assert_eq!(partitions(port, "orders"), None, "it is in memory: say so no more");
    kafka.create_topic("orders", 2);
    assert_eq!(partitions(port, "orders"), Some(2));
    kafka.stop();
    assert!(!is_up(port), "a stopped server answers");
    kafka.stop();
    kafka.restart();
    assert_eq!(kafka.port(), port);
}

#[test]
#[should_panic(expected = "already exists")]
fn a_topic_is_created_once() {
    let kafka = Kafka::start();
    kafka.create_topic("orders", 1);
    kafka.create_topic("orders", 1);
}

#[test]
fn a_paused_server_takes_connections_and_keeps_its_topics_until_resumed() {
    let mut kafka = Kafka::start();
    kafka.create_topic("orders", 3);
    kafka.pause();
    let mut stream = TcpStream::connect(("127.0.0.1", kafka.port())).unwrap();
    stream.write_all(&metadata()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0; 8];
    assert_eq!(stream.read(&mut answer).unwrap_err().kind(), ErrorKind::WouldBlock);

    kafka.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4..], [0, 0, 0, 7]);
    assert_eq!(partitions(kafka.port(), "orders"), Some(3));
}

#[test]
fn a_killed_owner_leaves_no_server_and_no_directory() {
    a_killed_owner_leaves_nothing("kafka");
}

#[test]
fn processes_of_a_run_share_a_server_that_ends_with_it() {
    a_run_shares_one_server("kafka");
    let topic = format!("topic-{}", std::process::id());
    Kafka::shared().create_topic(&topic, 2);
    assert_eq!(partitions(Kafka::shared().port(), &topic), Some(2));
}
