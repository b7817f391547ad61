//! Effects as messages.

use std::time::Duration;

use futures_util::future::join_all;
use hapax::consume::{RabbitMq, RabbitMqRoute, RabbitMqSink};
use hapax::outbox::{Delivery, Sink};
use hapax::runner::Attempted;
use hapax_core::policy::FailureClass;
use hapax_core::{Name, Timestamp};
use hapax_testbed::{FreePort, RabbitMq as Server};
use lapin::types::AMQPValue;
use tokio::time::timeout;

use crate::place::{LIMIT, Place, text, until};

fn effect(number: usize, payload: impl Into<bytes::Bytes>) -> Delivery {
    Delivery {
        name: Name::new("order-paid").unwrap(),
        key: format!("{number:064x}"),
        content_type: "application/json".into(),
        payload: payload.into(),
        now: Timestamp::from_millis(1_700_000_000_500),
        tries: 1,
    }
}

fn class(attempted: Attempted) -> Option<FailureClass> {
    match attempted {
        Attempted::Failed(failure) => Some(failure.class),
        _ => None,
    }
}

fn said(attempted: &Attempted) -> &str {
    match attempted {
        Attempted::Failed(failure) => failure.last_error.as_str(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_effect_is_a_message_with_its_key() {
    let place = Place::new().await;
    let sink = RabbitMqSink::new(&place.at_broker(), RabbitMqRoute::queue(&place.queue)).unwrap();
    assert_eq!(class(sink.deliver(effect(7, "{}")).await), None);
    let got = place.get(&place.queue).await;
    let (key, properties) = (format!("{:064x}", 7), got.properties);
    assert_eq!(got.data, b"{}");
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), key);
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "order-paid");
    assert_eq!(
        (*properties.timestamp(), *properties.delivery_mode()),
        (Some(1_700_000_000), Some(2))
    );
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers["Idempotency-Key"], text(&key));
}

#[tokio::test]
async fn each_effect_is_told_its_own_fate_whatever_the_others_come_to() {
    let place = Place::new().await;
    let full = format!("{}.full", place.queue);
    let limits = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", text("reject-publish")),
    ];
    place.declare(&full, &limits).await;
    for _ in 0..3 {
        let to = RabbitMqRoute::queue(&full);
        let sink = RabbitMqSink::new(&place.at_broker(), to).unwrap();
        // A quorum queue takes a few more than it may hold.
        until("the queue is full", async || {
            class(sink.deliver(effect(0, "")).await).is_some()
        })
        .await;
    }
    let sinks = [
        (RabbitMqRoute::queue(&place.queue), None, ""),
        (
            RabbitMqRoute::queue("no-such-queue"),
            Some(FailureClass::Unsent),
            "declare it",
        ),
        (
            RabbitMqRoute::exchange("amq.topic", "nobody"),
            Some(FailureClass::Unsent),
            "bind one",
        ),
        (
            RabbitMqRoute::exchange("no-such-exchange", "k"),
            Some(FailureClass::Unsent),
            "declare the exchange",
        ),
        (RabbitMqRoute::queue(&full), Some(FailureClass::Throttled), "full"),
    ];
    let sinks = sinks.map(|(to, class, text)| (RabbitMqSink::new(&place.at_broker(), to).unwrap(), class, text));
    let all = (0..200).map(|number| {
        let (sink, expected, text) = &sinks[number % sinks.len()];
        async move {
            let attempted = sink.deliver(effect(number, "")).await;
            if expected.is_some() {
                assert!(said(&attempted).contains(text), "{attempted:?}");
            }
            assert_eq!(class(attempted), *expected, "{sink:?}");
        }
    });
    timeout(LIMIT, join_all(all)).await.unwrap();
    assert_eq!(place.ready(&place.queue).await, Some(40));
}

#[tokio::test]
async fn where_nobody_listens_or_nobody_is_known_nothing_was_sent() {
    let port = FreePort::take();
    let place = Place::new().await;
    for url in [
        format!("amqp://127.0.0.1:{}", port.number()),
        place.url.replace(":guest@", ":wrong@"),
    ] {
        let at = RabbitMq::new(&url).unwrap();
        let sink = RabbitMqSink::new(&at, RabbitMqRoute::queue(&place.queue)).unwrap();
        let attempted = sink.deliver(effect(1, "")).await;
        assert!(!said(&attempted).contains("wrong"), "{attempted:?}");
        assert_eq!(class(attempted), Some(FailureClass::Unsent));
    }
}

#[tokio::test]
async fn where_nobody_answers_all_are_told_at_the_same_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = RabbitMq::new(&format!("amqp://{}", silent.local_addr().unwrap())).unwrap();
    let sink = RabbitMqSink::new(&at, RabbitMqRoute::queue("q")).unwrap();
    let all = join_all((0..8).map(|number| sink.deliver(effect(number, ""))));
    let ends = timeout(LIMIT / 3, all).await.expect("none waits for the others");
    assert!(ends.into_iter().all(|end| class(end) == Some(FailureClass::Unsent)));
}

#[tokio::test]
async fn a_message_above_the_brokers_limit_is_refused_for_good() {
    let server = Server::start();
    server.ctl(&["eval", "application:set_env(rabbit, max_message_size, 1000)."]);
    let place = Place::at(&server.url()).await;
    place.declare(&place.queue, &[]).await;
    let sink = RabbitMqSink::new(&place.at_broker(), RabbitMqRoute::queue(&place.queue)).unwrap();
    let attempted = sink.deliver(effect(1, vec![0; 2_000])).await;
    assert!(said(&attempted).contains("max_message_size"), "{attempted:?}");
    assert_eq!(class(attempted), Some(FailureClass::Final));
    assert_eq!(class(sink.deliver(effect(2, "")).await), None);
}

#[tokio::test]
async fn an_effect_whose_confirmation_did_not_come_may_be_there() {
    let mut server = Server::start();
    let place = Place::at(&server.url()).await;
    place.declare(&place.queue, &[]).await;
    let sink = RabbitMqSink::new(&place.at_broker(), RabbitMqRoute::queue(&place.queue)).unwrap();
    assert_eq!(class(sink.deliver(effect(1, "")).await), None);
    server.flush();
    server.pause();
    let sending = tokio::spawn(sink.deliver(effect(2, "")));
    // It is in the socket, which nobody reads.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.kill();
    assert_eq!(class(sending.await.unwrap()), Some(FailureClass::Ambiguous));
    server.restart();
    until("it is sent after a restart", async || {
        class(sink.deliver(effect(2, "")).await).is_none()
    })
    .await;
    let place = place.again().await;
    until("both are there", async || place.ready(&place.queue).await >= Some(2)).await;
}

#[tokio::test]
async fn a_broker_short_of_memory_throttles() {
    let server = Server::start();
    let place = Place::at(&server.url()).await;
    place.declare(&place.queue, &[]).await;
    place.publish(1).await;
    let sink = RabbitMqSink::new(&place.at_broker(), RabbitMqRoute::queue(&place.queue)).unwrap();
    assert_eq!(class(sink.deliver(effect(1, "")).await), None);
    server.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    until("it is throttled", async || {
        class(sink.deliver(effect(2, "")).await) == Some(FailureClass::Throttled)
    })
    .await;
    // Who only consumes goes on.
    let mut source = place.source(place.options());
    crate::place::one(&mut source).await.settle.ack().await.unwrap();
    server.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    until("it goes on", async || {
        class(sink.deliver(effect(2, "")).await).is_none()
    })
    .await;
}
