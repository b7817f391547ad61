//! Redis Streams: what can be asked of them.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use hapax::consume::{Message, Redis, RedisOptions, RedisSource, Source};
use hapax_check::Failure;
use hapax_check::conformance::source::Broker;
use hapax_core::BoxFuture;
use hapax_testbed::{FreePort, Redis as Server};
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};

const MIN_IDLE: Duration = Duration::from_secs(1);
/// With the pause between two looks at what was left behind.
const ABANDONED: Duration = Duration::from_millis(1500);

/// A server of its own, as cases kill it.
struct Streams {
    server: Mutex<Server>,
    url: String,
}

async fn place() -> Result<Box<dyn Broker>, Failure> {
    let server = Server::start_with_login("shop", "secret");
    let place = Streams {
        url: server.url(),
        server: Mutex::new(server),
    };
    let make = "XGROUP CREATE orders points 0 MKSTREAM";
    let mut link = place.link().await?;
    let _: Value = command(make).query_async(&mut link).await.map_err(said)?;
    Ok(Box::new(place))
}

fn command(words: &str) -> redis::Cmd {
    let mut words = words.split(' ');
    let mut command = cmd(words.next().unwrap_or_default());
    words.for_each(|word| {
        command.arg(word);
    });
    command
}

impl Streams {
    async fn link(&self) -> Result<MultiplexedConnection, Failure> {
        let client = redis::Client::open(self.url.as_str()).map_err(said)?;
        client.get_multiplexed_async_connection().await.map_err(said)
    }

    fn source_at(url: &str, stream: &str) -> Box<dyn Source> {
        let options = RedisOptions {
            min_idle: MIN_IDLE,
            dead_letters: Some("dead".to_owned()),
            ..RedisOptions::new(stream, "points")
        };
        Box::new(RedisSource::new(Redis::new(url).unwrap(), options).unwrap())
    }
}

impl Broker for Streams {
    fn source(&self) -> Box<dyn Source> {
        Self::source_at(&self.url, "orders")
    }

    fn publish(&self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut link = self.link().await?;
            for message in messages {
                let mut add = command("XADD orders * payload");
                add.arg(&message.payload[..]);
                for (name, value) in &message.headers {
                    add.arg(&**name).arg(&value[..]);
                }
                let _: Value = add.query_async(&mut link).await.map_err(said)?;
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
            let mut link = self.link().await?;
            let entries: Vec<(String, Vec<Vec<u8>>)> =
                command("XRANGE dead - +").query_async(&mut link).await.map_err(said)?;
            let payload = |fields: Vec<Vec<u8>>| {
                let at = fields.iter().step_by(2).position(|name| name == b"payload");
                at.map(|at| Bytes::from(fields[at * 2 + 1].clone()))
            };
            Ok(entries.into_iter().filter_map(|(_, fields)| payload(fields)).collect())
        })
    }

    fn missing(&self) -> Option<Box<dyn Source>> {
        Some(Self::source_at(&self.url, "no-such-stream"))
    }

    fn stranger(&self) -> Option<Box<dyn Source>> {
        Some(Self::source_at(&self.url.replace("secret", "wrong-password"), "orders"))
    }

    fn nobody(&self) -> Option<Box<dyn Source>> {
        let port = FreePort::take();
        Some(Self::source_at(
            &format!("redis://127.0.0.1:{}", port.number()),
            "orders",
        ))
    }

    fn abandoned(&self) -> Duration {
        ABANDONED
    }

    fn ordered(&self) -> bool {
        true
    }

    fn large(&self) -> usize {
        10_000_000
    }
}

fn said(error: impl std::fmt::Display) -> Failure {
    Failure(error.to_string())
}

hapax_check::source_tests!(|| -> BoxFuture<'static, Result<Box<dyn Broker>, Failure>> { Box::pin(place()) });
