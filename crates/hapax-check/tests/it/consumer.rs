//! The consumer over a queue and a store in memory, in virtual time.

mod buried;
mod starting;
mod watched;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hapax::consume::{Consumer, ConsumerError, ConsumerOptions, MemoryQueue, Message, Source};
use hapax::core::policy::{BreakerPolicy, Classes, FailureClass, Limits, RetryPolicy};
use hapax::core::{
    AfterFailure, BoxFuture, DeadReason, Key, Name, NotKept, Operation, Outcome, Record, Scope, State, Store, Timestamp,
};
use hapax::retry::Destination;
use hapax::store::{Clock, MemoryStore};
use hapax::{Attempted, Engine, EngineOptions, Event, Failure, Observer, RunOptions};
use hapax_check::faulty::{Faults, Faulty};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);
const START: i64 = 1_700_000_000_000;

/// What happened, for tests to ask.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<String, usize>>);

impl Observer for Seen {
    fn event(&self, event: &Event<'_>) {
        let word = match event {
            Event::Consumed { came, .. } => (*came).to_owned(),
            Event::IntakePaused { .. } => "paused".to_owned(),
            Event::IntakeResumed { .. } => "resumed".to_owned(),
            Event::SourceFailed { doing, .. } => format!("failed {doing}"),
            Event::Received { messages, .. } => {
                *self.0.lock().unwrap().entry("received".to_owned()).or_default() += messages;
                return;
            }
            _ => return,
        };
        *self.0.lock().unwrap().entry(word).or_default() += 1;
    }
}

impl Seen {
    fn count(&self, word: &str) -> usize {
        self.0.lock().unwrap().get(word).copied().unwrap_or_default()
    }
}

/// A queue, a store, and what the handler did.
struct World {
    queue: MemoryQueue,
    store: Arc<Faulty>,
    engine: Engine,
    seen: Arc<Seen>,
    ran: Arc<Mutex<Vec<String>>>,
}

/// What a handler says of a message, by its payload.
type Say = Arc<dyn Fn(&Message, usize) -> BoxFuture<'static, Attempted> + Send + Sync>;

impl World {
    fn new() -> Self {
        let started = Instant::now();
        let reading = move || {
            let elapsed = started.elapsed();
            let now = Timestamp::from_millis(START).after(elapsed);
            (now, elapsed)
        };
        let memory = MemoryStore::new(Clock::made(reading, Duration::MAX), [0; 32]);
        let store = Arc::new(Faulty::new(Arc::new(memory), 1, Faults::default()));
        let seen = Arc::new(Seen::default());
        let engine = Engine::shared(
            Arc::clone(&store) as Arc<dyn Store>,
            EngineOptions::default(),
            Arc::clone(&seen) as Arc<dyn Observer>,
        );
        Self {
            queue: MemoryQueue::new(),
            store,
            engine,
            seen,
            ran: Arc::default(),
        }
    }

    fn publish(&self, id: &str, payload: &str) {
        self.queue
            .publish(Message::new("", payload.to_owned()).header("Id", id.to_owned()));
    }

    fn consumer(&self, options: ConsumerOptions, say: Say) -> Consumer {
        self.consumer_of(self.queue.source(), options, say)
    }

    fn consumer_of(&self, source: impl Source, options: ConsumerOptions, say: Say) -> Consumer {
        let ran = Arc::clone(&self.ran);
        let run = RunOptions {
            after_failure: AfterFailure::Retry,
            ..RunOptions::default()
        };
        Consumer::leased(
            Name::new("points").unwrap(),
            source,
            "header:Id".parse().unwrap(),
            &self.engine,
            run,
            options,
            move |_, message: Message| {
                let mut ran = ran.lock().unwrap();
                ran.push(String::from_utf8_lossy(&message.payload).into_owned());
                let times = ran.iter().filter(|ran| ran.as_bytes() == message.payload).count();
                say(&message, times)
            },
        )
        .unwrap()
    }

