//! The order of an aggregate's effects, in virtual time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;

use hapax_core::policy::FailureClass;
use hapax_core::{Amend, Amendment, Audit, NotKept, Outcome, Resolution, StateName, Timestamp};
use hapax_store::{Clock, MemoryStore};
use tokio::time::{Instant, sleep};

use super::super::*;
use crate::engine::EngineOptions;
use crate::retry::Destination;
use crate::runner::{Attempted, Failure, RunnerOptions};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// How long a delivery takes.
const CALL: Duration = Duration::from_millis(10);
const REMEMBERS: Duration = Duration::from_secs(600);

/// A receiver that fails as it is told, and an engine to deliver to it.
struct World {
    engine: Engine,
    outbox: Outbox,
    receiver: Arc<Mutex<Receiver>>,
}

#[derive(Default)]
struct Receiver {
    /// Payloads as they came, and when.
    heard: Vec<(String, Instant)>,
    /// How the next deliveries of a payload fail.
    fails: HashMap<String, VecDeque<FailureClass>>,
    /// Aggregates that are being delivered to, and how many were at most.
    busy: HashSet<char>,
    busiest: usize,
}

impl Receiver {
    fn begin(&mut self, payload: &str) -> char {
        let aggregate = payload.chars().next().unwrap();
        assert!(self.busy.insert(aggregate), "two of {aggregate} at once");
        self.busiest = self.busiest.max(self.busy.len());
        self.heard.push((payload.to_owned(), Instant::now()));
        aggregate
    }
}

impl World {
    async fn new(ordered: bool, receiver_remembers_for: Option<Duration>) -> Self {
        let start = Instant::now();
        let reading = move || {
            let passed = start.elapsed();
            (Timestamp::from_millis(hapax_core::time::millis(passed)), passed)
        };
        let store = MemoryStore::new(Clock::made(reading, Duration::MAX), [0; 32]);
        let engine = Engine::new(store, EngineOptions::default(), ());
        let receiver = Arc::<Mutex<Receiver>>::default();
        let theirs = Arc::clone(&receiver);
        let sink = move |delivery: Delivery| {
            let payload = String::from_utf8(delivery.payload.to_vec()).unwrap();
            let receiver = Arc::clone(&theirs);
            async move {
                let aggregate = receiver.lock().unwrap().begin(&payload);
                sleep(CALL).await;
                let mut receiver = receiver.lock().unwrap();
                receiver.busy.remove(&aggregate);
                match receiver.fails.get_mut(&payload).and_then(VecDeque::pop_front) {
                    Some(class) => Attempted::Failed(Failure::new(class, "planted")),
                    None => Attempted::Done(Outcome::NotKept(NotKept::Discarded)),
                }
            }
        };
        let options = SinkOptions {
            ordered,
            receiver_remembers_for,
            ..SinkOptions::new(Destination::seeded(SinkOptions::policy(), 1).unwrap())
        };
        let outbox = Outbox::open(&engine, OutboxOptions::default()).await.unwrap();
        let outbox = outbox.sink(Name::new("paid").unwrap(), sink, options);
        Self {
            engine,
            outbox,
            receiver,
        }
    }

    /// Enqueues these, in this order; the first letter is the aggregate.
    async fn enqueue(&self, payloads: &[&str]) {
        for payload in payloads {
            let entered = self.outbox.enqueue_now(&effect(payload)).await;
            assert_eq!(entered.unwrap(), Entered::New);
        }
    }

    fn fails(&self, payload: &str, classes: &[FailureClass]) {
        let mut receiver = self.receiver.lock().unwrap();
        receiver.fails.insert(payload.to_owned(), classes.to_vec().into());
    }

    async fn relay_for(&self, time: Duration) {
        let relay = self.outbox.equip(Runner::new(&self.engine, RunnerOptions::default()));
        assert_eq!(relay.run(sleep(time)).await, 0, "runs were left");
    }

    /// What came of this aggregate, in its order.
    fn heard(&self, aggregate: char) -> Vec<String> {
        let receiver = self.receiver.lock().unwrap();
        let heard = receiver.heard.iter().map(|(payload, _)| payload.clone());
        heard.filter(|payload| payload.starts_with(aggregate)).collect()
    }

    async fn state(&self, payload: &str) -> StateName {
        let (_, record) = self
            .engine
            .store()
            .read(effect(payload).operation().id())
            .await
            .unwrap();
        record.unwrap().state.name()
    }

    async fn amend(&self, payload: &str, amend: Amend) {
        let audit = Audit {
            actor: "ada".to_owned(),
            reason: "looked".to_owned(),
        };
        let fence = None;
        let amendment = Amendment { amend, fence, audit };
        self.engine
            .amend(&effect(payload).operation(), amendment)
            .await
            .unwrap();
    }
}

