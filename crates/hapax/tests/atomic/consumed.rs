//! Messages that are handled in transactions of the shop's database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hapax::atomic::{AtomicOptions, Bounds, Database};
use hapax::consume::{Consumer, ConsumerError, ConsumerOptions, Handled, Identity, MemoryQueue, Message};
use hapax::core::policy::{Backoff, Limits, RetryPolicy};
use hapax::core::{DeadReason, Key, Name, Operation, Record, Scope, State};
use hapax::retry::Destination;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::world::{BoxError, World};

const LIMIT: Duration = Duration::from_secs(60);
/// Messages of a test, beside their copies.
const ALL: usize = 120;

type Connection<W> = <<W as World>::Database as Database>::Connection;

/// What becomes of a message, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Order,
    /// Orders, then says that it can never be done.
    Refuse,
    /// Orders, then fails the first time.
    Fail,
    /// Orders, then panics the first time.
    Panic,
    /// Orders, then always fails.
    Poison,
    /// Breaks a rule of the database each time.
    Broken,
}

fn kind(number: usize) -> Kind {
    match number % 20 {
        3 => Kind::Refuse,
        7 | 11 => Kind::Fail,
        13 => Kind::Panic,
        17 => Kind::Poison,
        19 => Kind::Broken,
        _ => Kind::Order,
    }
}

fn number(message: &Message) -> usize {
    message.text("Id").unwrap().parse().unwrap()
}

/// How often each message was handled in this process.
type Times = Arc<Mutex<BTreeMap<usize, usize>>>;

async fn handle<W: World>(
    connection: &mut Connection<W>,
    message: &Message,
    times: &Times,
) -> Result<Handled, BoxError> {
    let number = number(message);
    let first = {
        let mut times = times.lock().unwrap();
        let times = times.entry(number).or_insert(0);
        *times += 1;
        *times == 1
    };
    W::order(connection, &number.to_string()).await?;
    match (kind(number), first) {
        (Kind::Refuse, _) => Ok(Handled::Dead("no such item".to_owned())),
        (Kind::Fail, true) | (Kind::Poison, _) => Err("no stock".into()),
        (Kind::Panic, true) => panic!("on purpose"),
        (Kind::Broken, _) => {
            W::break_a_rule(connection).await?;
            Ok(Handled::Done)
        }
        _ => Ok(Handled::Done),
    }
}

fn options(batch: usize) -> ConsumerOptions {
    let policy = RetryPolicy {
        backoff: Backoff {
            base: Duration::from_millis(20),
            ..Backoff::default()
        },
        limits: Limits {
            tries: 3,
            ..Limits::default()
        },
        // Every other message fails: that is no outage.
        breaker: hapax::core::policy::BreakerPolicy {
            minimum_calls: 1_000_000,
            ..hapax::core::policy::BreakerPolicy::default()
        },
        ..ConsumerOptions::policy()
    };
    ConsumerOptions {
        concurrency: 4,
        batch,
        ..ConsumerOptions::new(Destination::new(policy).unwrap())
    }
}

fn consumer<W: World>(world: &W, queue: &MemoryQueue, options: ConsumerOptions, times: &Times) -> Consumer {
    let atomic = world.atomic(AtomicOptions {
        bounds: Bounds {
            claim: Duration::from_millis(200),
            ..Bounds::default()
        },
        ..AtomicOptions::default()
    });
    let times = Arc::clone(times);
    Consumer::atomic(
        Name::new("stock").unwrap(),
        queue.source(),
        Identity::Header("Id".into()),
        &atomic,
        options,
        move |connection, message| -> BoxFuture<'_, Result<Handled, BoxError>> {
            let times = Arc::clone(&times);
            Box::pin(async move { handle::<W>(connection, message, &times).await })
        },
    )
    .unwrap()
}

struct Running(oneshot::Sender<()>, JoinHandle<Result<usize, ConsumerError>>);

impl Running {
    fn new(consumer: Consumer) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(consumer.run(async {
            let _ = stopped.await;
        }));
        Self(stop, running)
    }

    async fn stop(self) {
        self.0.send(()).unwrap();
        assert_eq!(self.1.await.unwrap().unwrap(), 0);
    }
}

