//! The order of an aggregate's effects, with two relays on one store.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{PATIENCE, World, keys, stop};
use crate::support::hapax;

/// Long enough that no relay loses an effect that it is sending, however busy the machine is.
const ORDERED: &str = "ordered = true\nlease = \"2s\"";

/// Feeds two relays, one of which is killed again and again, at a receiver that fails now and then.
fn order_is_kept(world: &World) {
    const AGGREGATES: usize = 6;
    world.configure(ORDERED);
    world.receiver.fails_every(7);
    let places = [
        "enqueued",
        "moved",
        "taken",
        "before-upstream",
        "after-upstream",
        "before-finish",
        "after-finish",
    ];
    let steady = world.relay(None);
    let mut all = BTreeSet::new();
    let mut number = 0;
    for kill in 0..super::kills().div_ceil(15) {
        for place in places {
            let mut doomed = world.relay(Some((place, 1 + kill % 3)));
            let until = Instant::now() + PATIENCE;
            while doomed.child.try_wait().unwrap().is_none() {
                assert!(Instant::now() < until, "{place} is never reached");
                let mut new = Vec::new();
                for _ in 0..3 {
                    new.extend((0..AGGREGATES).map(|aggregate| format!("{aggregate}-{number:04}")));
                    number += 1;
                }
                world.application.enqueue(&new);
                all.extend(new);
                world.arrived(&all);
            }
        }
    }
    world.settled();
    stop(steady);
    // Sent twice, perhaps; but none after one behind it.
    let heard = world.receiver.heard();
    for aggregate in 0..AGGREGATES {
        let start = format!("{aggregate}-");
        let of = heard
            .iter()
            .map(|(_, body)| body)
            .filter(|body| body.starts_with(&start));
        let of: Vec<_> = of.collect();
        assert!(of.is_sorted(), "{of:?}");
    }
    assert!(heard.len() > all.len(), "no kill came between sending and finishing");
}

#[cfg(feature = "failpoints")]
#[test]
fn order_is_kept_by_two_relays_of_which_one_is_killed_on_postgres() {
    order_is_kept(&World::postgres());
}

#[cfg(feature = "failpoints")]
#[test]
fn order_is_kept_by_two_relays_of_which_one_is_killed_on_sqlite() {
    order_is_kept(&World::sqlite());
}

#[test]
fn a_dead_letter_holds_up_its_aggregate_until_it_is_redriven() {
    let world = World::postgres();
    world.configure(ORDERED);
    world.receiver.unwanted("a-0");
    let relays = [world.relay(None), world.relay(None)];
    world.application.enqueue(&keys("a", 3));
    world.application.enqueue(&keys("b", 3));
    world.arrived(&keys("b", 3).into_iter().collect());
    let store = world.store();
    let until = Instant::now() + PATIENCE;
    let dead = loop {
        let dead = hapax(&["dead", "ls", "--json", "--store", &store]);
        if !dead.stdout.is_empty() {
            break dead.json();
        }
        assert!(Instant::now() < until, "{dead:?}");
    };
    assert_eq!(
        (&dead["key"], &dead["last_error"]),
        (&"a-0".into(), &"status 422".into())
    );
    let waiting = hapax(&["records", "ls", "--state", "waiting", "--store", &store]).stdout;
    assert!(waiting.contains("a-1") && waiting.contains("a-2"), "{waiting}");

    world.receiver.unwanted("");
    let redriven = hapax(&[
        "dead",
        "redrive",
        "a-0",
        "--reason",
        "they take it now",
        "--store",
        &store,
    ]);
    assert_eq!(redriven.code, 0, "{redriven:?}");
    world.arrived(&keys("a", 3).into_iter().collect());
    world.settled();
    relays.into_iter().for_each(stop);
    let heard = world.receiver.heard();
    let of_a = heard
        .iter()
        .map(|(_, body)| body.as_str())
        .filter(|body| body.starts_with('a'));
    assert_eq!(of_a.collect::<Vec<_>>(), ["a-0", "a-1", "a-2"]);
}
