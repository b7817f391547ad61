//! What is kept, for how long, and what is committed of it.

use std::time::Duration;

use hapax::consume::{Kafka, KafkaError, KafkaOptions, KafkaSource, KafkaStart, Source};
use tokio::time::timeout;

use super::{Topic, hold, number};

/// Slow workers, a small buffer: partitions are paused and resumed, and the order holds.
#[tokio::test]
async fn a_small_buffer_gives_all_in_order() {
    const ALL: usize = 400;
    let topic = Topic::new(1);
    topic.publish(0..ALL).await;
    let mut source = topic.source(KafkaOptions {
        buffer: 4,
        window: 50,
        ..KafkaOptions::default()
    });
    let mut came = Vec::new();
    while came.len() < ALL {
        for delivery in hold(&mut source, 1).await {
            came.push(number(&delivery));
            delivery.settle.ack().await.unwrap();
        }
        if came.len().is_multiple_of(100) {
            // Long enough for a pause, during which the thread goes on polling.
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }
    came.sort_unstable();
    assert_eq!(came, (0..ALL).collect::<Vec<_>>());
    source.close().await;
    assert_eq!(topic.committed(), ALL as i64);
}

/// One message that nobody settles holds up its partition, not its neighbour.
#[tokio::test]
async fn the_window_ends_at_the_oldest_message_that_is_open() {
    const WINDOW: usize = 20;
    let topic = Topic::new(1);
    topic.publish(0..100).await;
    let mut source = topic.source(KafkaOptions {
        window: WINDOW as u64,
        ..KafkaOptions::default()
    });
    let mut held = hold(&mut source, 1).await;
    let first = held.remove(0);
    let mut came = 1;
    loop {
        for delivery in held.drain(..) {
            came += 1;
            delivery.settle.ack().await.unwrap();
        }
        match timeout(Duration::from_secs(1), source.receive(64)).await {
            Ok(received) => held = received.unwrap(),
            Err(_) => break,
        }
    }
    assert_eq!((came, topic.committed()), (WINDOW, -1));
    first.settle.ack().await.unwrap();
    while came < 100 {
        for delivery in hold(&mut source, 1).await {
            came += 1;
            delivery.settle.ack().await.unwrap();
        }
    }
    source.close().await;
    assert_eq!(topic.committed(), 100);
}

#[tokio::test]
async fn what_is_dropped_without_a_word_is_given_again() {
    let topic = Topic::new(1);
    topic.publish(0..2).await;
    let mut source = topic.source(KafkaOptions::default());
    drop(hold(&mut source, 2).await);
    let again = hold(&mut source, 2).await;
    assert!(again.iter().all(|delivery| delivery.redelivered));
    // Nor is a dead letter lost whose export is broken off.
    for delivery in again {
        drop(delivery.settle.dead("never polled"));
    }
    for delivery in hold(&mut source, 2).await {
        delivery.settle.dead("without a topic for it").await.unwrap();
    }
    source.close().await;
    assert_eq!(topic.committed(), 2);
}

#[tokio::test]
async fn a_pause_keeps_the_membership_and_gives_nothing_more_until_it_is_over() {
    let topic = Topic::new(1);
    topic.publish(0..1).await;
    let mut source = topic.source(KafkaOptions::default());
    let held = hold(&mut source, 1).await;
    source.pause().await;
    topic.publish(1..50).await;
    // Longer than a member that does not answer keeps its partitions.
    tokio::time::sleep(Duration::from_secs(8)).await;
    for delivery in held {
        delivery.settle.ack().await.expect("the partition is still its own");
    }
    let mut numbers: Vec<_> = hold(&mut source, 49).await.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..50).collect::<Vec<_>>());
    source.close().await;
}

/// What was written while nobody was there is not for those who begin at the end.
#[tokio::test]
async fn a_group_begins_where_it_was_told() {
    let topic = Topic::new(1);
    topic.publish(0..5).await;
    let mut source = topic.source(KafkaOptions {
        start: KafkaStart::Latest,
        ..KafkaOptions::default()
    });
    let nothing = timeout(Duration::from_secs(6), source.receive(1)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    topic.publish(5..6).await;
    let held = hold(&mut source, 1).await;
    assert_eq!(number(&held[0]), 5);
    assert!(!held[0].redelivered, "it was not there when the partition was assigned");
    source.close().await;
}

#[tokio::test]
async fn the_broker_for_tests_bounds_nothing() {
    let topic = Topic::new(1);
    let mut source = topic.source(KafkaOptions::default());
    assert_eq!(source.redelivers_for().await.unwrap(), None);
}

#[test]
fn settings_that_would_lose_messages_are_refused() {
    let kafka = || Kafka::new("127.0.0.1:9092").unwrap();
    for name in [
        "enable.auto.commit",
        "enable.auto.offset.store",
        "isolation.level",
        "acks",
        "enable.idempotence",
    ] {
        let refused = kafka().setting(name, "true").unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
    }
    let made = |kafka: Kafka| KafkaSource::new(&kafka, "points", &["orders"], KafkaOptions::default());
    assert!(made(kafka().setting("client.rack", "a").unwrap()).is_ok());
    let error = made(kafka().setting("no.such.setting", "a").unwrap()).unwrap_err();
    assert!(
        matches!(&error, KafkaError::Client(why) if why.contains("no.such.setting")),
        "{error}"
    );
}

#[test]
fn brokers_are_hosts_with_ports_and_no_secrets() {
    for brokers in ["a:9092", "kafka://a:9092", "a:9092,b:9093", "[::1]:9092"] {
        assert!(Kafka::new(brokers).is_ok(), "{brokers}");
    }
    for brokers in ["", "a", "a:b", ":9092", "a:9092,", "kafka://user:password@a:9092"] {
        let error = Kafka::new(brokers).unwrap_err().to_string();
        assert!(!error.contains("password"), "{error}");
    }
    let kafka = Kafka::new("a:9092").unwrap();
    let kafka = kafka.login(hapax::consume::KafkaMechanism::Plain, "shop", "secret");
    let kafka = kafka.setting("ssl.key.password", "secret").unwrap();
    assert!(!format!("{kafka:?}").contains("secret"));
}
