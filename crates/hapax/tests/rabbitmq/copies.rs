//! Messages that wait in a delay queue, or go to the dead letters.

use std::time::Duration;

use hapax::consume::{RabbitMqOptions, RabbitMqRoute, Source, SourceErrorKind};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{ExchangeKind, options::QueueDeleteOptions};
use tokio::time::Instant;

use crate::place::{LIMIT, Place, SECOND, one, receive, text};

/// A message with everything that a copy can get wrong, published to an exchange.
async fn published(place: &Place) -> String {
    let (exchange, other) = (format!("{}.x", place.queue), format!("{}.other", place.queue));
    let declared = place.channel.exchange_declare(
        exchange.as_str().into(),
        ExchangeKind::Direct,
        ExchangeDeclareOptions::default(),
        FieldTable::default(),
    );
    declared.await.unwrap();
    place.declare(&other, &[]).await;
    for (queue, key) in [(&place.queue, "orders.paid"), (&other, other.as_str())] {
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        let bound = place.channel.queue_bind(
            queue,
            exchange,
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
    }
    let mut headers = FieldTable::default();
    headers.insert("Id".into(), text("7"));
    headers.insert("CC".into(), AMQPValue::FieldArray(FieldArray::from(vec![text(&other)])));
    // The broker takes what died in a queue, and goes back to it by itself, for a loop, and drops it.
    let mut death = FieldTable::default();
    death.insert("queue".into(), text(&place.queue));
    death.insert("reason".into(), text("expired"));
    death.insert("exchange".into(), text(""));
    death.insert("count".into(), AMQPValue::LongLongInt(1));
    death.insert(
        "routing-keys".into(),
        AMQPValue::FieldArray(vec![text(&place.queue)].into()),
    );
    let deaths = vec![AMQPValue::FieldTable(death)];
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_message_id("m-7".into())
        .with_user_id("guest".into())
        .with_expiration("600000".into())
        .with_timestamp(1_700_000_000)
        .with_delivery_mode(2);
    place.publish_to(&exchange, "orders.paid", b"{}", properties).await;
    other
}

#[tokio::test]
async fn a_message_that_waits_stays_the_message_that_it_was() {
    let place = Place::new().await;
    let other = published(&place).await;
    let mut source = place.source(place.options());
    let mut first = one(&mut source).await;
    // It was in a queue before, and nobody knows what for.
    assert!(first.redelivered);
    assert_eq!(&*first.message.subject, "orders.paid");
    let message = first.message.clone();
    let delay = format!("{}.hapax.retry.1000", place.queue);
    let (mut through, end) = (0, Instant::now() + LIMIT);
    // While the delay queue is new, it is held here; and the broker must not take its later ways through the delay queue
    // for a loop.
    while through < 3 {
        assert!(Instant::now() < end, "{through} of 3 went through the delay queue");
        let told = Instant::now();
        first.settle.retry_later(SECOND).await.unwrap();
        if place.ready(&delay).await == Some(1) {
            through += 1;
            assert_eq!(source.lag().await.unwrap().messages, 0, "the original is still there");
        } else {
            assert_eq!(source.lag().await.unwrap().messages, 1, "it is nowhere");
        }
        first = one(&mut source).await;
        assert!(
            told.elapsed() >= SECOND - Duration::from_millis(50),
            "{:?}",
            told.elapsed()
        );
        assert!(first.redelivered);
        assert_eq!(first.message, message);
    }
    first.settle.ack().await.unwrap();
    source.close().await;
    assert_eq!(place.ready(&place.queue).await, Some(0));
    assert_eq!(
        place.ready(&other).await,
        Some(1),
        "a copy of a copy went to where CC said"
    );
}

#[tokio::test]
async fn pauses_of_different_lengths_do_not_hold_each_other_up() {
    let place = Place::new().await;
    place.publish(2).await;
    let mut source = place.source(place.options());
    let mut hand = receive(&mut source, 2).await;
    while hand.len() < 2 {
        hand.extend(receive(&mut source, 1).await);
    }
    let short = hand.pop().unwrap();
    let payload = short.message.payload.clone();
    hand.pop()
        .unwrap()
        .settle
        .retry_later(Duration::from_secs(3_000))
        .await
        .unwrap();
    short.settle.retry_later(SECOND).await.unwrap();
    assert_eq!(one(&mut source).await.message.payload, payload);
}

#[tokio::test]
async fn a_dead_letter_keeps_the_message_and_says_why() {
    let place = Place::new().await;
    published(&place).await;
    let dead = format!("{}.dead", place.queue);
    place.declare(&dead, &[]).await;
    let mut source = place.source(RabbitMqOptions {
        dead_letters: Some(RabbitMqRoute::queue(&dead)),
        ..place.options()
    });
    one(&mut source)
        .await
        .settle
        .dead("refused: no such order")
        .await
        .unwrap();
    source.close().await;
    assert_eq!(place.ready(&place.queue).await, Some(0));
    let letter = place.get(&dead).await;
    assert_eq!(letter.data, b"{}");
    assert_eq!(
        letter.properties.message_id().as_ref().map(|id| id.as_str()),
        Some("m-7")
    );
    assert_eq!(*letter.properties.delivery_mode(), Some(2));
    let headers = letter.properties.headers().as_ref().unwrap().inner();
    for (name, value) in [
        ("Hapax-Dead-Reason", "refused: no such order"),
        ("Hapax-Dead-Exchange", &format!("{}.x", place.queue)),
        ("Hapax-Dead-Routing-Key", "orders.paid"),
        ("Id", "7"),
    ] {
        assert_eq!(headers.get(name), Some(&text(value)), "{name}");
    }
}

#[tokio::test]
async fn a_dead_letter_without_a_place_is_kept_and_the_error_says_which() {
    let place = Place::new().await;
    place.publish(2).await;
    for (route, said) in [
        (RabbitMqRoute::queue("no-such-queue"), "no-such-queue"),
        (RabbitMqRoute::exchange("no-such-exchange", "k"), "declare exchange"),
    ] {
        let mut source = place.source(RabbitMqOptions {
            dead_letters: Some(route),
            ..place.options()
        });
        let error = one(&mut source).await.settle.dead("why").await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Refused);
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(source.lag().await.unwrap().messages, 2);
        source.close().await;
        place.becomes_ready(&place.queue, 2).await;
    }
}

