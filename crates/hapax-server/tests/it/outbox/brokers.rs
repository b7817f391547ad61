//! Effects into brokers: real ones, and a relay that is killed between sending and finishing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hapax::consume::{
    self, KafkaOptions, KafkaSource, NatsOptions, NatsSource, RabbitMqOptions, RabbitMqSource, RedisOptions,
    RedisSource, Source,
};
use hapax_testbed::{Kafka, Nats, RabbitMq, Redis};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{PATIENCE, stop};
use crate::support::{Process, hapax, program};

/// An application with an outbox of these tables, and a store.
struct World {
    directory: TempDir,
}

impl World {
    fn new(outboxes: &[String]) -> Self {
        let world = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let config =
            "store = \"sqlite:hapax.db\"\nlease = \"500ms\"\n[log]\nlevel = \"warn\"\n[runner]\npoll = \"50ms\"\n";
        fs::write(world.path().join("hapax.toml"), config.to_owned() + &outboxes.concat()).unwrap();
        let database = world.path().join("shop.db");
        let orders = rusqlite::Connection::open(&database).unwrap();
        orders.execute_batch("CREATE TABLE orders (id)").unwrap();
        let installed = hapax(&[
            "outbox",
            "install",
            "--database",
            &format!("sqlite:{}", database.display()),
        ]);
        assert_eq!(installed.code, 0, "{installed:?}");
        world
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn enqueue(&self, effect: &str, keys: &[String]) {
        let mut connection = rusqlite::Connection::open(self.path().join("shop.db")).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        let transaction = connection.transaction().unwrap();
        for key in keys {
            let insert = "INSERT INTO hapax_outbox (effect, key, payload) VALUES (?1, ?2, ?2)";
            transaction.execute(insert, [effect, key]).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn relay(&self, failpoint: Option<String>) -> Process {
        let mut command = program();
        command.current_dir(self.path());
        command.args(["serve", "--with-parent", "--config", "hapax.toml"]);
        if let Some(failpoint) = failpoint {
            command.env("HAPAX_FAILPOINT", failpoint);
        }
        Process::spawn(&mut command)
    }

    fn store(&self) -> String {
        format!("sqlite:{}", self.path().join("hapax.db").display())
    }

    /// Waits until everything in the store is done.
    fn settled(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let listed = hapax(&[
                "records",
                "ls",
                "--state",
                "done",
                "--limit",
                "1000",
                "--store",
                &self.store(),
            ]);
            if listed.stdout.matches("key-").count() >= count {
                return;
            }
            assert!(Instant::now() < until, "{listed:?}");
        }
    }

    /// The last error of an effect that waits, once it has one.
    fn last_error(&self, effect: &str, key: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = hapax(&[
                "records",
                "show",
                key,
                "--name",
                effect,
                "--json",
                "--store",
                &self.store(),
            ]);
            if shown.code == 0
                && let Some(error) = shown.json()["last_error"].as_str()
            {
                return error.to_owned();
            }
            assert!(Instant::now() < until, "{shown:?}");
        }
    }

    fn secret(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// An `[[outbox]]`.
fn outbox(name: &str, to: &str, lines: &str) -> String {
    format!(
        "[[outbox]]\nname = \"{name}\"\nto = \"{to}\"\n{lines}\ndatabase = \"sqlite:shop.db\"\n[outbox.retry]\n\
         base = \"50ms\"\nbreaker_open = \"100ms\"\nbreaker_open_at_most = \"200ms\"\nbreaker_ramp = \"100ms\"\n"
    )
}

fn keys(round: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key-{round}-{number}")).collect()
}

/// A name of this process's own, at a server that all share.
fn own(name: &str) -> String {
    format!("{name}{}", std::process::id())
}

/// What a broker was sent: the key that it was told, and the payload.
struct Reader {
    runtime: Runtime,
    source: Box<dyn Source>,
    header: &'static str,
}

impl Reader {
    /// `make` is called where there is a runtime.
    fn new(header: &'static str, make: impl FnOnce() -> Box<dyn Source>) -> Self {
        let runtime = Runtime::new().unwrap();
        let source = {
            let _here = runtime.enter();
            make()
        };
        Self {
            runtime,
            source,
            header,
        }
    }

    /// All messages until this one, which was sent after everything else was.
    fn until(&mut self, last: &str) -> Vec<(String, String)> {
        let (mut read, mut held, until) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
        while read.last().is_none_or(|(_, payload)| payload != last) {
            assert!(Instant::now() < until, "no {last}: {read:?}");
            let more = async { tokio::time::timeout(Duration::from_secs(1), self.source.receive(100)).await };
            let Ok(Ok(more)) = self.runtime.block_on(more) else {
                continue;
            };
            for delivery in more {
                let key = delivery.message.text(self.header).unwrap_or_default().to_owned();
                let payload = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
                read.push((key, payload));
                // Kept, so that none comes again.
                held.push(delivery.settle);
            }
        }
        let _here = self.runtime.enter();
        drop(held);
        read
    }
}

/// A stream of NATS, by its own protocol.
fn create_stream(url: &str, name: &str, subjects: &str) {
    let authority = url.strip_prefix("nats://").unwrap();
    let (login, address) = authority.split_once('@').unwrap_or(("", authority));
    let login = login.split_once(':').map_or(String::new(), |(user, password)| {
        format!(",\"user\":\"{user}\",\"pass\":\"{password}\"")
    });
    let config = format!("{{\"name\":\"{name}\",\"subjects\":[\"{subjects}\"],\"storage\":\"file\"}}");
    let mut server = TcpStream::connect(address).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        server,
        "CONNECT {{\"verbose\":false{login}}}\r\nSUB made 1\r\nPUB $JS.API.STREAM.CREATE.{name} made {}\r\n{config}\r\n",
        config.len()
    )
    .unwrap();
    let (mut answer, mut part) = (String::new(), [0; 4096]);
    while !answer.contains("stream_create_response") {
        let read = server.read(&mut part).unwrap();
        assert!(read > 0, "{answer}");
        answer += &String::from_utf8_lossy(&part[..read]);
    }
    assert!(!answer.contains("\"error\""), "{answer}");
}

fn nats(url: &str, stream: &str) -> Reader {
    let options = NatsOptions::new(stream, "reader");
    let nats = consume::Nats::new(url).unwrap();
    Reader::new("Nats-Msg-Id", || Box::new(NatsSource::new(nats, options).unwrap()))
}

/// The queue is made.
fn rabbitmq(url: &str, queue: &str) -> Reader {
    let options = RabbitMqOptions {
        declare: true,
        ..RabbitMqOptions::new(queue)
    };
    let rabbitmq = consume::RabbitMq::new(url).unwrap();
    let mut reader = Reader::new("Idempotency-Key", || {
        Box::new(RabbitMqSource::new(&rabbitmq, options).unwrap())
    });
    reader.runtime.block_on(reader.source.lag()).unwrap();
    reader
}

fn redis(url: &str, stream: &str) -> Reader {
    let options = RedisOptions::new(stream, "reader");
    let redis = consume::Redis::new(url).unwrap();
    Reader::new("Idempotency-Key", || {
        Box::new(RedisSource::new(redis, options).unwrap())
    })
}

/// Kills the relay on both sides of sending, and gives what the broker was sent of how many effects.
#[cfg(feature = "failpoints")]
fn killed(table: &str, mut reader: Reader) -> (Vec<(String, String)>, BTreeSet<String>) {
    use std::os::unix::process::ExitStatusExt;
    const EACH: usize = 6;
    let world = World::new(&[table.to_owned()]);
    let mut all = BTreeSet::new();
    for (round, place) in ["moved", "before-upstream", "after-upstream", "before-finish"]
        .into_iter()
        .enumerate()
    {
        let new = keys(place, EACH);
        world.enqueue("paid", &new);
        all.extend(new);
        let hits = if place == "moved" { 1 } else { 1 + round };
        let status = world.relay(Some(format!("{place}:{hits}"))).wait();
        assert_eq!(status.signal(), Some(9), "{place}: {status:?}");
    }
    let relay = world.relay(None);
    world.settled(all.len());
    world.enqueue("paid", &["key-last".to_owned()]);
    world.settled(all.len() + 1);
    stop(relay);
    let mut sent = reader.until("key-last");
    sent.retain(|(_, payload)| payload != "key-last");
    let mut known = BTreeMap::new();
    for (key, payload) in &sent {
        assert!(
            key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{key:?}"
        );
        assert_eq!(
            known.entry(payload.clone()).or_insert(key),
            &key,
            "one effect, two keys"
        );
    }
    assert_eq!(
        known.values().collect::<BTreeSet<_>>().len(),
        all.len(),
        "two effects, one key"
    );
    assert_eq!(known.keys().cloned().collect::<BTreeSet<_>>(), all);
    (sent, all)
}

#[cfg(feature = "failpoints")]
#[test]
fn crash_nats_stores_each_effect_once() {
    let (server, name) = (Nats::shared(), own("CRASH"));
    create_stream(&server.url(), &name, &format!("{name}.>"));
    let table = outbox("paid", &server.url(), &format!("subject = \"{name}.paid\""));
    let (sent, all) = killed(&table, nats(&server.url(), &name));
    assert_eq!(sent.len(), all.len(), "{sent:?}");
}

#[cfg(feature = "failpoints")]
#[test]
fn crash_rabbitmq_gets_each_effect_and_what_comes_twice_has_the_same_key() {
    let (server, name) = (RabbitMq::shared(), own("crash"));
    let reader = rabbitmq(&server.url(), &name);
    let table = outbox("paid", &server.url(), &format!("queue = \"{name}\""));
    let (sent, all) = killed(&table, reader);
    assert!(sent.len() > all.len(), "no kill came between sending and finishing");
}

#[cfg(feature = "failpoints")]
#[test]
fn crash_kafka_gets_each_effect_and_what_comes_twice_has_the_same_key() {
    let (server, name) = (Kafka::shared(), own("crash"));
    server.create_topic(&name, 1);
    let table = outbox("paid", &server.url(), &format!("topic = \"{name}\""));
    let cluster = consume::Kafka::new(&server.url()).unwrap();
    let options = KafkaOptions {
        session: Duration::from_secs(6),
        ..KafkaOptions::default()
    };
    let reader = Reader::new("Idempotency-Key", || {
        Box::new(KafkaSource::new(&cluster, &own("reader"), &[&name], options).unwrap())
    });
    let (sent, all) = killed(&table, reader);
    assert!(sent.len() > all.len(), "no kill came between sending and finishing");
}

#[cfg(feature = "failpoints")]
#[test]
fn crash_redis_gets_each_effect_and_what_comes_twice_has_the_same_key() {
    let (server, name) = (Redis::shared(), own("crash"));
    let table = outbox("paid", &server.url(), &format!("stream = \"{name}\""));
    let (sent, all) = killed(&table, redis(&server.url(), &name));
    assert!(sent.len() > all.len(), "no kill came between sending and finishing");
}

#[test]
fn effects_wait_for_a_stream_or_queue_that_is_not_there() {
    let (nats_server, rabbitmq_server, name) = (Nats::shared(), RabbitMq::shared(), own("late"));
    let world = World::new(&[
        outbox("nats", &nats_server.url(), &format!("subject = \"{name}.paid\"")),
        outbox("queue", &rabbitmq_server.url(), &format!("queue = \"{name}\"")),
        outbox(
            "exchange",
            &rabbitmq_server.url(),
            &format!("exchange = \"{name}\"\nrouting_key = \"paid\""),
        ),
    ]);
    for effect in ["nats", "queue", "exchange"] {
        world.enqueue(effect, &[format!("key-{effect}")]);
    }
    let relay = world.relay(None);
    for (effect, parts) in [
        ("nats", [&*format!("no stream takes {name}.paid"), "nats stream add"]),
        ("queue", ["", &*name]),
        ("exchange", ["exchange", &*name]),
    ] {
        let error = world.last_error(effect, &format!("key-{effect}"));
        assert!(parts.iter().all(|part| error.contains(part)), "{effect}: {error}");
    }
    create_stream(&nats_server.url(), &name, &format!("{name}.>"));
    let mut queue = rabbitmq(&rabbitmq_server.url(), &name);
    world.settled(2);
    assert_eq!(nats(&nats_server.url(), &name).until("key-nats").len(), 1);
    assert_eq!(queue.until("key-queue").len(), 1);
    stop(relay);
}

#[test]
fn a_login_that_is_refused_is_said_and_costs_no_effect() {
    const RIGHT: &str = "shop:r1ght\n";
    let (nats_server, redis_server) = (
        Nats::start_with_login("shop", "r1ght"),
        Redis::start_with_login("shop", "r1ght"),
    );
    let lines = |place: &str| format!("{place}\nsecret_file = \"broker.secret\"");
    let world = World::new(&[
        outbox(
            "nats",
            &format!("nats://{}", nats_server.address()),
            &lines("subject = \"a.b\""),
        ),
        outbox(
            "redis",
            &format!("redis://{}", redis_server.address()),
            &lines("stream = \"orders\""),
        ),
    ]);
    world.secret("broker.secret", "shop:wr0ng\n");
    create_stream(&nats_server.url(), "A", "a.>");
    for effect in ["nats", "redis"] {
        world.enqueue(effect, &[format!("key-{effect}")]);
    }
    let relay = world.relay(None);
    for effect in ["nats", "redis"] {
        let error = world.last_error(effect, &format!("key-{effect}"));
        assert!(
            error.contains("refuses the login; give") || error.contains("refuses the login: give"),
            "{error}"
        );
        assert!(!error.contains("wr0ng"), "{error}");
    }
    stop(relay);
    let dead = hapax(&["dead", "ls", "--store", &world.store()]);
    assert!(
        dead.code == 0 && !dead.stdout.contains("key-"),
        "a login can be mended: {dead:?}"
    );
    world.secret("broker.secret", RIGHT);
    let relay = world.relay(None);
    world.settled(2);
    stop(relay);
    assert_eq!(nats(&nats_server.url(), "A").until("key-nats").len(), 1);
    assert_eq!(redis(&redis_server.url(), "orders").until("key-redis").len(), 1);
}
