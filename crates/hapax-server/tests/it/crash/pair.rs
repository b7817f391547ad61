//! Two gateways on one store. One stops for longer than its lease and goes on, or is killed: what it still does under
//! its old claims must not become a second effect.

use std::thread;
use std::time::Duration;

use hapax_testbed::FreePort;
use rustix::process::Signal;

use super::client::{Client, SCOPE};
use super::rig::{LEASE, Mode, Rig, StoreKind, assert_killed};
use super::{Test, kills};
use crate::support::{Answer, Ask, HeldBackend};

mod one_stops_or_dies {
    in_each_configuration!(super::stop_or_kill);
}

mod a_holder_wakes_up_after_its_lease {
    in_each_configuration!(super::wake_up);
}

/// A client that waits for a stopped gateway soon asks the other one.
const PATIENCE: Duration = Duration::from_millis(300);
/// Long enough that a gateway often stops between its claim and the shop's commit.
const DAWDLE: Duration = Duration::from_millis(30);

fn stop_or_kill(kind: StoreKind, mode: Mode) {
    let ports = [FreePort::take(), FreePort::take()];
    let clients = ports.iter().map(|port| Client::new(port.address(), PATIENCE)).collect();
    let mut test = Test::start(Rig::new(kind, mode), kind, clients, DAWDLE);
    let mut dice = test.dice();
    let mut gateways = ports.each_ref().map(|port| test.rig.gateway(port, None));
    for round in 0..8.max(kills() / 10) {
        // Not to wait for anything: this is the random moment.
        thread::sleep(dice.millis(150));
        let victim = dice.roll(2) as usize;
        if round % 4 == 3 {
            gateways[victim].process.signal(Signal::KILL);
            let status = gateways[victim].process.wait();
            assert_killed(&gateways[victim].process, status);
            gateways[victim] = test.rig.gateway(&ports[victim], None);
        } else {
            gateways[victim].process.signal(Signal::STOP);
            // The pause itself is what is tested.
            thread::sleep(LEASE + dice.millis(LEASE.as_millis() as u64));
            gateways[victim].process.signal(Signal::CONT);
        }
        test.raging.storm.journal.killed();
        test.check(false);
    }
    test.raging.subside();
    test.check(false);
    test.raging.ask_again();
    let sums = test.check(true);
    test.say("two gateways", &sums);
    for gateway in &gateways {
        assert!(!gateway.process.log().contains("panicked"), "{}", gateway.process.log());
    }
}

fn wake_up(kind: StoreKind, mode: Mode) {
    let (rig, backend) = (Rig::new(kind, mode), HeldBackend::start());
    let ports = [FreePort::take(), FreePort::take()];
    let [holder, other] = ports.each_ref().map(|port| rig.gateway_before(port, backend.addr));
    let ask = Ask::order("k-1", 1).header(SCOPE, "north");
    let mut first = ask.start(holder.addr);
    let held = backend.next();
    holder.process.signal(Signal::STOP);
    // Waits until the lease is over.
    let mut second = ask.clone().header("Prefer", "wait=20").start(other.addr);
    match mode {
        Mode::Hold => {
            Answer::read(&mut second).is(409, "outcome-unknown");
            holder.process.signal(Signal::CONT);
            held.answer("first");
            let first = Answer::read(&mut first);
            assert_eq!(
                (first.status, &*first.body, first.is_replay()),
                (201, "first", false),
                "{first:?}"
            );
            let late = ask.send(other.addr);
            assert_eq!(
                (late.status, &*late.body, late.is_replay()),
                (201, "first", true),
                "its late finish counts"
            );
        }
        Mode::Retry => {
            let fences = [&held.text, &backend_answers(&backend, "second")].map(|text| fence(text));
            assert!(fences[1] > fences[0], "{fences:?}");
            let second = Answer::read(&mut second);
            assert_eq!(
                (second.status, &*second.body, second.is_replay()),
                (201, "second", false),
                "{second:?}"
            );
            holder.process.signal(Signal::CONT);
            held.answer("first");
            for told in [Answer::read(&mut first), ask.send(holder.addr), ask.send(other.addr)] {
                assert_eq!(
                    (told.status, &*told.body, told.is_replay()),
                    (201, "second", true),
                    "it was overtaken"
                );
            }
        }
    }
}

/// Answers the next request, and gives its text.
fn backend_answers(backend: &HeldBackend, body: &str) -> String {
    let held = backend.next();
    let text = held.text.clone();
    held.answer(body);
    text
}

fn fence(text: &str) -> u64 {
    let fence = text.lines().find_map(|line| line.strip_prefix("hapax-fence: "));
    fence.unwrap_or_else(|| panic!("no fence: {text}")).parse().unwrap()
}
