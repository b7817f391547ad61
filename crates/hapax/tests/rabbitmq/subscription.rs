//! How many messages leave the broker, and when they go back.

use std::time::Duration;

use hapax::consume::{RabbitMqOptions, Source, SourceErrorKind};
use tokio::time::timeout;

use crate::place::{LIMIT, Place, one, receive, refusal};

#[tokio::test]
async fn no_more_leaves_the_broker_than_was_asked_for() {
    let place = Place::new().await;
    place.publish(30).await;
    let mut source = place.source(place.options());
    let mut hand = Vec::new();
    // One after the other, none of them settled: each asks for one more.
    for had in 1..=5 {
        hand.push(one(&mut source).await);
        place.becomes_ready(&place.queue, 30 - had).await;
    }
    // More at a time.
    while hand.len() < 15 {
        hand.extend(receive(&mut source, 15 - hand.len()).await);
    }
    place.becomes_ready(&place.queue, 15).await;
    // Fewer at a time: nothing is given back for that, which would change the order.
    for delivery in hand.drain(..) {
        delivery.settle.ack().await.unwrap();
    }
    let mut order = Vec::new();
    while order.len() < 15 {
        let delivery = one(&mut source).await;
        order.push(delivery.message.payload.clone());
        delivery.settle.ack().await.unwrap();
    }
    let all: Vec<bytes::Bytes> = (15..30).map(|number| number.to_string().into()).collect();
    assert_eq!(order, all);
    assert_eq!(source.lag().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_pause_leaves_all_that_is_not_in_hand_to_others() {
    let place = Place::new().await;
    place.publish(30).await;
    let mut source = place.source(place.options());
    let mut hand = Vec::new();
    while hand.len() < 20 {
        hand.extend(receive(&mut source, 20 - hand.len()).await);
    }
    for delivery in hand.drain(..19) {
        delivery.settle.retry_later(Duration::ZERO).await.unwrap();
    }
    // It is sent them again, ahead.
    place.becomes_ready(&place.queue, 10).await;
    source.pause().await;
    place.becomes_ready(&place.queue, 29).await;
    // What is in hand stays in hand, and can be settled.
    hand.pop().unwrap().settle.ack().await.unwrap();
    let mut other = place.source(place.options());
    let mut came = 0;
    while came < 29 {
        for delivery in receive(&mut other, 64).await {
            came += 1;
            delivery.settle.ack().await.unwrap();
        }
    }
    // It goes on when it is asked.
    place.publish(1).await;
    other.close().await;
    one(&mut source).await.settle.ack().await.unwrap();
    assert_eq!(source.lag().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_delivery_that_is_dropped_goes_back() {
    let place = Place::new().await;
    place.publish(1).await;
    let mut source = place.source(place.options());
    drop(one(&mut source).await);
    let again = one(&mut source).await;
    assert!(again.redelivered);
    again.settle.ack().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_deleted_ends_the_subscription_and_is_then_missed() {
    let place = Place::new().await;
    place.publish(2).await;
    let mut source = place.source(place.options());
    let held = one(&mut source).await;
    one(&mut source).await.settle.ack().await.unwrap();
    let (deleted, error) = tokio::join!(place.delete(), timeout(LIMIT, source.receive(1)));
    let () = deleted;
    let error = error.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    // It went with the queue: whether the channel still takes the word does not matter, as long as there is an answer.
    let _ = timeout(LIMIT, held.settle.ack()).await.expect("an answer");
    let error = refusal(&mut source).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("rabbitmqadmin declare queue"), "{error}");
    // Made again, it is consumed again.
    place.declare(&place.queue, &[]).await;
    place.publish(1).await;
    one(&mut source).await.settle.ack().await.unwrap();
}

#[tokio::test]
async fn how_long_messages_come_again_is_what_was_said_and_a_pause() {
    let place = Place::new().await;
    let mut silent = place.source(place.options());
    assert_eq!(silent.redelivers_for().await.unwrap(), None);
    let hour = Duration::from_secs(3_600);
    let mut told = place.source(RabbitMqOptions {
        queue_ttl: Some(hour),
        ..place.options()
    });
    assert_eq!(told.redelivers_for().await.unwrap(), Some(hour * 25));
}
