//! NATS JetStream: what can be asked of it.

use std::sync::Mutex;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::pull, stream};
use bytes::Bytes;
use futures_util::StreamExt;
use hapax::consume::{Message, Nats, NatsOptions, NatsSource, Source};
use hapax_check::Failure;
use hapax_check::conformance::source::Broker;
use hapax_core::BoxFuture;
use hapax_testbed::{FreePort, Nats as Server};

const ABANDONED: Duration = Duration::from_millis(1500);
/// A server takes 1 MiB, headers included.
const LARGE: usize = (1 << 20) - 256;

/// A server of its own, as cases kill it.
struct JetStream {
    server: Mutex<Server>,
    url: String,
}

async fn place() -> Result<Box<dyn Broker>, Failure> {
    let server = Server::start_with_login("shop", "secret");
    let place = JetStream {
        url: server.url(),
        server: Mutex::new(server),
    };
    let jetstream = place.jetstream().await?;
    for (name, subject) in [("ORDERS", "orders.>"), ("DEAD", "dead.>")] {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            ..stream::Config::default()
        };
        jetstream.create_stream(config).await.map_err(said)?;
    }
    Ok(Box::new(place))
}

impl JetStream {
    async fn jetstream(&self) -> Result<jetstream::Context, Failure> {
        let login = async_nats::ConnectOptions::with_user_and_password("shop".to_owned(), "secret".to_owned());
        Ok(jetstream::new(login.connect(&self.url).await.map_err(said)?))
    }

    fn source_at(url: &str, stream: &str) -> Box<dyn Source> {
        let options = NatsOptions {
            ack_wait: ABANDONED,
            dead_letters: Some("dead.points".to_owned()),
            ..NatsOptions::new(stream, "points")
        };
        Box::new(NatsSource::new(Nats::new(url).unwrap(), options).unwrap())
    }
}

impl Broker for JetStream {
    fn source(&self) -> Box<dyn Source> {
        Self::source_at(&self.url, "ORDERS")
    }

    fn publish(&self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let jetstream = self.jetstream().await?;
            for message in messages {
                let mut headers = async_nats::HeaderMap::new();
                for (name, value) in &message.headers {
                    headers.append(&**name, std::str::from_utf8(value).map_err(said)?);
                }
                let stored = jetstream
                    .publish_with_headers("orders.paid", headers, message.payload)
                    .await;
                stored.map_err(said)?.await.map_err(said)?;
            }
            Ok(())
        })
    }

    fn restart(&self) -> Option<BoxFuture<'_, Result<(), Failure>>> {
        let mut server = self.server.lock().unwrap();
        server.kill();
        server.restart();
        Some(Box::pin(std::future::ready(Ok(()))))
    }

    fn exported(&self) -> BoxFuture<'_, Result<Vec<Bytes>, Failure>> {
        Box::pin(async move {
            let stream = self.jetstream().await?.get_stream("DEAD").await.map_err(said)?;
            let consumer = stream.create_consumer(pull::Config::default()).await.map_err(said)?;
            let mut messages = consumer.fetch().max_messages(1000).messages().await.map_err(said)?;
            let mut payloads = Vec::new();
            while let Some(message) = messages.next().await {
                payloads.push(message.map_err(said)?.payload.clone());
            }
            Ok(payloads)
        })
    }

    fn missing(&self) -> Option<Box<dyn Source>> {
        Some(Self::source_at(&self.url, "NO_SUCH_STREAM"))
    }

    fn stranger(&self) -> Option<Box<dyn Source>> {
        Some(Self::source_at(&self.url.replace("secret", "wrong-password"), "ORDERS"))
    }

    fn nobody(&self) -> Option<Box<dyn Source>> {
        let port = FreePort::take();
        Some(Self::source_at(
            &format!("nats://127.0.0.1:{}", port.number()),
            "ORDERS",
        ))
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

hapax_check::source_tests!(|| -> BoxFuture<'static, Result<Box<dyn Broker>, Failure>> { Box::pin(place()) });
