//! The webhooks that the samples enqueue with their payments.

use std::time::Instant;

use super::world::{Language, Place, World, payment};
use crate::outbox::receiver::Receiver;
use crate::support::PATIENCE;

/// Payments that were rolled back tell nobody; the others tell once, whatever was killed.
fn is_told_once(language: Language) {
    let world = World::new(language, Place::Postgres);
    let receiver = Receiver::start();
    let relay = format!(
        "[runner]\npoll = \"50ms\"\n[[outbox]]\nname = \"payment-made\"\nto = \"{}\"\ndatabase = \"{}\"\n",
        receiver.url(),
        world.url()
    );
    let gateway = world.gateway(None, &relay);
    let points = ["after-insert", "after-receipt", "after-commit"];
    for point in points {
        gateway.send(&payment(point).header("X-Kill-At", point));
        world.insist(&gateway, point);
    }
    let until = Instant::now() + PATIENCE;
    while receiver.heard().len() < points.len() || world.staged() != "0" {
        assert!(Instant::now() < until, "{:?}", receiver.heard());
        std::thread::yield_now();
    }
    let mut heard: Vec<_> = receiver.heard().into_iter().map(|(_, body)| body).collect();
    let mut told = world.told();
    heard.sort();
    told.sort();
    assert_eq!(heard, told);
}

#[test]
fn a_payment_in_python_is_told_once() {
    is_told_once(Language::Python);
}

#[test]
fn a_payment_in_node_is_told_once() {
    is_told_once(Language::Node);
}
