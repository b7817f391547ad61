//! Requests that a runner runs, without their callers.

use serde_json::Value;

use super::{Attempt, World, is_recorded};
use crate::support::{Ask, Gateway};

fn accept(gateway: &Gateway, key: &str) {
    let accepted = gateway.send(&Ask::order(key, 1).header("Prefer", "respond-async"));
    assert_eq!(accepted.status, 202, "{accepted:?}");
}

/// Waits until the operation is in this state.
#[track_caller]
fn wait_for(gateway: &Gateway, key: &str, state: &str) {
    let until = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let status = gateway.send(&Ask::get(&format!("/.hapax/operations/{key}")));
        let status: Value = serde_json::from_str(&status.body).unwrap();
        if status["state"] == state {
            return;
        }
        assert!(std::time::Instant::now() < until, "never {state}: {status}");
    }
}

#[test]
fn what_says_no_effect_is_made_sure_of() {
    let world = World::new();
    let gateway = world.gateway(&["--respond-async"]);
    accept(&gateway, "committed");
    let held = world.backend.next();
    world.commit(&Attempt::of(&held.text)).unwrap();
    held.say("429 Too Many Requests", "");
    wait_for(&gateway, "committed", "done");
    is_recorded(&gateway.send(&Ask::order("committed", 1)));

    accept(&gateway, "throttled");
    let held = world.backend.next();
    let stale = Attempt::of(&held.text);
    held.say("429 Too Many Requests", "");
    let held = world.backend.next();
    let error = world.commit(&stale).unwrap_err();
    assert!(error.contains("sealed"), "{error}");
    world.commit(&Attempt::of(&held.text)).unwrap();
    held.answer(r#"{"id":7}"#);
    wait_for(&gateway, "throttled", "done");
    assert_eq!((world.orders(), world.backend.held()), (2, 0));
}

#[test]
fn what_proves_nothing_is_settled_and_run_again() {
    let world = World::new();
    let gateway = world.gateway(&["--respond-async"]);
    accept(&gateway, "committed");
    let held = world.backend.next();
    world.commit(&Attempt::of(&held.text)).unwrap();
    held.fail();
    wait_for(&gateway, "committed", "done");
    is_recorded(&gateway.send(&Ask::order("committed", 1)));

    accept(&gateway, "lost");
    let held = world.backend.next();
    let stale = Attempt::of(&held.text);
    drop(held);
    // Nobody asks: the runner settles it, and runs it.
    let held = world.backend.next();
    assert!(world.commit(&stale).is_err());
    world.commit(&Attempt::of(&held.text)).unwrap();
    held.answer("made");
    wait_for(&gateway, "lost", "done");
    assert_eq!((world.orders(), world.backend.held()), (2, 0));
}