    fn start(&self, options: ConsumerOptions, say: Say) -> Running {
        Running::new(self.consumer(options, say))
    }

    fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().clone()
    }

    async fn record(&self, key: &str) -> Option<Record> {
        let operation = Operation::new(
            Scope::new("messages").unwrap(),
            Name::new("points").unwrap(),
            Key::new(key).unwrap(),
        );
        self.store.read(operation.id()).await.unwrap().1
    }

    /// Waits until all messages are done with.
    async fn empty(&self) {
        timeout(60 * MINUTE, self.queue.empty()).await.unwrap();
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(60 * MINUTE, wait).await.unwrap();
    }
}

/// A consumer at work.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<usize, ConsumerError>>,
}

impl Running {
    fn new(consumer: Consumer) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(consumer.run(async {
            let _ = stopped.await;
        }));
        let stop = Some(stop);
        Self { stop, task }
    }

    async fn stop(mut self) -> usize {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap().unwrap()
    }
}

fn done() -> Attempted {
    Attempted::Done(Outcome::NotKept(NotKept::Discarded))
}

fn at_once(of: impl Fn(&Message, usize) -> Attempted + Send + Sync + 'static) -> Say {
    Arc::new(move |message, times| Box::pin(std::future::ready(of(message, times))))
}

fn failed(class: FailureClass) -> Attempted {
    Attempted::Failed(Failure::new(class, "planted"))
}

fn policy(tries: u32) -> RetryPolicy {
    RetryPolicy {
        retry: Classes::ALL,
        limits: Limits {
            tries,
            ..Limits::default()
        },
        ..ConsumerOptions::policy()
    }
}

fn options(tries: u32) -> ConsumerOptions {
    ConsumerOptions::new(Destination::new(policy(tries)).unwrap())
}

#[tokio::test(start_paused = true)]
async fn copies_of_a_message_are_handled_once() {
    let world = World::new();
    for _ in 0..5 {
        world.publish("a", "one");
        world.publish("b", "two");
    }
    let running = world.start(options(3), at_once(|_, _| done()));
    world.empty().await;
    let mut ran = world.ran();
    ran.sort();
    assert_eq!(ran, ["one", "two"]);
    assert_eq!(running.stop().await, 0);
    assert_eq!((world.seen.count("done"), world.queue.acknowledged()), (2, 10));
}

