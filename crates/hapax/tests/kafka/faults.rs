//! Brokers that go, answer with errors, and refuse: a mock of a cluster, within this process.

use std::time::Duration;

use hapax::consume::{KafkaOptions, KafkaSource, Source, SourceError, SourceErrorKind};
use hapax_testbed::Kafka as Server;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};
use tokio::time::{Instant, timeout, timeout_at};

use super::{LIMIT, Topic, hold, number};

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A cluster of so many brokers, with a topic of one partition.
fn cluster(brokers: i32) -> (Mock, Topic) {
    let cluster = Mock::new(brokers).unwrap();
    let topic = Topic::named(&cluster.bootstrap_servers());
    cluster.create_topic(&topic.name, 1, brokers).unwrap();
    (cluster, topic)
}

/// The next failure, whatever messages come before it.
async fn failure(source: &mut KafkaSource) -> SourceError {
    let until = Instant::now() + LIMIT;
    loop {
        if let Err(error) = timeout_at(until, source.receive(64)).await.expect("a failure") {
            return error;
        }
    }
}

#[tokio::test]
async fn brokers_that_go_are_said_to_be_away_and_what_was_in_hand_stays() {
    let (cluster, topic) = cluster(2);
    topic.publish(0..10).await;
    let mut source = topic.source(KafkaOptions::default());
    let held = hold(&mut source, 10).await;
    cluster.broker_down(-1).unwrap();
    for _ in 0..3 {
        let error = failure(&mut source).await;
        assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains(&topic.name), "{error}");
    }
    // It is the same membership: no rebalance happened.
    for delivery in held {
        delivery.settle.ack().await.unwrap();
    }
    cluster.broker_up(-1).unwrap();
    topic.publish(10..20).await;
    let held = hold(&mut source, 10).await;
    let numbers: Vec<_> = held.iter().map(number).collect();
    assert_eq!(numbers, (10..20).collect::<Vec<_>>());
    let idle = timeout(Duration::from_millis(1500), source.receive(1)).await;
    assert!(idle.is_err(), "it is reached again, and has nothing: {idle:?}");
    source.close().await;
}

#[tokio::test]
async fn a_commit_that_fails_is_made_again() {
    let (cluster, topic) = cluster(1);
    topic.publish(0..10).await;
    let mut source = topic.source(KafkaOptions::default());
    let held = hold(&mut source, 10).await;
    let answers = [Answer::RD_KAFKA_RESP_ERR_UNKNOWN; 3];
    cluster.request_errors(Api::OffsetCommit, &answers);
    for delivery in held {
        delivery.settle.ack().await.unwrap();
    }
    // Each failure takes one of them.
    committed(&topic, 10).await;
    source.close().await;
}

#[tokio::test]
async fn what_is_done_is_committed_by_a_coordinator_that_has_moved() {
    let (cluster, topic) = cluster(2);
    let group = || MockCoordinator::Group(topic.group());
    cluster.coordinator(group(), 1).unwrap();
    topic.publish(0..10).await;
    let mut source = topic.source(KafkaOptions::default());
    for delivery in hold(&mut source, 5).await.into_iter().take(5) {
        delivery.settle.ack().await.unwrap();
    }
    cluster.coordinator(group(), 2).unwrap();
    let until = Instant::now() + LIMIT;
    let mut committed = 0;
    while committed < 10 && Instant::now() < until {
        let Ok(received) = timeout(Duration::from_millis(200), source.receive(64)).await else {
            committed = committed_now(&topic).await;
            continue;
        };
        for delivery in received.into_iter().flatten() {
            // Of a membership that the new one does not know, it is refused, and comes again.
            let _: Result<(), SourceError> = delivery.settle.ack().await;
        }
    }
    assert_eq!(committed, 10);
    source.close().await;
}

#[tokio::test]
async fn a_group_that_is_not_allowed_is_refused_until_it_is() {
    let (cluster, topic) = cluster(1);
    topic.publish(0..1).await;
    let refusals = [Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 2];
    cluster.request_errors(Api::JoinGroup, &refusals);
    let mut source = topic.source(KafkaOptions::default());
    let error = failure(&mut source).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("kafka-acls.sh"), "{error}");
    let held = hold(&mut source, 1).await;
    assert_eq!(number(&held[0]), 0);
    source.close().await;
}

#[tokio::test]
async fn a_topic_that_is_made_later_is_read() {
    let topic = Topic::named(&Server::shared().address());
    let mut source = topic.source(KafkaOptions::default());
    let error = failure(&mut source).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}");
    let told = error.to_string();
    assert!(told.contains(&topic.name) && told.contains("kafka-topics.sh"), "{told}");
    Server::shared().create_topic(&topic.name, 1);
    topic.publish(0..1).await;
    let held = hold(&mut source, 1).await;
    assert_eq!(number(&held[0]), 0);
    source.close().await;
}

/// What it was given is gone with the broker; the group, the topic and its offsets begin anew.
#[tokio::test]
async fn a_broker_that_is_away_at_first_is_asked_again() {
    let server = "127.0.0.1:1";
    let topic = Topic::named(server);
    let mut source = topic.source(KafkaOptions::default());
    for error in [
        source.redelivers_for().await.map(|_| ()).unwrap_err(),
        source.lag().await.map(|_| ()).unwrap_err(),
        source.receive(1).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains(server), "{error}");
    }
    source.close().await;
}

/// What the group has committed, by a member's eyes: the rest is its lag.
async fn committed_now(topic: &Topic) -> i64 {
    let topic = topic.clone();
    let asked = tokio::task::spawn_blocking(move || topic.committed());
    asked.await.unwrap()
}

async fn committed(topic: &Topic, offset: i64) {
    let until = Instant::now() + LIMIT;
    while committed_now(topic).await != offset {
        assert!(Instant::now() < until, "{} is committed", committed_now(topic).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
