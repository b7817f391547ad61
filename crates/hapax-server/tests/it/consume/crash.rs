//! The relay is killed at every step between taking a message and telling its broker.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use serde_json::json;

use super::endpoint::Endpoint;
use super::{World, stop, until};

/// Messages of a round.
const EACH: u32 = 6;
const PLACES: [&str; 8] = [
    "before-claim",
    "claim-written",
    "before-upstream",
    "after-upstream",
    "before-finish",
    "after-finish",
    "before-ack",
    "after-ack",
];

fn kills() -> u32 {
    std::env::var("HAPAX_CRASH_KILLS").map_or(10, |kills| kills.parse().expect("a number of kills"))
}

fn world(lines: &str) -> World {
    let world = World::new(Endpoint::start(|_, _| "204 Taken"));
    world.configure(&format!("lease = \"500ms\"\n{lines}"), "");
    // What a killed relay had in hand comes again after a second.
    let config = json!({
        "durable_name": "points", "ack_policy": "explicit", "ack_wait": 1_000_000_000_u64, "deliver_policy": "all",
        "max_deliver": -1,
    });
    let (create, question) = (
        format!("$JS.API.CONSUMER.CREATE.{}.points", world.stream),
        json!({"stream_name": world.stream, "config": config}),
    );
    world.client.lock().unwrap().ask(&create, &question);
    world
}

/// Publishes some messages, and lets the relay be killed at the place.
fn kill(world: &World, place: &str, round: u32) -> BTreeSet<String> {
    let keys: BTreeSet<_> = (0..EACH).map(|number| format!("{place}-{round}-{number}")).collect();
    keys.iter().for_each(|key| world.publish(key, key));
    let mut process = world.process(Some(&format!("{place}:{}", 1 + (round * 5) % EACH)));
    let status = process.wait();
    assert_eq!(status.signal(), Some(9), "{place}: {status:?}: {}", process.log());
    keys
}

#[test]
fn crash_retry_nothing_is_lost_and_what_is_posted_twice_has_the_same_key() {
    let world = world("after_failure = \"retry\"");
    let mut all = BTreeSet::new();
    let started = Instant::now();
    for round in 0..kills() {
        for place in PLACES {
            all.extend(kill(&world, place, round));
        }
    }
    let last = world.process(None);
    until("all done", || world.in_state("done").len() == all.len());
    world.acknowledged();
    stop(last);
    let posts = world.endpoint.posts();
    let mut fences: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for post in &posts {
        assert_eq!(post.key().as_bytes(), post.body, "a message has one key");
        let fence = post.header("hapax-fence").unwrap().parse().unwrap();
        fences.entry(post.key().to_owned()).or_default().push(fence);
    }
    assert_eq!(
        fences.keys().cloned().collect::<BTreeSet<_>>(),
        all,
        "none is missing, none is made up"
    );
    for (key, fences) in &fences {
        assert!(
            fences.is_sorted_by(|one, next| one < next),
            "{key}: each run has a higher fence: {fences:?}"
        );
    }
    // Those that a kill found between the answer and the finish.
    assert!(posts.len() > all.len(), "no kill came between posting and finishing");
    assert!(world.dead().is_empty() && world.in_state("unknown").is_empty());
    report("retry", all.len(), posts.len(), started.elapsed());
}

#[test]
fn crash_hold_a_kill_in_the_middle_is_unknown_and_is_not_run_again() {
    let world = world("after_failure = \"hold\"");
    let mut all = BTreeSet::new();
    let started = Instant::now();
    for round in 0..kills() {
        for place in PLACES {
            all.extend(kill(&world, place, round));
        }
    }
    let last = world.process(None);
    until("all settled", || {
        world.in_state("done").len() + world.in_state("unknown").len() == all.len()
    });
    world.acknowledged();
    stop(last);
    let posts = world.endpoint.posts();
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    posts.iter().for_each(|post| *times.entry(post.key()).or_default() += 1);
    assert!(times.values().all(|times| *times == 1), "nothing was posted twice");
    let unknown = world.in_state("unknown");
    assert!(unknown.len() >= kills() as usize, "{} unknown", unknown.len());
    for record in world.in_state("done") {
        assert!(
            times.contains_key(record["key"].as_str().unwrap()),
            "done, and never posted: {record}"
        );
    }
    report("hold", all.len(), posts.len(), started.elapsed());
}

/// It only passes messages on: whoever is in hand when it is killed is not poison.
#[test]
fn crash_a_message_is_not_to_blame_for_the_relay() {
    let world = world("after_failure = \"retry\"");
    world.publish("e-1", "{}");
    for _ in 0..5 {
        let status = world.process(Some("before-upstream:1")).wait();
        assert_eq!(status.signal(), Some(9), "{status:?}");
    }
    let last = world.process(None);
    until("done", || world.in_state("done").len() == 1);
    assert!(!last.log().contains("may have crashed"), "{}", last.log());
    assert_eq!((world.endpoint.count(), world.dead().len()), (1, 0));
    world.acknowledged();
    stop(last);
}

#[expect(clippy::print_stdout, reason = "a test's report")]
fn report(mode: &str, messages: usize, posts: usize, took: Duration) {
    let kills = kills() as usize * PLACES.len();
    println!("consumer, {mode}: {kills} kills, {messages} messages, {posts} posts, {took:.1?}");
}
