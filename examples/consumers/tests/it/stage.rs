//! The four brokers, as the storm needs them.

use std::thread::sleep;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use hapax_consumers::CONSUMERS;
use hapax_testbed::{Kafka, Nats, RabbitMq, Redis};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

use crate::plan::Post;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
type Published<'a> = BoxFuture<'a, Result<(), Failure>>;

/// Messages on their way to the broker at a time.
const AT_ONCE: usize = 200;
/// How long a broker is away that would forget everything.
const AWAY: Duration = Duration::from_secs(2);

/// A broker with a copy of all events for each consumer.
pub(crate) trait Stage {
    fn url(&self) -> String;
    fn publish<'a>(&'a self, posts: &'a [Post]) -> Published<'a>;
    /// It dies, and comes back.
    fn restart(&mut self);
}

/// CloudEvents in the headers.
fn headers(post: &Post) -> impl Iterator<Item = (&'static str, &str)> {
    let id = post.id.as_deref().map(|id| ("ce-id", id));
    id.into_iter().chain([("ce-source", "shop"), ("ce-specversion", "1.0")])
}

impl Stage for Nats {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn publish<'a>(&'a self, posts: &'a [Post]) -> Published<'a> {
        Box::pin(async move {
            let jetstream = async_nats::jetstream::new(async_nats::connect(Self::url(self)).await?);
            let config = async_nats::jetstream::stream::Config {
                name: "ORDERS".to_owned(),
                subjects: vec!["orders".to_owned()],
                ..Default::default()
            };
            jetstream.get_or_create_stream(config).await?;
            for some in posts.chunks(AT_ONCE) {
                let mut stored = Vec::new();
                for post in some {
                    let mut all = async_nats::HeaderMap::new();
                    headers(post).for_each(|(name, value)| all.append(name, value));
                    let sent = jetstream.publish_with_headers("orders", all, post.payload.clone().into());
                    stored.push(IntoFuture::into_future(sent.await?));
                }
                try_join_all(stored).await?;
            }
            Ok(())
        })
    }

    fn restart(&mut self) {
        self.kill();
        Self::restart(self);
    }
}

impl Stage for RabbitMq {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn publish<'a>(&'a self, posts: &'a [Post]) -> Published<'a> {
        Box::pin(async move {
            let connection = lapin::Connection::connect(&Self::url(self), Default::default()).await?;
            let channel = connection.create_channel().await?;
            let durable = ExchangeDeclareOptions {
                durable: true,
                ..Default::default()
            };
            let fanout = ExchangeKind::Fanout;
            channel
                .exchange_declare("orders".into(), fanout, durable, FieldTable::default())
                .await?;
            for consumer in CONSUMERS {
                let name = format!("orders-{consumer}");
                let mut quorum = FieldTable::default();
                quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
                let declared = channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), quorum);
                declared.await?;
                let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
                channel
                    .queue_bind(name.as_str().into(), "orders".into(), "".into(), bind, none)
                    .await?;
            }
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            for some in posts.chunks(AT_ONCE) {
                for post in some {
                    let mut all = FieldTable::default();
                    for (name, value) in headers(post) {
                        all.insert(name.into(), AMQPValue::LongString(value.into()));
                    }
                    let properties = BasicProperties::default().with_headers(all).with_delivery_mode(2);
                    let options = BasicPublishOptions::default();
                    let sent =
                        channel.basic_publish("orders".into(), "".into(), options, post.payload.as_bytes(), properties);
                    sent.await?;
                }
                channel.wait_for_confirms().await?;
            }
            Ok(())
        })
    }

    fn restart(&mut self) {
        // 3.10 confirms a queue that it would forget for some seconds more, with the messages in it.
        self.flush();
        self.kill();
        Self::restart(self);
    }
}

impl Stage for Kafka {
    fn url(&self) -> String {
        format!("kafka://{}", self.address())
    }

    fn publish<'a>(&'a self, posts: &'a [Post]) -> Published<'a> {
        Box::pin(async move {
            let mut config = ClientConfig::new();
            // Of larger batches the broker for tests tells a wrong end.
            config
                .set("bootstrap.servers", self.address())
                .set("batch.num.messages", "1");
            let producer: FutureProducer = config.create()?;
            for some in posts.chunks(AT_ONCE) {
                let sent = some.iter().map(|post| {
                    let all = headers(post).fold(OwnedHeaders::new(), |all, (key, value)| {
                        let value = Some(value);
                        all.insert(Header { key, value })
                    });
                    let record = FutureRecord::<(), _>::to("orders").payload(&post.payload).headers(all);
                    producer.send(record, Timeout::Never)
                });
                try_join_all(sent).await.map_err(|(error, _)| error)?;
            }
            Ok(())
        })
    }

    /// It keeps nothing over a restart: it stands still for a while instead.
    fn restart(&mut self) {
        self.pause();
        sleep(AWAY);
        self.resume();
    }
}

impl Stage for Redis {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn publish<'a>(&'a self, posts: &'a [Post]) -> Published<'a> {
        Box::pin(async move {
            let mut link = redis::Client::open(Self::url(self))?
                .get_multiplexed_async_connection()
                .await?;
            for some in posts.chunks(AT_ONCE) {
                let mut all = redis::pipe();
                for post in some {
                    let add = all.cmd("XADD").arg("orders").arg("*").arg("payload").arg(&post.payload);
                    headers(post).for_each(|(name, value)| {
                        add.arg(name).arg(value);
                    });
                    add.ignore();
                }
                let () = all.query_async(&mut link).await?;
            }
            Ok(())
        })
    }

    fn restart(&mut self) {
        self.kill();
        Self::restart(self);
    }
}
