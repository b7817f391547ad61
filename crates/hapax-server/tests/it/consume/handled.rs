//! What becomes of a message, by what it says and by what the endpoint answers.

use super::endpoint::Endpoint;
use super::{World, came, metric, stop};

#[test]
fn a_message_is_posted_once_with_what_makes_its_handling_idempotent() {
    let world = World::new(Endpoint::start(|_, _| "204 Taken"));
    let relay = world.relay();
    for _ in 0..3 {
        world.publish_with(
            &[
                ("Event-Id", "e-1"),
                ("ce-source", "/shop"),
                ("traceparent", "00-1-2-03"),
                ("Authorization", "Bearer forged"),
            ],
            b"{\"order\": 7}",
        );
    }
    world.publish_with(
        &[("Event-Id", "e-2"), ("Content-Type", "image/png")],
        b"\x89PNG\r\n\xff",
    );
    let posts = world.endpoint.wait_for(2);
    world.acknowledged();
    relay.wait_for_metric(&came("done"), 2.0);
    relay.wait_for_metric(&came("duplicate"), 2.0);
    assert_eq!(world.endpoint.count(), 2, "{posts:?}");

    let post = posts.iter().find(|post| post.key() == "e-1").unwrap();
    assert_eq!((post.path(), &post.body[..]), ("/points?v=1", &b"{\"order\": 7}"[..]));
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "e-1"),
        ("ce-source", "/shop"),
        ("ce-type", &format!("{}.paid", world.stream)),
        ("traceparent", "00-1-2-03"),
        ("event-id", "e-1"),
    ] {
        assert_eq!(post.header(name), Some(value), "{name}: {post:?}");
    }
    assert!(
        post.header("ce-time").is_some_and(|time| time.ends_with('Z')),
        "{post:?}"
    );
    assert_eq!(post.header("authorization"), None);
    let operation = post.header("hapax-operation").unwrap();
    assert!(
        operation.len() == 32 && operation.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{operation}"
    );
    let fence: u64 = post.header("hapax-fence").unwrap().parse().unwrap();
    assert!(fence > 0);

    let post = posts.iter().find(|post| post.key() == "e-2").unwrap();
    assert_eq!(post.header("content-type"), Some("image/png"));
    assert_eq!(post.body, b"\x89PNG\r\n\xff", "as it was published");
    assert!(world.dead().is_empty());
    stop(relay.process);
}

#[test]
fn what_can_never_be_handled_is_a_dead_letter_that_says_why() {
    let world = World::new(Endpoint::start(|post, _| match &post.body[..] {
        b"unwanted" => "422 Unwanted",
        _ => "204 Taken",
    }));
    world.configure("message = \"1KiB\"", "");
    let relay = world.relay();
    world.publish("e-1", "{\"order\": 7}");
    relay.wait_for_metric(&came("done"), 1.0);
    world.publish("e-1", "{\"order\": 8}");
    world.publish("e-2", "unwanted");
    world.publish_with(&[("Other-Id", "x")], b"nameless");
    world.publish("e-3", &"x".repeat(1025));
    relay.wait_for_metric(&came("dead"), 4.0);
    relay.wait_for_metric(&metric("dead_total"), 4.0);
    world.acknowledged();
    assert_eq!(world.endpoint.count(), 2);

    let dead = world.dead();
    assert_eq!(dead.len(), 4, "{dead:?}");
    let mut payloads = Vec::new();
    for (reason, says, payload) in [
        (
            "mismatch",
            "a message with the identity \"e-1\" was handled before, with another payload",
            "{\"order\": 8}",
        ),
        ("refused", "status 422", "unwanted"),
        (
            "refused",
            "the message has no identity: looked for header:Event-Id",
            "nameless",
        ),
        (
            "refused",
            "the payload has 1025 bytes, and this consumer takes 1024 at most",
            "xxx",
        ),
    ] {
        let found = dead
            .iter()
            .find(|letter| letter["last_error"].as_str().is_some_and(|said| said.contains(says)))
            .unwrap_or_else(|| panic!("no {says:?}: {dead:?}"));
        assert_eq!(found["reason"], reason, "{found}");
        let shown = world.hapax(&["dead", "show", found["key"].as_str().unwrap()]);
        assert!(shown.code == 0 && shown.stdout.contains("input_bytes"), "{shown:?}");
        payloads.push(payload);
    }
    // Their payloads are there: a person may have them posted after all.
    let redrive = ["dead", "redrive", "--all", "--reason", "tried", "--actor", "ann"];
    let redriven = world.hapax(&redrive);
    assert_eq!(redriven.code, 0, "{redriven:?}");
    let posts = world.endpoint.wait_for(6);
    for payload in payloads {
        let found = posts[2..].iter().any(|post| post.body.starts_with(payload.as_bytes()));
        assert!(found, "{payload} was not posted: {:?}", world.dead());
    }
    stop(relay.process);
}
