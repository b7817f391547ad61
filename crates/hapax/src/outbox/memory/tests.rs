//! Receivers that forget, in virtual time.

use std::sync::{Arc, Mutex};

use hapax_core::{Amend, Amendment, Audit, Name, NotKept, Outcome, Resolution, StateName};
use hapax_store::{Clock, MemoryStore};
use tokio::time::{Duration, Instant, sleep};

use super::*;
use crate::engine::EngineOptions;
use crate::outbox::{Delivery, Effect, Outbox, OutboxOptions, SinkOptions};
use crate::retry::Destination;
use crate::runner::{Runner, RunnerOptions};

const REMEMBERS: Duration = Duration::from_secs(600);

#[test]
fn a_mark_is_read_as_it_is_written() {
    let since = Timestamp::from_millis(1_795_590_000_123);
    assert_eq!(mark_of(&format!("{}status 503", marked(since))), Some(since));
    for text in [
        "",
        "status 503",
        "may have arrived since noon: x",
        "may have arrived since noon (x): y",
    ] {
        assert_eq!(mark_of(text), None, "{text}");
    }
}

/// A receiver whose answers are what `class` says, until it is `None`.
async fn world(class: Arc<Mutex<Option<FailureClass>>>) -> (Engine, Outbox, Arc<Mutex<Vec<Delivery>>>) {
    let start = Instant::now();
    let reading = move || {
        (
            Timestamp::from_millis(hapax_core::time::millis(start.elapsed())),
            start.elapsed(),
        )
    };
    let store = MemoryStore::new(Clock::made(reading, Duration::MAX), [0; 32]);
    let engine = Engine::new(store, EngineOptions::default(), ());
    let heard = Arc::<Mutex<Vec<Delivery>>>::default();
    let theirs = Arc::clone(&heard);
    let sink = move |delivery: Delivery| {
        theirs.lock().unwrap().push(delivery);
        let class = *class.lock().unwrap();
        async move {
            match class {
                Some(class) => Attempted::Failed(Failure::new(class, "status 500")),
                None => Attempted::Done(Outcome::NotKept(NotKept::Discarded)),
            }
        }
    };
    let mut policy = SinkOptions::policy();
    policy.breaker.minimum_calls = 1000;
    let options = SinkOptions {
        receiver_remembers_for: Some(REMEMBERS),
        ..SinkOptions::new(Destination::seeded(policy, 1).unwrap())
    };
    let name = Name::new("paid").unwrap();
    let outbox = Outbox::open(&engine, OutboxOptions::default())
        .await
        .unwrap()
        .sink(name, sink, options);
    (engine, outbox, heard)
}

async fn state(engine: &Engine, effect: &Effect) -> StateName {
    let (_, record) = engine.store().read(effect.operation().id()).await.unwrap();
    record.unwrap().state.name()
}

async fn relay_for(engine: &Engine, outbox: &Outbox, time: Duration) {
    let relay = outbox.equip(Runner::new(engine, RunnerOptions::default()));
    relay.run(sleep(time)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_doubt_is_repeated_until_the_receiver_forgets_and_then_unknown() {
    let class = Arc::new(Mutex::new(Some(FailureClass::Ambiguous)));
    let (engine, outbox, heard) = world(Arc::clone(&class)).await;
    let effect = Effect::new("paid", "k", "{}").unwrap();
    outbox.enqueue_now(&effect).await.unwrap();
    relay_for(&engine, &outbox, 20 * REMEMBERS).await;
    assert_eq!(state(&engine, &effect).await, StateName::Unknown);
    let sent = heard.lock().unwrap().clone();
    assert!(sent.len() > 3, "{}", sent.len());
    assert!(sent.iter().all(|delivery| delivery.key == sent[0].key));
    let last = sent.last().unwrap().now.since(sent[0].now);
    assert!(last < REMEMBERS, "{last:?}");

    // A person has looked: it did not arrive.
    let amendment = Amendment {
        amend: Amend::Resolve {
            resolution: Resolution::NotDone,
            settle: Duration::ZERO,
        },
        fence: None,
        audit: Audit {
            actor: "ada".to_owned(),
            reason: "looked".to_owned(),
        },
    };
    engine.amend(&effect.operation(), amendment).await.unwrap();
    *class.lock().unwrap() = None;
    relay_for(&engine, &outbox, REMEMBERS).await;
    assert_eq!(state(&engine, &effect).await, StateName::Done);
    assert_eq!(heard.lock().unwrap().len(), sent.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_sent_however_late() {
    let class = Arc::new(Mutex::new(Some(FailureClass::Unsent)));
    let (engine, outbox, _) = world(Arc::clone(&class)).await;
    let effect = Effect::new("paid", "k", "{}").unwrap();
    outbox.enqueue_now(&effect).await.unwrap();
    relay_for(&engine, &outbox, 5 * REMEMBERS).await;
    assert_eq!(state(&engine, &effect).await, StateName::Waiting);
    *class.lock().unwrap() = None;
    relay_for(&engine, &outbox, 20 * REMEMBERS).await;
    assert_eq!(state(&engine, &effect).await, StateName::Done);
}
