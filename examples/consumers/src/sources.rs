//! Where the events come from: for each consumer a copy of all of them.

use std::time::Duration;

use hapax::consume::{
    Kafka, KafkaOptions, KafkaSource, Nats, NatsOptions, NatsSource, RabbitMq, RabbitMqOptions, RabbitMqSource, Redis,
    RedisOptions, RedisSource, Source,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// By the scheme of the broker's URL:
///
/// | | all events are in | the copy of a consumer |
/// |---|---|---|
/// | `nats://` | stream `ORDERS` | the durable consumer of its name |
/// | `amqp://` | exchange `orders` | queue `orders-NAME`, bound to it |
/// | `kafka://` | topic `orders` | the group of its name |
/// | `redis://` | stream `orders` | the group of its name |
///
/// `abandoned`: how long a message may be in the hands of a process that gives no sign of life.
///
/// # Errors
/// What is wrong with the URL.
pub fn source(broker: &str, consumer: &str, abandoned: Duration) -> Result<Box<dyn Source>, BoxError> {
    let (scheme, rest) = broker.split_once("://").unwrap_or((broker, ""));
    Ok(match scheme {
        "nats" | "tls" => {
            let options = NatsOptions {
                ack_wait: abandoned,
                ..NatsOptions::new("ORDERS", consumer)
            };
            Box::new(NatsSource::new(Nats::new(broker)?, options)?)
        }
        "amqp" | "amqps" => {
            let options = RabbitMqOptions::new(&format!("orders-{consumer}"));
            Box::new(RabbitMqSource::new(&RabbitMq::new(broker)?, options)?)
        }
        "kafka" => {
            let options = KafkaOptions {
                session: abandoned.max(Duration::from_secs(6)),
                ..KafkaOptions::default()
            };
            Box::new(KafkaSource::new(&Kafka::new(rest)?, consumer, &["orders"], options)?)
        }
        "redis" | "rediss" => {
            let options = RedisOptions {
                min_idle: abandoned,
                ..RedisOptions::new("orders", consumer)
            };
            Box::new(RedisSource::new(Redis::new(broker)?, options)?)
        }
        _ => return Err(format!("{scheme:?} is no broker: write nats://, amqp://, kafka:// or redis://").into()),
    })
}