fn publish(queue: &MemoryQueue, number: usize) {
    let payload = format!(r#"{{"number":{number}}}"#);
    queue.publish(Message::new("orders", payload).header("Id", number.to_string()));
}

async fn record<W: World>(world: &W, number: usize) -> Option<Record> {
    let (scope, name) = (Scope::new("messages").unwrap(), Name::new("stock").unwrap());
    let id = Operation::new(scope, name, Key::new(number.to_string()).unwrap()).id();
    world.engine().store().read(id).await.unwrap().1
}

/// Waits until every message has come to its end, at the broker and in its record.
async fn ended<W: World>(world: &W, queue: &MemoryQueue) {
    timeout(LIMIT, queue.empty()).await.unwrap();
    let settled = async {
        for number in 0..ALL {
            loop {
                let record = record(world, number).await;
                if record.is_some_and(|record| matches!(record.state, State::Done(_) | State::Dead { .. })) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    timeout(LIMIT, settled).await.unwrap();
}

async fn each_has_its_effect<W: World>(world: &W) {
    for number in 0..ALL {
        let (kind, orders) = (kind(number), world.orders(&number.to_string()).await);
        let record = record(world, number).await.unwrap();
        let expected = match kind {
            Kind::Order | Kind::Fail | Kind::Panic => 1,
            Kind::Refuse | Kind::Poison | Kind::Broken => 0,
        };
        assert_eq!(orders, expected, "{number}: {kind:?}: {record:?}");
        let reason = match record.state {
            State::Dead { reason, .. } => Some(reason),
            _ => None,
        };
        let expected = match kind {
            Kind::Order | Kind::Fail | Kind::Panic => None,
            Kind::Refuse => Some(DeadReason::Refused),
            Kind::Poison | Kind::Broken => Some(DeadReason::Exhausted),
        };
        assert_eq!(reason, expected, "{number}: {kind:?}");
        if reason.is_some() {
            let kept = Message::from_input(&record.input.unwrap()).unwrap();
            assert_eq!(kept.payload, format!(r#"{{"number":{number}}}"#));
        }
    }
}

/// Copies, failures, panics and poison: one by one, or many in one commit.
pub(crate) async fn each_message_has_one_effect<W: World>(world: W, batch: usize) {
    let queue = MemoryQueue::new();
    for number in 0..ALL {
        publish(&queue, number);
        if number % 5 == 0 {
            publish(&queue, number);
        }
    }
    let times = Times::default();
    let running = Running::new(consumer(&world, &queue, options(batch), &times));
    ended(&world, &queue).await;
    // The same again, when all is known.
    for number in 0..ALL {
        publish(&queue, number);
    }
    timeout(LIMIT, queue.empty()).await.unwrap();
    running.stop().await;
    each_has_its_effect(&world).await;
    let times = times.lock().unwrap();
    for (number, times) in times.iter().filter(|(number, _)| kind(**number) == Kind::Order) {
        // In a batch, one that fails has the others handled again; by itself nobody is.
        assert!(*times == 1 || batch > 1, "{number} was handled {times} times");
    }
}

/// Two processes with the same messages.
pub(crate) async fn processes_share_and_nothing_happens_twice<W: World>(world: W) {
    let queues = [MemoryQueue::new(), MemoryQueue::new()];
    for number in 0..ALL {
        queues.iter().for_each(|queue| publish(queue, number));
    }
    let other = W::join(world.at()).await;
    let (mine, theirs) = (Times::default(), Times::default());
    let running = [
        Running::new(consumer(&world, &queues[0], options(8), &mine)),
        Running::new(consumer(&other, &queues[1], options(1), &theirs)),
    ];
    for queue in &queues {
        ended(&world, queue).await;
    }
    for running in running {
        running.stop().await;
    }
    for number in 0..ALL {
        let orders = world.orders(&number.to_string()).await;
        match kind(number) {
            Kind::Order | Kind::Fail | Kind::Panic => assert_eq!(orders, 1, "{number}"),
            Kind::Refuse | Kind::Poison | Kind::Broken => assert_eq!(orders, 0, "{number}"),
        }
    }
}

/// What was there before keeps messages as they were: a redelivery is not run, and another payload is buried.
pub(crate) async fn what_is_known_is_not_run_again<W: World>(world: W) {
    let queue = MemoryQueue::new();
    let times = Times::default();
    publish(&queue, 0);
    let running = Running::new(consumer(&world, &queue, options(8), &times));
    timeout(LIMIT, queue.empty()).await.unwrap();
    running.stop().await;
    // Another process, whose cache is empty.
    let other = W::join(world.at()).await;
    let running = Running::new(consumer(&other, &queue, options(8), &times));
    publish(&queue, 0);
    queue.publish(Message::new("orders", r#"{"number":1000}"#).header("Id", "0"));
    timeout(LIMIT, queue.empty()).await.unwrap();
    running.stop().await;
    assert_eq!(world.orders("0").await, 1);
    assert_eq!(times.lock().unwrap().get(&0), Some(&1));
    let dead = queue.dead();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].1.starts_with("mismatch: "), "{}", dead[0].1);
}

/// Most messages are early, which is no outage: intake goes on, and the one that they wait for comes.
pub(crate) async fn early_messages_do_not_keep_out_the_one_they_wait_for<W: World>(world: W) {
    let queue = MemoryQueue::new();
    for number in (0..=40).rev() {
        publish(&queue, number);
    }
    let breaking = RetryPolicy {
        breaker: hapax::core::policy::BreakerPolicy {
            minimum_calls: 5,
            open: LIMIT,
            open_at_most: LIMIT,
            ..hapax::core::policy::BreakerPolicy::default()
        },
        limits: Limits {
            tries: 100,
            ..Limits::default()
        },
        ..options(1).destination.policy().clone()
    };
    let options = ConsumerOptions {
        destination: Destination::new(breaking).unwrap(),
        ..options(1)
    };
    let first = Arc::new(Mutex::new(false));
    let consumer = Consumer::atomic(
        Name::new("stock").unwrap(),
        queue.source(),
        Identity::Header("Id".into()),
        &world.atomic(AtomicOptions::default()),
        options,
        move |connection, message| -> BoxFuture<'_, Result<Handled, BoxError>> {
            let first = Arc::clone(&first);
            Box::pin(async move {
                W::order(connection, &number(message).to_string()).await?;
                let mut first = first.lock().unwrap();
                *first |= number(message) == 0;
                Ok(match *first {
                    true => Handled::Done,
                    false => Handled::Early("0 has not come".to_owned()),
                })
            })
        },
    );
    let running = Running::new(consumer.unwrap());
    let done = async {
        for number in 0..=40 {
            while !matches!(
                record(&world, number).await,
                Some(Record {
                    state: State::Done(_),
                    ..
                })
            ) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(world.orders(&number.to_string()).await, 1, "{number}");
        }
    };
    timeout(LIMIT / 2, done).await.unwrap();
    running.stop().await;
}
