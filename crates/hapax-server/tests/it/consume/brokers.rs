//! Each broker that is no NATS: messages of an outbox's sink, handled once, and what is too large.

use hapax::Attempted;
use hapax::consume::{
    Kafka, KafkaSink, RabbitMq, RabbitMqOptions, RabbitMqRoute, RabbitMqSink, RabbitMqSource, Redis, RedisSink, Source,
};
use hapax::core::{Name, Timestamp};
use hapax::outbox::{Delivery, Sink};
use hapax_testbed::{Kafka as KafkaServer, RabbitMq as RabbitMqServer, Redis as RedisServer};
use tokio::runtime::Runtime;

use super::endpoint::Endpoint;
use super::{World, came, stop};

const LARGE: usize = 10_000_000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn send(runtime: &Runtime, sink: &dyn Sink, key: &str, payload: &str) {
    let delivery = Delivery {
        name: Name::new("paid").unwrap(),
        key: key.to_owned(),
        content_type: "application/json".into(),
        payload: payload.to_owned().into(),
        now: Timestamp::from_millis(1_700_000_000_000),
        tries: 1,
    };
    let sent = runtime.block_on(sink.deliver(delivery));
    assert!(matches!(sent, Attempted::Done(_)), "{sent:?}");
}

/// Ten messages, each twice.
fn each_is_handled_once(world: &World, from: &str, runtime: &Runtime, sink: &dyn Sink) {
    // The sinks' time is long ago.
    let from = format!("{from}\nidentity = \"header:Idempotency-Key\"\nremember_for = \"36500d\"");
    world.configure_from(&from, "");
    let relay = world.relay();
    for number in 0..20 {
        let key = format!("e-{}", number % 10);
        send(runtime, sink, &key, &format!("{{\"key\":\"{key}\"}}"));
    }
    relay.wait_for_metric(&came("duplicate"), 10.0);
    relay.wait_for_metric(&came("done"), 10.0);
    let posts = world.endpoint.posts();
    assert_eq!(posts.len(), 10);
    for post in posts {
        assert_eq!(post.body, format!("{{\"key\":\"{}\"}}", post.key()).as_bytes());
        assert_eq!(post.header("content-type"), Some("application/json"));
    }
    assert!(world.dead().is_empty());
    stop(relay.process);
}

fn world() -> World {
    World::new(Endpoint::start(|_, _| "204 Taken"))
}

#[test]
fn rabbitmq_messages_are_handled_once_and_large_ones_are_dead_letters() {
    let (world, runtime) = (world(), runtime());
    let (url, queue) = (RabbitMqServer::shared().url(), world.stream.clone());
    let rabbitmq = RabbitMq::new(&url).unwrap();
    let options = RabbitMqOptions {
        declare: true,
        ..RabbitMqOptions::new(&queue)
    };
    runtime.block_on(async {
        let mut source = RabbitMqSource::new(&rabbitmq, options).unwrap();
        source.lag().await.unwrap();
        source.close().await;
    });
    let sink = RabbitMqSink::new(&rabbitmq, RabbitMqRoute::queue(&queue)).unwrap();
    let from = format!("from = \"{url}\"\nqueue = \"{queue}\"");
    each_is_handled_once(&world, &from, &runtime, &sink);

    send(&runtime, &sink, "large", &"x".repeat(LARGE));
    let relay = world.relay();
    relay.wait_for_metric(&came("dead"), 1.0);
    let dead = world.dead();
    let said = dead[0]["last_error"].as_str().unwrap();
    assert!(said.contains("the payload has 10000000 bytes"), "{said}");
    assert_eq!(world.endpoint.count(), 10);
    stop(relay.process);

    world.configure_from(&format!("{from}\nredelivers_for = \"31d\""), "");
    let mut process = world.process(None);
    assert_eq!(process.wait().code(), Some(2));
    assert!(process.log().contains("raise remember_for"), "{}", process.log());
}

#[test]
fn kafka_messages_are_handled_once() {
    let (world, runtime) = (world(), runtime());
    let server = KafkaServer::shared();
    server.create_topic(&world.stream, 2);
    let sink = KafkaSink::new(&Kafka::new(&server.address()).unwrap(), &world.stream).unwrap();
    let from = format!("from = \"kafka://{}\"\ntopic = \"{}\"", server.address(), world.stream);
    each_is_handled_once(&world, &from, &runtime, &sink);
}

#[test]
fn redis_messages_are_handled_once() {
    let (world, runtime) = (world(), runtime());
    let url = RedisServer::shared().url();
    let sink = RedisSink::new(Redis::new(&url).unwrap(), &world.stream).unwrap();
    let from = format!("from = \"{url}\"\nstream = \"{}\"", world.stream);
    each_is_handled_once(&world, &from, &runtime, &sink);
}