fn effect(payload: &str) -> Effect {
    let effect = Effect::new("paid", payload, payload.to_owned()).unwrap();
    effect.aggregate(&payload[..1]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_is_delivered_as_soon_as_the_one_before_is_done() {
    let world = World::new(true, None).await;
    let all = ["a1", "b1", "a2", "c1", "b2", "a3", "c2", "a4", "b3", "a5"];
    world.enqueue(&all).await;
    let start = Instant::now();
    world.relay_for(HOUR).await;
    assert_eq!(world.heard('a'), ["a1", "a2", "a3", "a4", "a5"]);
    assert_eq!(world.heard('b'), ["b1", "b2", "b3"]);
    assert_eq!(world.heard('c'), ["c1", "c2"]);
    let receiver = world.receiver.lock().unwrap();
    assert_eq!(receiver.busiest, 3, "aggregates side by side");
    // Five calls, and no pause between them in which nobody looks.
    let last = receiver.heard.last().unwrap().1 - start;
    assert!(last < 10 * CALL, "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_holds_up_those_behind_it_and_nobody_else() {
    let world = World::new(true, None).await;
    world.fails(
        "a1",
        &[FailureClass::Ambiguous, FailureClass::Throttled, FailureClass::Unsent],
    );
    world.enqueue(&["a1", "a2", "b1", "a3", "b2"]).await;
    world.relay_for(HOUR).await;
    assert_eq!(world.heard('a'), ["a1", "a1", "a1", "a1", "a2", "a3"]);
    assert_eq!(world.heard('b'), ["b1", "b2"]);
    let receiver = world.receiver.lock().unwrap();
    let when = |what: &str| {
        receiver
            .heard
            .iter()
            .rev()
            .find(|(payload, _)| payload == what)
            .unwrap()
            .1
    };
    assert!(when("b2") < when("a1"), "{:?}", receiver.heard);
    assert!(when("a3") - when("a1") < 10 * CALL, "{:?}", receiver.heard);
}

#[tokio::test(start_paused = true)]
async fn a_dead_one_holds_up_those_behind_it_until_it_is_redriven_resolved_or_discarded() {
    let done = || Resolution::Done(Outcome::NotKept(NotKept::Discarded));
    let settle = Duration::ZERO;
    for (amend, heard) in [
        (Amend::Redrive, &["a1", "a1", "a2", "a3"][..]),
        (Amend::Discard, &["a1", "a2", "a3"]),
        (
            Amend::Resolve {
                resolution: done(),
                settle,
            },
            &["a1", "a2", "a3"],
        ),
    ] {
        let world = World::new(true, None).await;
        world.fails("a1", &[FailureClass::Final]);
        world.enqueue(&["a1", "a2", "b1", "a3"]).await;
        world.relay_for(HOUR).await;
        assert_eq!((world.heard('a'), world.heard('b').len()), (vec!["a1".to_owned()], 1));
        assert_eq!(world.state("a1").await, StateName::Dead);
        assert_eq!(world.state("a2").await, StateName::Waiting);
        world.amend("a1", amend.clone()).await;
        world.relay_for(10 * SECOND).await;
        assert_eq!(world.heard('a'), heard, "{amend:?}");
        for payload in ["a1", "a2", "a3"] {
            assert_eq!(world.state(payload).await, StateName::Done, "{amend:?}: {payload}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_one_holds_up_those_behind_it_until_a_person_settles_it() {
    let world = World::new(true, Some(REMEMBERS)).await;
    world.fails("a1", &[FailureClass::Ambiguous; 100]);
    world.enqueue(&["a1", "a2"]).await;
    world.relay_for(20 * REMEMBERS).await;
    assert_eq!(world.state("a1").await, StateName::Unknown);
    let sent = world.heard('a');
    assert!(sent.iter().all(|payload| payload == "a1"), "{sent:?}");
    let resolution = Resolution::Done(Outcome::NotKept(NotKept::Discarded));
    let settle = Duration::ZERO;
    world.amend("a1", Amend::Resolve { resolution, settle }).await;
    world.relay_for(10 * SECOND).await;
    assert_eq!(world.heard('a')[sent.len()..], ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn without_order_nobody_waits_for_a_dead_one() {
    let world = World::new(false, None).await;
    world.fails("a1", &[FailureClass::Final]);
    world.enqueue(&["a1", "b1"]).await;
    world.relay_for(10 * SECOND).await;
    world.enqueue(&["a2"]).await;
    world.relay_for(10 * SECOND).await;
    assert_eq!(world.state("a1").await, StateName::Dead);
    assert_eq!(world.heard('a'), ["a1", "a2"]);
}
