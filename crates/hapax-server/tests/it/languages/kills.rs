//! `kill -9`, of the sample at every step of its transaction, and of the gateway at every step of both.

use std::os::unix::process::ExitStatusExt;
use std::thread;

use super::world::{POINTS, World, payment};

/// How many kills there are in all.
fn kills(share: f64) -> usize {
    let wanted = std::env::var("HAPAX_CRASH_KILLS");
    let all: u32 = wanted.map_or(100, |kills| {
        kills.parse().expect("HAPAX_CRASH_KILLS is a number of kills")
    });
    (f64::from(all) * share).ceil() as usize
}

pub(super) fn of_the_backend(world: &World, share: f64) {
    let gateway = world.gateway(None, "");
    let each = kills(share * 0.8).div_ceil(POINTS.len());
    thread::scope(|clients| {
        for point in POINTS {
            let (world, gateway) = (world, &gateway);
            clients.spawn(move || {
                let said = format!("killed at {point}:");
                for number in 0.. {
                    if world.backend.said(&said) >= each {
                        return;
                    }
                    let reference = format!("{point}-{number}");
                    let answer = gateway.send(&payment(&reference).header("X-Kill-At", point));
                    if answer.status == 201 {
                        world.hear(&reference, &answer);
                    }
                    thread::scope(|duplicates| {
                        duplicates.spawn(|| world.insist(gateway, &reference));
                        world.insist(gateway, &reference);
                    });
                }
            });
        }
    });
    world.check();
}

pub(super) fn of_the_gateway(world: &World, share: f64) {
    for kill in 0..kills(share * 0.2) {
        let reference = format!("payment-{kill}");
        match FAILPOINTS.get(kill % (FAILPOINTS.len() + POINTS.len())) {
            Some(failpoint) => at_its_own(world, failpoint, &reference),
            None => while_stopped(world, kill % POINTS.len(), kill, &reference),
        }
    }
    world.check();
}

#[cfg(feature = "failpoints")]
const FAILPOINTS: &[&str] = &["before-upstream", "after-upstream", "before-finish", "after-finish"];
#[cfg(not(feature = "failpoints"))]
const FAILPOINTS: &[&str] = &[];

fn at_its_own(world: &World, failpoint: &str, reference: &str) {
    let mut gateway = world.gateway(Some(failpoint), "");
    let client = payment(reference).start(gateway.addr);
    let status = gateway.process.wait();
    assert_eq!(status.signal(), Some(9), "{failpoint}: {status:?}");
    drop(client);
    world.insist(&world.gateway(None, ""), reference);
}

/// Kills the gateway while the sample stands at a step. Every other time it stands there until the next attempt is
/// through, unless it holds the receipt.
fn while_stopped(world: &World, point: usize, kill: usize, reference: &str) {
    let point = POINTS[point];
    let before = world.backend.said(&format!("stopped at {point}:"));
    let mut gateway = world.gateway(None, "");
    let client = payment(reference).header("X-Stop-At", point).start(gateway.addr);
    let stopped = world.backend.stopped(point, before);
    gateway.process.kill();
    drop(client);
    let gateway = world.gateway(None, "");
    let late = (kill / 8).is_multiple_of(2) && point != "after-receipt";
    if !late {
        drop(stopped);
        world.insist(&gateway, reference);
        return;
    }
    world.insist(&gateway, reference);
    drop(stopped);
    if point != "after-commit" {
        world.backend.wait_for(&format!("payment {reference} failed: "));
    }
}
