//! RabbitMQ: what can be asked of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hapax::consume::{Message, RabbitMq, RabbitMqOptions, RabbitMqRoute, RabbitMqSource, Source};
use hapax_check::Failure;
use hapax_check::conformance::source::{Broker, check};
use hapax_core::BoxFuture;
use hapax_testbed::{FreePort, RabbitMq as Server};
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};

/// What a member leaves behind comes as soon as its connection has ended.
const ABANDONED: Duration = Duration::from_secs(1);
const LARGE: usize = 10_000_000;

/// A queue at the shared server, or at one of its own that can be killed.
struct Queue {
    name: String,
    url: String,
    own: Option<Mutex<Server>>,
}

async fn place(own: bool) -> Result<Box<dyn Broker>, Failure> {
    static PLACES: AtomicUsize = AtomicUsize::new(0);
    let (url, own) = match own {
        true => {
            let server = Server::start();
            (server.url(), Some(server))
        }
        false => (Server::shared().url(), None),
    };
    let number = PLACES.fetch_add(1, Ordering::Relaxed);
    let queue = Queue {
        name: format!("orders-{}-{number}", std::process::id()),
        url,
        own: own.map(Mutex::new),
    };
    queue.declare().await?;
    Ok(Box::new(queue))
}

impl Queue {
    async fn channel(&self) -> Result<(Connection, Channel), Failure> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default())
            .await
            .map_err(said)?;
        let channel = connection.create_channel().await.map_err(said)?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(said)?;
        Ok((connection, channel))
    }

    async fn declare(&self) -> Result<(), Failure> {
        let (_connection, channel) = self.channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        for name in [self.name.clone(), self.dead()] {
            let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments.clone());
            declared.await.map_err(said)?;
        }
        if let Some(own) = &self.own {
            own.lock().unwrap().flush();
        }
        Ok(())
    }

    fn dead(&self) -> String {
        format!("{}.dead", self.name)
    }

    fn source_at(&self, url: &str, queue: &str) -> Box<dyn Source> {
        let options = RabbitMqOptions {
            dead_letters: Some(RabbitMqRoute::queue(&self.dead())),
            ..RabbitMqOptions::new(queue)
        };
        Box::new(RabbitMqSource::new(&RabbitMq::new(url).unwrap(), options).unwrap())
    }
}

impl Broker for Queue {
    fn source(&self) -> Box<dyn Source> {
        self.source_at(&self.url, &self.name)
    }

    fn publish(&self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (_connection, channel) = self.channel().await?;
            for message in messages {
                let mut headers = FieldTable::default();
                for (name, value) in &message.headers {
                    headers.insert((&**name).into(), AMQPValue::LongString(value.to_vec().into()));
                }
                let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
                let options = BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                };
                let queue = self.name.as_str().into();
                let sent = channel.basic_publish("".into(), queue, options, &message.payload, properties);
                sent.await.map_err(said)?;
            }
            let returned = channel.wait_for_confirms().await.map_err(said)?;
            match returned.is_empty() {
                true => Ok(()),
                false => Err(Failure(format!("{} messages were returned", returned.len()))),
            }
        })
    }

    fn restart(&self) -> Option<BoxFuture<'_, Result<(), Failure>>> {
        let mut server = self.own.as_ref()?.lock().unwrap();
        server.kill();
        server.restart();
        Some(Box::pin(std::future::ready(Ok(()))))
    }

    fn exported(&self) -> BoxFuture<'_, Result<Vec<Bytes>, Failure>> {
        Box::pin(async move {
            let (_connection, channel) = self.channel().await?;
            let (dead, options) = (self.dead(), BasicGetOptions { no_ack: true });
            let mut payloads = Vec::new();
            while let Some(got) = channel.basic_get(dead.as_str().into(), options).await.map_err(said)? {
                payloads.push(got.delivery.data.into());
            }
            Ok(payloads)
        })
    }

    fn missing(&self) -> Option<Box<dyn Source>> {
        Some(self.source_at(&self.url, "no-such-queue"))
    }

    fn stranger(&self) -> Option<Box<dyn Source>> {
        let url = self.url.replace(":guest@", ":wrong-password@");
        Some(self.source_at(&url, &self.name))
    }

    fn nobody(&self) -> Option<Box<dyn Source>> {
        let port = FreePort::take();
        Some(self.source_at(&format!("amqp://127.0.0.1:{}", port.number()), &self.name))
    }

    fn abandoned(&self) -> Duration {
        ABANDONED
    }

    fn ordered(&self) -> bool {
        true
    }

    fn large(&self) -> usize {
        LARGE
    }
}

fn said(error: impl std::fmt::Display) -> Failure {
    Failure(error.to_string())
}

hapax_check::source_tests!(|| -> BoxFuture<'static, Result<Box<dyn Broker>, Failure>> { Box::pin(place(false)) });

/// The same, with a server that can be killed.
#[test]
fn a_killed_broker_loses_nothing() {
    check(
        "a_restart_of_the_broker_loses_nothing",
        &|| -> BoxFuture<'static, Result<Box<dyn Broker>, Failure>> { Box::pin(place(true)) },
    );
}