#[tokio::test]
async fn a_queue_is_made_with_its_dead_letters_and_works_as_it_says() {
    let place = Place::at(&hapax_testbed::RabbitMq::shared().url()).await;
    let dead = format!("{}.dead", place.queue);
    let options = RabbitMqOptions {
        declare: true,
        dead_letters: Some(RabbitMqRoute::queue(&dead)),
        ..place.options()
    };
    let mut source = place.source(options.clone());
    assert_eq!(source.lag().await.unwrap().messages, 0);
    // Made once, it is there for the next.
    assert_eq!(place.source(options).lag().await.unwrap().messages, 0);
    place.publish(1).await;
    one(&mut source).await.settle.dead("why").await.unwrap();
    place.becomes_ready(&dead, 1).await;
    // Made otherwise, it is refused.
    let other = RabbitMqOptions {
        declare: true,
        ..place.options()
    };
    let error = place.source(other).lag().await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert!(error.to_string().contains("made otherwise"), "{error}");
}

#[tokio::test]
async fn a_delay_queue_that_somebody_deleted_is_made_again() {
    let place = Place::new().await;
    place.publish(1).await;
    let mut source = place.source(place.options());
    let delay = format!("{}.hapax.retry.1000", place.queue);
    let (mut deleted, mut made_again, end) = (false, false, Instant::now() + LIMIT * 2);
    while !made_again {
        assert!(Instant::now() < end, "deleted: {deleted}");
        let settled = one(&mut source).await.settle.retry_later(SECOND).await;
        match (deleted, settled, place.ready(&delay).await) {
            // The first that finds it gone says so, and the message is not lost.
            (true, Err(error), None) => assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}"),
            (true, Ok(()), Some(_)) => made_again = true,
            (false, Ok(()), Some(1)) => {
                // It is in there: let it come out first.
                one(&mut source).await.settle.retry_later(Duration::ZERO).await.unwrap();
                let gone = place
                    .channel
                    .queue_delete(delay.as_str().into(), QueueDeleteOptions::default());
                gone.await.unwrap();
                deleted = true;
            }
            (false, Ok(()), Some(0)) => {}
            (deleted, settled, ready) => panic!("{deleted} {settled:?} {ready:?}"),
        }
    }
    one(&mut source).await.settle.ack().await.unwrap();
}

#[tokio::test]
async fn a_message_whose_channel_is_gone_is_not_copied_too() {
    let place = Place::new().await;
    let dead = format!("{}.dead", place.queue);
    place.declare(&dead, &[]).await;
    place.publish(2).await;
    let mut source = place.source(RabbitMqOptions {
        dead_letters: Some(RabbitMqRoute::queue(&dead)),
        ..place.options()
    });
    let mut hand = receive(&mut source, 2).await;
    while hand.len() < 2 {
        hand.extend(receive(&mut source, 1).await);
    }
    source.close().await;
    place.becomes_ready(&place.queue, 2).await;
    hand.pop().unwrap().settle.dead("why").await.unwrap_err();
    hand.pop().unwrap().settle.retry_later(SECOND).await.unwrap_err();
    assert_eq!(place.ready(&dead).await, Some(0));
    let delay = format!("{}.hapax.retry.1000", place.queue);
    assert_eq!(place.ready(&delay).await, None);
}