#[tokio::test(start_paused = true)]
async fn copies_that_two_processes_have_at_once_are_handled_once() {
    let world = World::new();
    let other = World {
        engine: Engine::shared(
            Arc::clone(&world.store) as Arc<dyn Store>,
            EngineOptions::default(),
            Arc::clone(&world.seen) as Arc<dyn Observer>,
        ),
        queue: world.queue.clone(),
        store: Arc::clone(&world.store),
        seen: Arc::clone(&world.seen),
        ran: Arc::clone(&world.ran),
    };
    for _ in 0..20 {
        world.publish("a", "one");
    }
    let slow: Say = Arc::new(|_, _| {
        Box::pin(async {
            sleep(Duration::from_secs(3)).await;
            done()
        })
    });
    let running = [
        world.start(options(3), Arc::clone(&slow)),
        other.start(options(3), slow),
    ];
    world.empty().await;
    assert_eq!(world.ran(), ["one"]);
    for running in running {
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_waits_in_its_record_and_is_acknowledged() {
    let world = World::new();
    world.publish("a", "one");
    let say = at_once(|_, times| match times {
        1 | 2 => failed(FailureClass::Ambiguous),
        _ => done(),
    });
    let running = world.start(options(3), say);
    world.empty().await;
    // Its broker is done with it while its record still waits, with what it says.
    assert_eq!(world.seen.count("waiting"), 1);
    let record = world.record("a").await.unwrap();
    assert!(matches!(record.state, State::Waiting { .. }), "{:?}", record.state);
    assert_eq!(Message::from_input(&record.input.unwrap()).unwrap().payload, "one");
    world.until(|world| world.ran().len() == 3).await;
    running.stop().await;
    assert!(matches!(world.record("a").await.unwrap().state, State::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn what_has_spent_its_tries_is_a_dead_letter_with_its_payload() {
    let world = World::new();
    world.publish("a", "one");
    world.publish("b", "two");
    let say = at_once(|message, _| match &message.payload[..] {
        b"one" => failed(FailureClass::Ambiguous),
        _ => failed(FailureClass::Final),
    });
    let running = world.start(options(2), say);
    world.empty().await;
    world.until(|world| world.ran().len() == 3).await;
    running.stop().await;
    for (key, reason, payload) in [("a", DeadReason::Exhausted, "one"), ("b", DeadReason::Refused, "two")] {
        let record = world.record(key).await.unwrap();
        assert!(
            matches!(record.state, State::Dead { reason: had, .. } if had == reason),
            "{:?}",
            record.state
        );
        assert_eq!(Message::from_input(&record.input.unwrap()).unwrap().payload, payload);
    }
    // The one that died at once was told to its broker; the other waited in its record.
    let dead = world.queue.dead();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].1.contains("planted"), "{}", dead[0].1);
}

#[tokio::test(start_paused = true)]
async fn the_same_identity_with_another_payload_is_a_dead_letter_beside_the_first() {
    let world = World::new();
    let running = world.start(options(3), at_once(|_, _| done()));
    world.publish("a", r#"{"points":1,"to":"ada"}"#);
    world.empty().await;
    // The same, said otherwise.
    world.publish("a", r#"{ "to": "ada", "points": 1.0 }"#);
    world.publish("a", r#"{"points":2,"to":"ada"}"#);
    world.publish("a", r#"{"points":2,"to":"ada"}"#);
    world.empty().await;
    running.stop().await;
    assert_eq!(world.ran().len(), 1);
    assert!(matches!(world.record("a").await.unwrap().state, State::Done(_)));
    let dead = world.queue.dead();
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(dead[0].1.starts_with("mismatch: "), "{}", dead[0].1);
    assert_eq!(world.seen.count("duplicate"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_identity_or_is_too_large_is_a_dead_letter_that_says_so() {
    let world = World::new();
    world.queue.publish(Message::new("", "nameless"));
    world.publish("a", &"x".repeat(101));
    let options = ConsumerOptions {
        message_bytes: 100,
        ..options(3)
    };
    let running = world.start(options, at_once(|_, _| done()));
    world.empty().await;
    running.stop().await;
    assert!(world.ran().is_empty());
    let mut reasons: Vec<_> = world.queue.dead().into_iter().map(|(_, reason)| reason).collect();
    reasons.sort();
    assert!(
        reasons[0].contains("has no identity: looked for header:Id"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("has 101 bytes"), "{reasons:?}");
    let record = world.record("no identity: memory/1").await.unwrap();
    assert_eq!(Message::from_input(&record.input.unwrap()).unwrap().payload, "nameless");
    assert!(world.record("a").await.unwrap().input.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_memory_is_run_only_if_it_is_known() {
    let world = World::new();
    let day = Duration::from_secs(24 * 3600);
    let options = ConsumerOptions {
        remember_for: 2 * day,
        ..options(3)
    };
    let running = world.start(options, at_once(|_, _| done()));
    let publish = |id: &str, age: Duration| {
        let published = Timestamp::from_millis(START - i64::try_from(age.as_millis()).unwrap());
        let message = Message::new("", id.to_owned()).header("Id", id.to_owned());
        let published = Some(published);
        world.queue.publish(Message { published, ..message });
    };
    // The store's time is known after the first.
    publish("a", day);
    world.empty().await;
    publish("a", 3 * day);
    publish("b", 3 * day);
    world.empty().await;
    running.stop().await;
    assert_eq!(world.ran(), ["a"]);
    let dead = world.queue.dead();
    assert_eq!((dead.len(), world.seen.count("duplicate")), (1, 1));
    assert!(dead[0].1.contains("redrive it if it was not"), "{}", dead[0].1);
}

#[tokio::test(start_paused = true)]
async fn an_order_is_kept_over_failures() {
    let world = World::new();
    for number in 0..30 {
        world.publish(&format!("{number}"), &format!("{} {number}", number % 3));
    }
    let options = ConsumerOptions {
        order_by: Some(Arc::new(|message| {
            let text = std::str::from_utf8(&message.payload).ok()?;
            Some(text.split(' ').next()?.to_owned())
        })),
        ..options(5)
    };
    let say = at_once(|message, times| match (&message.payload[..], times) {
        (b"0 6" | b"1 4" | b"0 12", 1..=3) => failed(FailureClass::Ambiguous),
        (b"2 8", _) => failed(FailureClass::Final),
        _ => done(),
    });
    let running = world.start(options, say);
    world.empty().await;
    running.stop().await;
    let ran = world.ran();
    for kind in ["0 ", "1 ", "2 "] {
        let of: Vec<usize> = ran
            .iter()
            .filter_map(|ran| ran.strip_prefix(kind)?.parse().ok())
            .collect();
        let mut sorted = of.clone();
        sorted.sort_unstable();
        assert_eq!(of, sorted);
        sorted.dedup();
        assert_eq!(sorted.len(), 10);
    }
    assert_eq!(ran.len(), 30 + 9, "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_the_messages_at_the_broker_and_kills_none() {
    let world = World::new();
    for number in 0..200 {
        world.publish(&format!("{number}"), &format!("{number}"));
    }
    let policy = RetryPolicy {
        breaker: BreakerPolicy {
            minimum_calls: 20,
            ..BreakerPolicy::default()
        },
        ..policy(8)
    };
    let options = ConsumerOptions::new(Destination::new(policy).unwrap());
    let outage = Instant::now() + 10 * MINUTE;
    let say = at_once(move |_, _| match Instant::now() < outage {
        true => failed(FailureClass::Unsent),
        false => done(),
    });
    let running = world.start(options, say);
    sleep(9 * MINUTE).await;
    assert!(
        world.queue.left() > 100,
        "{} are left at the broker",
        world.queue.left()
    );
    assert!(world.seen.count("paused") >= 1);
    world.empty().await;
    world
        .until(|world| {
            let mut ran = world.ran();
            ran.sort();
            ran.dedup();
            ran.len() == 200
        })
        .await;
    sleep(60 * MINUTE).await;
    running.stop().await;
    assert!(world.queue.dead().is_empty());
    for number in 0..200 {
        let record = world.record(&number.to_string()).await.unwrap();
        assert!(matches!(record.state, State::Done(_)), "{number}: {:?}", record.state);
    }
    assert!(world.seen.count("resumed") >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_keeps_messages_waiting_and_loses_none() {
    let world = World::new();
    for number in 0..100 {
        world.publish(&format!("{number}"), &format!("{number}"));
    }
    world.store.set_outage(true);
    let running = world.start(options(3), at_once(|_, _| done()));
    sleep(5 * MINUTE).await;
    assert_eq!((world.ran().len(), world.queue.acknowledged()), (0, 0));
    world.store.set_outage(false);
    world.empty().await;
    assert_eq!((world.ran().len(), world.queue.acknowledged()), (100, 100));
    assert!(world.queue.dead().is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_begun_is_given_back_when_it_stops() {
    let world = World::new();
    for number in 0..50 {
        world.publish(&format!("{number}"), &format!("{number}"));
    }
    let slow: Say = Arc::new(|_, _| {
        Box::pin(async {
            sleep(Duration::from_secs(10)).await;
            done()
        })
    });
    let first = world.start(options(3), Arc::clone(&slow));
    world.until(|world| world.ran().len() == 16).await;
    assert_eq!(first.stop().await, 0);
    assert_eq!((world.ran().len(), world.queue.acknowledged()), (16, 16));
    let second = world.start(options(3), slow);
    world.empty().await;
    second.stop().await;
    let mut ran = world.ran();
    assert_eq!(ran.len(), 50);
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), 50);
}
