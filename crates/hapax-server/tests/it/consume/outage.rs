//! The endpoint is away: messages stay at the broker, nobody dies, and all of it can be seen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;

use super::endpoint::Endpoint;
use super::{World, came, metric, stop, until};

const FEW: &str = "concurrency = 4\nprefetch = 8";
const BREAKER: &str = "breaker_minimum_calls = 4\nbreaker_open = \"200ms\"\nbreaker_open_at_most = \"200ms\"\n\
                       breaker_ramp = \"200ms\"";

#[test]
fn an_endpoint_that_is_away_leaves_the_messages_at_the_broker() {
    let away = Arc::new(AtomicBool::new(true));
    let theirs = Arc::clone(&away);
    let world = World::new(Endpoint::start(move |_, _| match theirs.load(SeqCst) {
        true => "503 Down\r\nRetry-After: 0",
        false => "204 Taken",
    }));
    world.configure(FEW, BREAKER);
    for number in 0..60 {
        world.publish(&format!("e-{number}"), "{}");
    }
    let relay = world.relay();
    relay.wait_for_metric(&metric("paused"), 1.0);
    relay.process.wait_for_log("nothing is taken from the broker for now");
    for number in 60..100 {
        world.publish(&format!("e-{number}"), "{}");
    }
    // Told while it is paused, too: 100 without what waits in records.
    until("a lag that grows", || relay.metric(&metric("lag")) > 60.0);
    assert!(relay.metric(&metric("lag_oldest_seconds")) > 0.0, "{}", relay.metrics());
    let (pending, in_hand) = world.at_the_broker();
    assert!(pending + in_hand > 60, "{pending} and {in_hand} at the broker");
    assert!(world.dead().is_empty() && world.in_state("unknown").is_empty());

    away.store(false, SeqCst);
    until("all done", || world.in_state("done").len() == 100);
    world.acknowledged();
    relay.wait_for_metric(&metric("paused"), 0.0);
    relay.process.wait_for_log("messages are taken again");
    let keys: BTreeSet<_> = world
        .endpoint
        .posts()
        .iter()
        .map(|post| post.key().to_owned())
        .collect();
    assert_eq!((keys.len(), world.dead().len()), (100, 0));
    stop(relay.process);
}

#[test]
fn metrics_say_what_messages_came_to() {
    let world = World::new(Endpoint::start(|post, times| match (&post.body[..], times) {
        (b"unwanted", _) => "422 Unwanted",
        (b"fails", 1) => "500 Failed",
        _ => "204 Taken",
    }));
    // One at a time: the copy comes when the first is done.
    world.configure("after_failure = \"retry\"\nconcurrency = 1", "");
    for (id, payload) in [
        ("e-1", "one"),
        ("e-2", "fails"),
        ("e-3", "three"),
        ("e-1", "one"),
        ("e-4", "unwanted"),
    ] {
        world.publish(id, payload);
    }
    let relay = world.relay();
    for (name, value) in [
        (came("done"), 2.0),
        (came("duplicate"), 1.0),
        (came("waiting"), 1.0),
        (came("dead"), 1.0),
        (came("unknown"), 0.0),
        (came("again"), 0.0),
        (metric("received_total"), 5.0),
        (metric("redelivered_total"), 0.0),
        (metric("retries_total"), 1.0),
        (metric("dead_total"), 1.0),
        (metric("broker_failures_total"), 0.0),
        (metric("paused"), 0.0),
        // As it was asked for at the start.
        (metric("lag"), 5.0),
    ] {
        relay.wait_for_metric(&name, value);
    }
    assert!(relay.metric(&metric("lag_oldest_seconds")) > 0.0);
    until("the one that failed", || world.in_state("done").len() == 3);
    stop(relay.process);
}

#[test]
fn a_stop_lets_handlers_end_and_gives_back_the_rest() {
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let world = World::new(Endpoint::start(move |_, _| {
        // Once the sender is dropped, nobody waits.
        let _ = gate.lock().unwrap().recv();
        "204 Taken"
    }));
    world.configure("concurrency = 1\nprefetch = 4", "");
    for number in 0..10 {
        world.publish(&format!("e-{number}"), "{}");
    }
    let mut relay = world.relay();
    world.endpoint.wait_for(1);
    relay.process.signal(rustix::process::Signal::TERM);
    relay.process.wait_for_log("stopping");
    drop(release);
    let status = relay.process.wait();
    assert!(status.success(), "{}", relay.process.log());
    assert_eq!((world.endpoint.count(), world.in_state("done").len()), (1, 1));
    let relay = world.relay();
    until("all done", || world.in_state("done").len() == 10);
    world.acknowledged();
    assert_eq!(world.endpoint.count(), 10, "each once");
    assert_eq!(relay.metric(&came("duplicate")), 0.0, "what was done was acknowledged");
    stop(relay.process);
}
