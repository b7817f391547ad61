//! Kafka's source and sink at the broker for tests, and at librdkafka's own mock of a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod bounds;
mod faults;
mod group;
mod sink;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hapax::consume::{Delivery, Kafka, KafkaOptions, KafkaSource, Source};
use hapax_testbed::Kafka as Server;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;
use tokio::time::{Instant, timeout_at};

/// Longer than anything takes that happens at all.
const LIMIT: Duration = Duration::from_secs(60);

/// A topic at a cluster, and a group that reads it.
#[derive(Clone)]
struct Topic {
    brokers: String,
    name: String,
}

impl Topic {
    /// A new one at the server of this run.
    fn new(partitions: u32) -> Self {
        let topic = Self::named(&Server::shared().address());
        Server::shared().create_topic(&topic.name, partitions);
        topic
    }

    /// A name that nobody has at a cluster.
    fn named(brokers: &str) -> Self {
        static TOPICS: AtomicUsize = AtomicUsize::new(0);
        let number = TOPICS.fetch_add(1, Ordering::Relaxed);
        Self {
            brokers: brokers.to_owned(),
            name: format!("topic-{}-{number}", std::process::id()),
        }
    }

    /// What the group has committed of the first partition; -1 if nothing.
    fn committed(&self) -> i64 {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", self.group());
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.name, 0);
        let committed = consumer.committed_offsets(list, LIMIT).unwrap();
        match committed.elements()[0].offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        }
    }

    /// Its own group: what one test does must not rebalance another's.
    fn group(&self) -> String {
        format!("{}-points", self.name)
    }

    fn kafka(&self) -> Kafka {
        Kafka::new(&self.brokers).unwrap()
    }

    fn source(&self, options: KafkaOptions) -> KafkaSource {
        let options = KafkaOptions {
            session: Duration::from_secs(6),
            ..options
        };
        KafkaSource::new(&self.kafka(), &self.group(), &[&self.name], options).unwrap()
    }

    /// Messages with these payloads, spread over the partitions. One a batch, for the sake of the ends of partitions.
    async fn publish(&self, numbers: std::ops::Range<usize>) {
        let producer = producer(&self.brokers);
        let sent = numbers.map(|number| {
            let (producer, topic) = (producer.clone(), self.name.clone());
            async move {
                let (key, payload) = (number.to_string(), number.to_string());
                let record = FutureRecord::to(&topic).key(&key).payload(&payload);
                producer.send(record, Timeout::Never).await.unwrap();
            }
        });
        futures_util::future::join_all(sent).await;
    }
}

fn producer(brokers: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("batch.num.messages", "1");
    config.create().unwrap()
}

/// Receives until there are so many, past failures.
async fn hold(source: &mut KafkaSource, least: usize) -> Vec<Delivery> {
    let (mut held, until) = (Vec::new(), Instant::now() + LIMIT);
    let mut last = String::new();
    while held.len() < least {
        match timeout_at(until, source.receive(64)).await {
            Ok(Ok(received)) => held.extend(received),
            Ok(Err(error)) => {
                last = error.to_string();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(_) => panic!("{} came, {least} were due; {last}", held.len()),
        }
    }
    held
}

fn number(delivery: &Delivery) -> usize {
    std::str::from_utf8(&delivery.message.payload).unwrap().parse().unwrap()
}
