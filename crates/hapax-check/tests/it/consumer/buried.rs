//! A burial that is cut off: the message is claimed, and whoever was to make it a dead letter dies.

use std::time::Duration;

use hapax::consume::{ConsumerOptions, Message};
use hapax::core::{
    AfterFailure, Amend, Amendment, AttemptId, Audit, Claim, DeadReason, Filter, Record, Starter, State, Store,
    Timestamp,
};
use hapax_check::faulty::Faults;
use tokio::time::sleep;

use super::{MINUTE, START, World, at_once, done, options};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn narrow() -> ConsumerOptions {
    ConsumerOptions {
        message_bytes: 100,
        remember_for: 2 * DAY,
        ..options(3)
    }
}

fn publish_old(world: &World) {
    let published = Timestamp::from_millis(START - 3 * 24 * 3_600_000);
    let published = Some(published);
    let message = Message::new("", "old").header("Id", "old");
    world.queue.publish(Message { published, ..message });
}

/// One dead letter of each kind that is not run.
async fn buried() -> Vec<Record> {
    let world = World::new();
    let running = world.start(narrow(), at_once(|_, _| done()));
    world.publish("first", "one");
    world.empty().await;
    world.publish("first", "another");
    world.publish("large", &"x".repeat(101));
    world.queue.publish(Message::new("", "nameless"));
    publish_old(&world);
    world.empty().await;
    running.stop().await;
    assert_eq!(world.ran(), ["one"]);
    let mut records = Vec::new();
    for listed in world.store.list(Filter::default(), None, 100).await.unwrap().records {
        let (_, record) = world.store.read(listed.operation.id()).await.unwrap();
        records.extend(record.filter(|record| matches!(record.state, State::Dead { .. })));
    }
    assert_eq!(records.len(), 4, "{records:?}");
    records
}

/// What the first of two steps leaves.
async fn claim(world: &World, record: &Record, number: u8) {
    let claim = Claim {
        operation: record.operation.clone(),
        fingerprint: record.fingerprint,
        attempt: AttemptId::from_bytes([number; 16]),
        starter: Starter::System,
        lease: Duration::from_secs(30),
        max_run: 15 * MINUTE,
        after_failure: AfterFailure::Retry,
        attended: true,
        retention: record.retention,
        input: record.input.clone(),
        group: None,
    };
    world.store.claim(claim).await.unwrap();
}

async fn read(world: &World, record: &Record) -> Record {
    world.store.read(record.operation.id()).await.unwrap().1.unwrap()
}

async fn redrive(world: &World, record: &Record) {
    let audit = Audit {
        actor: "ada".to_owned(),
        reason: "looked into it".to_owned(),
    };
    let amendment = Amendment {
        amend: Amend::Redrive,
        fence: None,
        audit,
    };
    world.store.amend(record.operation.id(), amendment).await.unwrap();
}

/// Without its numbers: ages differ by a moment.
fn said(record: &Record) -> String {
    let said = record.last_error.as_ref().unwrap().as_str();
    said.split_once(", and").map_or(said, |(_, rest)| rest).to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_burial_that_is_cut_off_is_ended_and_runs_nothing() {
    let records = buried().await;
    let world = World::new();
    for (number, record) in (0..).zip(&records) {
        claim(&world, record, number).await;
    }
    // Its message comes again, and may be first.
    publish_old(&world);
    let running = world.start(narrow(), at_once(|_, _| done()));
    world.empty().await;
    sleep(10 * MINUTE).await;
    assert_eq!(world.ran(), [""; 0]);
    for record in &records {
        let now = read(&world, record).await;
        assert!(matches!(now.state, State::Dead { .. }), "{now:?}");
        assert_eq!(said(&now), said(record));
    }
    // A person knows better.
    for record in &records {
        redrive(&world, record).await;
    }
    sleep(10 * MINUTE).await;
    running.stop().await;
    assert_eq!(world.ran().len(), records.len());
    for record in &records {
        assert!(matches!(read(&world, record).await.state, State::Done(_)));
    }
    let reasons = |of: DeadReason| {
        let is = |record: &&Record| matches!(record.state, State::Dead { reason, .. } if reason == of);
        records.iter().filter(is).count()
    };
    assert_eq!((reasons(DeadReason::Mismatch), reasons(DeadReason::Refused)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_redriven_burial_waits_for_a_store_that_cannot_say_that_it_was_redriven() {
    let records = buried().await;
    let world = World::new();
    for (number, record) in (0..).zip(&records) {
        claim(&world, record, number).await;
    }
    let running = world.start(narrow(), at_once(|_, _| done()));
    sleep(10 * MINUTE).await;
    running.stop().await;
    for record in &records {
        redrive(&world, record).await;
    }
    let running = world.start(narrow(), at_once(|_, _| done()));
    let faults = Faults {
        failed: 500,
        ..Faults::default()
    };
    world.store.set(faults);
    sleep(10 * MINUTE).await;
    world.store.set(Faults::default());
    sleep(10 * MINUTE).await;
    running.stop().await;
    for record in &records {
        let now = read(&world, record).await;
        assert!(matches!(now.state, State::Done(_)), "{now:?}");
    }
}
