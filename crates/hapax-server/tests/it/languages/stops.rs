//! A sample that is stopped for longer than anybody waits, and goes on.

use super::world::{World, payment};

/// What cuts off the attempt that was stopped.
const IMPATIENT: &str = "[timeouts]\nupstream = \"1s\"\n";

/// Stopped before its receipt, it holds nothing: another attempt goes through, and it cannot.
pub(super) fn before_the_receipt(world: &World) {
    let gateway = world.gateway(None, IMPATIENT);
    for point in ["before-begin", "after-insert"] {
        let answer = gateway.send(&payment(point).header("X-Stop-At", point));
        let stopped = world.backend.stopped(point, 0);
        assert_eq!(answer.status, 504, "{answer:?}");
        world.insist(&gateway, point);
        drop(stopped);
        world.backend.wait_for(&format!("payment {point} failed: "));
        world.insist(&gateway, point);
    }
    assert_eq!(
        world.backend.said("was committed by fence"),
        2,
        "{}",
        world.backend.log()
    );
    world.check();
}

/// Stopped with its receipt written and not committed, it holds up the seal until its session ends.
pub(super) fn after_the_receipt(world: &World) {
    let gateway = world.gateway(None, IMPATIENT);
    let answer = gateway.send(&payment("one").header("X-Stop-At", "after-receipt"));
    let stopped = world.backend.stopped("after-receipt", 0);
    assert_eq!(answer.status, 504, "{answer:?}");
    world.insist(&gateway, "one");
    drop(stopped);
    world.backend.wait_for("payment one failed: ");
    world.insist(&gateway, "one");
    world.check();
}
