//! A consumer's source, by the scheme of its broker's URL.

use std::fmt;

use hapax::consume::{
    KafkaOptions, KafkaSource, NatsOptions, NatsSource, RabbitMqOptions, RabbitMqRoute, RabbitMqSource, RedisOptions,
    RedisSource, Source,
};

use crate::config::broker::{BrokerKind, Wrong};
use crate::config::consume::Consume;

/// What messages come from, not connected yet.
///
/// # Errors
/// What makes no sense, and what to write instead.
pub(super) fn source(one: &Consume) -> Result<Box<dyn Source>, String> {
    let (broker, place, group) = (one.broker(), one.place().unwrap_or_default(), one.group());
    let dead_letters = one.dead_letters.clone();
    Ok(match one.from.kind {
        BrokerKind::Nats => {
            let options = NatsOptions {
                subjects: one.subject.iter().cloned().collect(),
                dead_letters,
                ..NatsOptions::new(place, &group)
            };
            Box::new(NatsSource::new(broker.nats().map_err(of)?, options).map_err(said)?)
        }
        BrokerKind::RabbitMq => {
            let options = RabbitMqOptions {
                dead_letters: dead_letters.as_deref().map(RabbitMqRoute::queue),
                queue_ttl: one.redelivers_for.map(|period| period.0),
                ..RabbitMqOptions::new(place)
            };
            Box::new(RabbitMqSource::new(&broker.rabbitmq().map_err(of)?, options).map_err(said)?)
        }
        BrokerKind::Kafka => {
            let options = KafkaOptions {
                dead_letters,
                ..KafkaOptions::default()
            };
            Box::new(KafkaSource::new(&broker.kafka().map_err(of)?, &group, &[place], options).map_err(said)?)
        }
        BrokerKind::Redis => {
            let options = RedisOptions {
                dead_letters,
                ..RedisOptions::new(place, &group)
            };
            Box::new(RedisSource::new(broker.redis().map_err(of)?, options).map_err(said)?)
        }
    })
}

fn of((key, problem): Wrong) -> String {
    format!("{key}: {problem}")
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}
