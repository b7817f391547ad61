//! Does the backend write receipts? What nobody has said is believed once it was seen.

use super::{Attempt, World, is_recorded};
use crate::support::{Answer, Ask, Gateway};

const FOUND: &str = r#"hapax_receipts_checked_total{receipt="found"}"#;
const MISSING: &str = r#"hapax_receipts_checked_total{receipt="missing"}"#;

/// An operation that is answered 201, with a receipt or without.
fn run(world: &World, gateway: &Gateway, key: &str, with_receipt: bool) {
    let mut asked = Ask::order(key, 1).start(gateway.addr);
    let held = world.backend.next();
    if with_receipt {
        world.commit(&Attempt::of(&held.text)).unwrap();
    }
    held.answer("made");
    assert_eq!(Answer::read(&mut asked).status, 201);
}

/// An operation that fails in a way that proves nothing.
fn fail(world: &World, gateway: &Gateway, key: &str) -> Attempt {
    let mut asked = Ask::order(key, 1).start(gateway.addr);
    let held = world.backend.next();
    let attempt = Attempt::of(&held.text);
    held.fail();
    assert_eq!(Answer::read(&mut asked).status, 500);
    attempt
}

#[track_caller]
fn is_unknown(gateway: &Gateway, key: &str) {
    let told = gateway.send(&Ask::order(key, 1));
    assert_eq!((told.status, told.problem().as_str()), (409, "outcome-unknown"));
}

#[test]
fn before_a_receipt_was_seen_its_lack_proves_nothing() {
    let world = World::new();
    let gateway = world.believing(&[]);
    let late = fail(&world, &gateway, "late");
    fail(&world, &gateway, "lost");
    is_unknown(&gateway, "late");
    // Nothing was sealed, so that what is late can still commit: and is a receipt of this name.
    world.commit(&late).unwrap();
    is_recorded(&gateway.send(&Ask::order("late", 1)));
    let address = gateway.addr;
    let retry = std::thread::spawn(move || Ask::order("lost", 1).send(address));
    let held = world.backend.next();
    world.commit(&Attempt::of(&held.text)).unwrap();
    held.answer("made");
    assert_eq!(retry.join().unwrap().status, 201);
    assert_eq!(world.orders(), 2);
}

#[test]
fn a_backend_that_answers_and_leaves_none_is_not_believed() {
    let world = World::new();
    let gateway = world.believing(&[]);
    run(&world, &gateway, "with", true);
    gateway.wait_for_metric(FOUND, 1.0);
    for key in ["without", "neither"] {
        run(&world, &gateway, key, false);
        assert!(gateway.send(&Ask::order(key, 1)).is_replay(), "it is done all the same");
    }
    gateway.wait_for_metric(MISSING, 2.0);
    assert_eq!(gateway.process.log().matches("left no receipt").count(), 1, "said once");
    let attempt = fail(&world, &gateway, "lost");
    is_unknown(&gateway, "lost");
    assert_eq!((world.orders(), world.backend.held()), (1, 0));
    world.commit(&attempt).unwrap();
    is_recorded(&gateway.send(&Ask::order("lost", 1)));

    // What the route promises without receipts, it promises with such ones.
    let mut asked = Ask::order("busy", 1).start(gateway.addr);
    world.backend.next().say("429 Too Many Requests", "");
    assert_eq!(Answer::read(&mut asked).status, 429);
    run(&world, &gateway, "busy", false);
}

#[test]
fn receipts_of_before_a_restart_were_seen() {
    let world = World::new();
    let gateway = world.believing(&[]);
    run(&world, &gateway, "before", true);
    drop(gateway);
    let gateway = world.believing(&[]);
    fail(&world, &gateway, "lost");
    let address = gateway.addr;
    let retry = std::thread::spawn(move || {
        loop {
            // Until it has looked.
            let answer = Ask::order("lost", 1).send(address);
            if answer.status != 409 {
                return answer;
            }
        }
    });
    let held = world.backend.next();
    world.commit(&Attempt::of(&held.text)).unwrap();
    held.answer("made");
    assert_eq!(retry.join().unwrap().status, 201);
    assert_eq!(world.orders(), 2);
}

#[test]
fn who_is_told_that_receipts_are_written_still_says_where_one_is_missing() {
    let world = World::new();
    let gateway = world.gateway(&[]);
    run(&world, &gateway, "without", false);
    assert!(gateway.send(&Ask::order("without", 1)).is_replay());
    gateway.wait_for_metric(MISSING, 1.0);
    gateway.process.wait_for_log("left no receipt");
    fail(&world, &gateway, "lost");
    run(&world, &gateway, "lost", true);
    gateway.wait_for_metric(FOUND, 1.0);
}
