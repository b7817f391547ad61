//! A sample whose processes are stopped for longer than anybody waits, and go on.

use std::thread;

use super::world::{POINTS, World, payment};
use crate::support::Answer;

/// What cuts off the attempt that was stopped.
const IMPATIENT: &str = "[timeouts]\nupstream = \"1s\"\n";

/// Stopped before its receipt, a transaction holds nothing: another attempt goes through, and it cannot. Stopped
/// between its receipt and its commit, it holds up the seal until the database ends its session, and cannot either.
pub(super) fn at_each_step(world: &World) {
    let gateway = world.gateway(None, IMPATIENT);
    let stopped = POINTS[..3].iter().map(|&point| {
        // One after the other: two of them in one process would stop at the first's point.
        let client = payment(point).header("X-Stop-At", point).start(gateway.addr);
        (point, client, world.backend.stopped(point, 0))
    });
    let stopped: Vec<_> = stopped.collect();
    thread::scope(|clients| {
        for (point, mut client, stopped) in stopped {
            let (world, gateway) = (world, &gateway);
            clients.spawn(move || {
                let answer = Answer::read(&mut client);
                // Nobody knows while its receipt holds up the seal; sealed, it is proven that nothing happened.
                match point {
                    "after-receipt" => answer.is(504, "upstream-timeout"),
                    _ => answer.is(503, "upstream-unavailable"),
                }
                world.insist(gateway, point);
                drop(stopped);
                world.backend.wait_for(&format!("payment {point} failed: "));
                world.insist(gateway, point);
            });
        }
    });
    let refused = world.backend.said("was committed by fence");
    assert_eq!(refused, 2, "{}", world.backend.log());
    world.check();
}
