//! Effects as messages.

use std::time::Duration;

use hapax::consume::{KafkaOptions, KafkaSink, Source};
use hapax::core::policy::FailureClass;
use hapax::core::{Name, Timestamp};
use hapax::outbox::{Delivery, Sink};
use hapax::{Attempted, Failure};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};

use super::{Topic, hold};

fn effect(payload: &[u8]) -> Delivery {
    Delivery {
        name: Name::new("order-paid").unwrap(),
        key: "a".repeat(64),
        content_type: "application/json".into(),
        payload: payload.to_vec().into(),
        now: Timestamp::from_millis(0),
        tries: 1,
    }
}

fn sink(topic: &Topic) -> KafkaSink {
    let sink = KafkaSink::new(&topic.kafka(), &topic.name).unwrap();
    sink.timeout(Duration::from_secs(3)).unwrap()
}

fn failure(attempted: Attempted) -> Failure {
    match attempted {
        Attempted::Failed(failure) => failure,
        attempted => panic!("{attempted:?}"),
    }
}

#[tokio::test]
async fn an_effect_is_a_message_with_its_key() {
    let topic = Topic::new(1);
    let delivered = sink(&topic).deliver(effect(b"{\"order\":7}")).await;
    assert!(matches!(delivered, Attempted::Done(_)), "{delivered:?}");
    let mut source = topic.source(KafkaOptions::default());
    let held = hold(&mut source, 1).await;
    let message = &held[0].message;
    assert_eq!(&message.payload[..], b"{\"order\":7}");
    assert_eq!(message.key.as_deref(), Some("a".repeat(64).as_bytes()));
    assert_eq!(message.text("idempotency-key"), Some(&*"a".repeat(64)));
    assert_eq!(message.text("Content-Type"), Some("application/json"));
    assert!(message.published.is_some());
    source.close().await;
}

#[tokio::test]
async fn nothing_is_sent_to_brokers_that_are_away() {
    let topic = Topic::named("127.0.0.1:1");
    let failure = failure(sink(&topic).deliver(effect(b"{}")).await);
    assert_eq!(failure.class, FailureClass::Unsent, "{failure:?}");
    assert!(failure.last_error.as_str().contains("127.0.0.1:1"), "{failure:?}");
}

#[tokio::test]
async fn an_effect_whose_answer_never_came_may_have_arrived() {
    let cluster = MockCluster::new(1).unwrap();
    let topic = Topic::named(&cluster.bootstrap_servers());
    cluster.create_topic(&topic.name, 1, 1).unwrap();
    let sink = sink(&topic);
    assert!(matches!(sink.deliver(effect(b"1")).await, Attempted::Done(_)));
    cluster.broker_round_trip_time(-1, Duration::from_secs(60)).unwrap();
    let failure = failure(sink.deliver(effect(b"2")).await);
    assert_eq!(failure.class, FailureClass::Ambiguous, "{failure:?}");
}

#[tokio::test]
async fn what_a_broker_refuses_is_judged_by_its_words() {
    let cluster = MockCluster::new(1).unwrap();
    let topic = Topic::named(&cluster.bootstrap_servers());
    cluster.create_topic(&topic.name, 1, 1).unwrap();
    for (answer, class) in [
        (Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, FailureClass::Final),
        (
            Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            FailureClass::Unsent,
        ),
    ] {
        // What failed once ends an idempotent producer's sequence: a producer for each.
        let sink = sink(&topic);
        cluster.request_errors(Api::Produce, &[answer]);
        let failure = failure(sink.deliver(effect(b"{}")).await);
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.last_error.as_str().contains(&topic.name), "{failure:?}");
    }
}
