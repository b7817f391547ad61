//! Brokers that are away or refuse, and messages that make no sense.

use std::sync::Mutex;

use hapax_testbed::{FreePort, Nats};
use serde_json::json;

use super::endpoint::Endpoint;
use super::nats::Client;
use super::{World, came, metric, stop, until};

fn taken() -> Endpoint {
    Endpoint::start(|_, _| "204 Taken")
}

#[test]
fn what_is_no_json_is_a_dead_letter_and_the_next_is_handled() {
    let world = World::new(taken());
    world.configure("identity = \"json:/event/id\"", "");
    let relay = world.relay();
    for payload in ["{\"event\":", "", "{\"event\":{}}", "{\"event\":{\"id\":\"e-1\"}}"] {
        world.publish_with(&[], payload.as_bytes());
    }
    relay.wait_for_metric(&came("dead"), 3.0);
    relay.wait_for_metric(&came("done"), 1.0);
    world.acknowledged();
    let dead = world.dead();
    for letter in &dead {
        let said = letter["last_error"].as_str().unwrap();
        assert!(said.contains("looked for json:/event/id"), "{said}");
    }
    assert_eq!((dead.len(), world.endpoint.posts()[0].key()), (3, "e-1"));
    // The command that is printed can be pasted: the key has a space.
    let key = dead[0]["key"].as_str().unwrap();
    let shown = world.hapax(&["dead", "show", key]).stdout;
    assert!(
        shown.contains(&format!("hapax dead redrive '{key}' --reason")),
        "{shown}"
    );
    stop(relay.process);
}

#[test]
fn a_stream_that_is_missing_is_named_and_waited_for() {
    let world = World::new(taken());
    let stream = format!("{}-LATER", world.stream);
    let from = format!("from = \"nats://{}\"\nstream = \"{stream}\"", world.address);
    world.configure_from(&from, "");
    let relay = world.relay();
    relay.process.wait_for_log("the broker refuses a consumer");
    relay.process.wait_for_log(&stream);
    let log = relay.process.log();
    assert!(log.contains("nats stream add"), "{log}");
    assert!(relay.metric(&metric("broker_failures_total")) >= 1.0);
    let mut client = Client::connect(&world.address);
    client.stream(&stream, &[&format!("{stream}.>")], &[]);
    client.publish(&format!("{stream}.x"), &[("Event-Id", "e-1")], b"{}");
    world.endpoint.wait_for(1);
    stop(relay.process);
}

#[test]
fn a_broker_that_is_away_is_waited_for_and_one_that_restarts_loses_nothing() {
    let mut nats = Nats::start();
    let mut world = World::at(&nats.address(), taken());
    nats.kill();
    let relay = world.relay();
    relay
        .process
        .wait_for_log("a consumer's broker is away; it is tried again");
    nats.restart();
    world.client = Mutex::new(Client::connect(&nats.address()));
    for round in 0..3 {
        for number in 0..20 {
            world.publish(&format!("{round}-{number}"), "{}");
        }
        world.endpoint.wait_for(20 * round + 5);
        nats.kill();
        nats.restart();
        world.client = Mutex::new(Client::connect(&nats.address()));
    }
    until("all done", || world.in_state("done").len() == 60);
    assert_eq!((world.endpoint.count(), world.dead().len()), (60, 0), "each once");
    stop(relay.process);
}

#[test]
fn a_login_that_is_wrong_is_said_without_the_password() {
    use std::os::unix::fs::PermissionsExt;
    let nats = Nats::start_with_login("shop", "right");
    let world = World::new(taken());
    let secret = world.directory.path().join("broker.secret");
    std::fs::write(&secret, "shop:wr0ng\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let from = format!(
        "from = \"nats://{}\"\nstream = \"S\"\nsecret_file = \"{}\"",
        nats.address(),
        secret.display()
    );
    world.configure_from(&from, "");
    let relay = world.relay();
    relay.process.wait_for_log("the broker refuses a consumer");
    let log = relay.process.log();
    assert!(log.contains("secret_file") || log.contains("user"), "{log}");
    assert!(!log.contains("wr0ng"), "{log}");
    stop(relay.process);
}

#[test]
fn a_stream_that_keeps_messages_for_longer_than_they_are_remembered_is_refused() {
    let world = World::new(taken());
    let day = 86_400_000_000_000_u64;
    let stream = format!("{}-OLD", world.stream);
    let subject = format!("{stream}.>");
    let mut client = Client::connect(&world.address);
    client.stream(&stream, &[&subject], &[("max_age", json!(40 * day))]);
    client.publish(&format!("{stream}.x"), &[("Event-Id", "e-1")], b"{}");
    let from = format!("from = \"nats://{}\"\nstream = \"{stream}\"", world.address);
    world.configure_from(&from, "");
    let mut process = world.process(None);
    assert_eq!(process.wait().code(), Some(2), "{}", process.log());
    let log = process.log();
    for text in ["consumer points", "40d", "30d", "remember_for"] {
        assert!(log.contains(text), "no {text:?}: {log}");
    }
    assert_eq!(world.endpoint.count(), 0);
    world.configure_from(&format!("{from}\nremember_for = \"40d\""), "");
    let relay = world.relay();
    world.endpoint.wait_for(1);
    stop(relay.process);
}

#[test]
fn an_address_where_nobody_listens_is_named() {
    let world = World::new(taken());
    let port = FreePort::take();
    for (scheme, place) in [
        ("nats", "stream = \"S\""),
        ("amqp", "queue = \"q\""),
        ("kafka", "topic = \"t\""),
        ("redis", "stream = \"s\""),
    ] {
        world.configure_from(&format!("from = \"{scheme}://{}\"\n{place}", port.address()), "");
        let relay = world.relay();
        relay
            .process
            .wait_for_log("a consumer's broker is away; it is tried again");
        let log = relay.process.log();
        assert!(log.contains(&port.address().to_string()), "{scheme}: {log}");
        stop(relay.process);
    }
}
