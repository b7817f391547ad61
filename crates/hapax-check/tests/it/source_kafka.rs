//! Kafka: what can be asked of it. The broker for tests keeps nothing through a restart, and asks nobody for a login.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hapax::consume::{Delivery, Kafka, KafkaOptions, KafkaSource, Lag, Message, Source, SourceError};
use hapax_check::Failure;
use hapax_check::conformance::source::Broker;
use hapax_core::BoxFuture;
use hapax_testbed::Kafka as Server;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;

const ANSWER: Duration = Duration::from_secs(10);

/// A topic with one partition, which is what keeps an order, and one for its dead letters.
struct Topic {
    name: String,
    dead: String,
}

async fn place() -> Result<Box<dyn Broker>, Failure> {
    static PLACES: AtomicUsize = AtomicUsize::new(0);
    let name = format!(
        "orders-{}-{}",
        std::process::id(),
        PLACES.fetch_add(1, Ordering::Relaxed)
    );
    let place = Topic {
        dead: format!("{name}-dead"),
        name,
    };
    Server::shared().create_topic(&place.name, 1);
    Server::shared().create_topic(&place.dead, 1);
    Ok(Box::new(place))
}

fn source(brokers: &str, topic: &str, dead: &str) -> Box<dyn Source> {
    let options = KafkaOptions {
        session: Duration::from_secs(6),
        dead_letters: Some(dead.to_owned()),
        ..KafkaOptions::default()
    };
    let kafka = Kafka::new(brokers).unwrap();
    let source = KafkaSource::new(&kafka, &format!("{topic}-points"), &[topic], options).unwrap();
    Box::new(Leaving(Some(source)))
}

/// A source that has left its group when it is dropped, not a moment later: if the leader of a group leaves while somebody
/// joins, the broker for tests waits for its word for ever.
struct Leaving(Option<KafkaSource>);

impl Leaving {
    fn source(&mut self) -> &mut KafkaSource {
        self.0.as_mut().unwrap()
    }
}

impl Source for Leaving {
    fn label(&self) -> &str {
        self.0.as_ref().unwrap().label()
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        self.source().receive(most)
    }

    fn pause(&mut self) -> BoxFuture<'_, ()> {
        self.source().pause()
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        self.source().lag()
    }

    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        self.source().redelivers_for()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        self.source().close()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut source = self.0.take().unwrap();
        let leaving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(source.close());
        });
        leaving.join().unwrap();
    }
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Server::shared().address());
    config
}

impl Broker for Topic {
    fn source(&self) -> Box<dyn Source> {
        source(&Server::shared().address(), &self.name, &self.dead)
    }

    fn publish(&self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            // Of larger batches the broker for tests tells a wrong end.
            let mut config = config();
            config
                .set("batch.num.messages", "1")
                .set("message.max.bytes", "20000000");
            let producer: FutureProducer = config.create().map_err(said)?;
            for message in messages {
                let mut headers = OwnedHeaders::new();
                for (name, value) in &message.headers {
                    headers = headers.insert(Header {
                        key: name,
                        value: Some(&value[..]),
                    });
                }
                let record = FutureRecord::<[u8], [u8]>::to(&self.name).payload(&message.payload);
                let sent = producer.send(record.headers(headers), Timeout::Never).await;
                sent.map_err(|(error, _)| said(error))?;
            }
            Ok(())
        })
    }

    fn restart(&self) -> Option<BoxFuture<'_, Result<(), Failure>>> {
        None
    }

    fn exported(&self) -> BoxFuture<'_, Result<Vec<Bytes>, Failure>> {
        Box::pin(async move {
            let mut config = config();
            config.set("group.id", format!("{}-reader", self.dead));
            let consumer: BaseConsumer = config.create().map_err(said)?;
            let mut all = TopicPartitionList::new();
            all.add_partition_offset(&self.dead, 0, Offset::Beginning)
                .map_err(said)?;
            consumer.assign(&all).map_err(said)?;
            let (_, end) = consumer.fetch_watermarks(&self.dead, 0, ANSWER).map_err(said)?;
            let mut payloads = Vec::new();
            while (payloads.len() as i64) < end {
                let Some(polled) = consumer.poll(ANSWER) else { break };
                let payload = polled.map_err(said)?.payload().unwrap_or_default().to_vec();
                payloads.push(payload.into());
            }
            Ok(payloads)
        })
    }

    fn missing(&self) -> Option<Box<dyn Source>> {
        let nothing = format!("{}-nothing", self.name);
        Some(source(&Server::shared().address(), &nothing, &self.dead))
    }

    fn stranger(&self) -> Option<Box<dyn Source>> {
        None
    }

    fn nobody(&self) -> Option<Box<dyn Source>> {
        Some(source("127.0.0.1:1", &self.name, &self.dead))
    }

    fn abandoned(&self) -> Duration {
        Duration::from_secs(2)
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
