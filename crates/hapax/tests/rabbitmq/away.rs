//! Brokers that end connections, freeze, or lose patience.

use std::time::Duration;

use hapax::consume::{Source, SourceErrorKind};
use hapax_testbed::RabbitMq as Server;
use tokio::time::timeout;

use crate::place::{LIMIT, Place, one, receive, until};

#[tokio::test]
async fn an_operator_who_ends_all_connections_loses_nothing() {
    let server = Server::start();
    let place = Place::at(&server.url()).await;
    place.declare(&place.queue, &[]).await;
    place.publish(10).await;
    let mut source = place.source(place.options());
    let mut old = Vec::new();
    while old.len() < 10 {
        old.extend(receive(&mut source, 10).await);
    }
    // These are sent again, ahead.
    old.truncate(3);
    until("all are sent", async || place.ready(&place.queue).await == Some(0)).await;
    server.ctl(&["close_all_connections", "because"]);
    until("it has heard of that", async || source.lag().await.is_err()).await;
    // What came ahead by that connection is not given any more.
    let error = timeout(LIMIT, source.receive(1)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    let mut hand = Vec::new();
    while hand.len() < 10 {
        hand.extend(receive(&mut source, 10 - hand.len()).await);
    }
    assert!(hand.iter().all(|delivery| delivery.redelivered));
    for delivery in old {
        let error = delivery.settle.ack().await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    }
    assert_eq!(source.lag().await.unwrap().messages, 10);
    for delivery in hand {
        delivery.settle.ack().await.unwrap();
    }
    assert_eq!(source.lag().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_broker_that_lost_patience_gives_its_messages_again() {
    let server = Server::start();
    server.ctl(&[
        "eval",
        "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 500).",
    ]);
    let place = Place::at(&server.url()).await;
    place.declare(&place.queue, &[]).await;
    place.publish(1).await;
    let mut source = place.source(place.options());
    let slow = one(&mut source).await;
    let error = timeout(LIMIT, source.receive(1)).await.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("consumer_timeout"), "{error}");
    assert!(slow.settle.ack().await.is_err());
    let again = one(&mut source).await;
    assert!(again.redelivered);
    again.settle.ack().await.unwrap();
}

#[tokio::test]
async fn a_frozen_broker_is_said_to_be_away_and_gone_on_with() {
    let mut server = Server::start();
    let place = Place::at(&server.url()).await;
    place.declare(&place.queue, &[]).await;
    place.publish(2).await;
    let mut source = place.source(place.options());
    one(&mut source).await.settle.ack().await.unwrap();
    server.pause();
    let error = timeout(LIMIT, source.lag()).await.expect("an answer").unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    // Whoever comes while it is frozen waits for it no longer than the others.
    let mut other = place.source(place.options());
    for _ in 0..2 {
        let error = timeout(LIMIT / 4, other.receive(1))
            .await
            .expect("an answer")
            .unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    }
    server.resume();
    let delivery = tokio::select! {
        delivery = one(&mut source) => delivery,
        delivery = one(&mut other) => delivery,
    };
    delivery.settle.ack().await.unwrap();
    until("nothing is left", async || {
        source.pause().await;
        matches!(other.lag().await, Ok(lag) if lag.messages == 0)
    })
    .await;
}

#[tokio::test]
async fn a_copy_is_on_disk_before_its_original_is_gone() {
    let mut server = Server::start();
    let place = Place::at(&server.url()).await;
    place.declare(&place.queue, &[]).await;
    place.publish(20).await;
    server.flush();
    let mut source = place.source(place.options());
    let mut hand = Vec::new();
    while hand.len() < 20 {
        hand.extend(receive(&mut source, 20 - hand.len()).await);
    }
    // Its delay queue is new, and a new queue does not survive.
    for delivery in hand {
        delivery.settle.retry_later(Duration::from_secs(1)).await.unwrap();
    }
    server.kill();
    server.restart();
    let place = place.again().await;
    let mut came = std::collections::BTreeSet::new();
    while came.len() < 20 {
        for delivery in receive(&mut source, 20).await {
            came.insert(delivery.message.payload.clone());
            delivery.settle.ack().await.unwrap();
        }
    }
    until("nothing is left", async || place.ready(&place.queue).await == Some(0)).await;
}
