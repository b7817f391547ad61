//! A queue of a test's own at a real broker, and what its operators and other programs do there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hapax::consume::{Delivery, RabbitMq, RabbitMqOptions, RabbitMqSource, Source, SourceError};
use hapax_testbed::RabbitMq as Server;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything takes that happens at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) queue: String,
    connection: Connection,
    pub(crate) channel: Channel,
}

impl Place {
    /// A quorum queue at the shared server.
    pub(crate) async fn new() -> Self {
        let place = Self::at(&Server::shared().url()).await;
        place.declare(&place.queue, &[]).await;
        place
    }

    /// The name of a queue at a server.
    pub(crate) async fn at(url: &str) -> Self {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self {
            url: url.to_owned(),
            queue: format!("q-{}-{number}", std::process::id()),
            connection,
            channel,
        }
    }

    /// The same queue, by a connection of its own.
    pub(crate) async fn again(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            ..Self::at(&self.url).await
        }
    }

    pub(crate) async fn declare(&self, queue: &str, more: &[(&str, AMQPValue)]) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        for (name, value) in more {
            arguments.insert((*name).into(), value.clone());
        }
        let declared = self
            .channel
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments);
        declared.await.unwrap();
    }

    pub(crate) async fn delete(&self) {
        let deleted = self
            .channel
            .queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default());
        deleted.await.unwrap();
    }

    pub(crate) fn at_broker(&self) -> RabbitMq {
        RabbitMq::new(&self.url).unwrap()
    }

    pub(crate) fn options(&self) -> RabbitMqOptions {
        RabbitMqOptions::new(&self.queue)
    }

    pub(crate) fn source(&self, options: RabbitMqOptions) -> RabbitMqSource {
        RabbitMqSource::new(&self.at_broker(), options).unwrap()
    }

    /// Publishes to an exchange, and returns when it is stored.
    pub(crate) async fn publish_to(&self, exchange: &str, key: &str, payload: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let sent = self
            .channel
            .basic_publish(exchange.into(), key.into(), options, payload, properties);
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }

    pub(crate) async fn publish(&self, messages: usize) {
        for number in 0..messages {
            let payload = number.to_string();
            let properties = BasicProperties::default().with_delivery_mode(2);
            self.publish_to("", &self.queue, payload.as_bytes(), properties).await;
        }
    }

    /// Messages in a queue that nobody has in hand; `None` if it is not there.
    pub(crate) async fn ready(&self, queue: &str) -> Option<u32> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.connection.create_channel().await.unwrap();
        let looked = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await;
        looked.ok().map(|queue| queue.message_count())
    }

    /// Until that many are ready in the queue.
    pub(crate) async fn becomes_ready(&self, queue: &str, messages: u32) {
        until(&format!("{messages} ready in {queue}"), async || {
            self.ready(queue).await == Some(messages)
        })
        .await;
    }

    pub(crate) async fn get(&self, queue: &str) -> lapin::message::Delivery {
        let got = self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true });
        got.await.unwrap().expect("a message is there").delivery
    }
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Polls until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What comes, past failures.
pub(crate) async fn receive(source: &mut RabbitMqSource, most: usize) -> Vec<Delivery> {
    let end = Instant::now() + LIMIT;
    loop {
        match timeout(LIMIT, source.receive(most)).await.expect("a message is due") {
            Ok(deliveries) => return deliveries,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn one(source: &mut RabbitMqSource) -> Delivery {
    receive(source, 1).await.pop().unwrap()
}

/// The error of a source from which nothing can come.
pub(crate) async fn refusal(source: &mut RabbitMqSource) -> SourceError {
    timeout(LIMIT, source.receive(1))
        .await
        .expect("an answer is due")
        .unwrap_err()
}
