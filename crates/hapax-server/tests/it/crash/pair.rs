//! Two gateways on one store. One stops for longer than its lease and goes on, or is killed: what it still does under
//! its old claims must not become a second effect.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use hapax_testbed::FreePort;
use rustix::process::Signal;

use super::client::{Client, SCOPE};
use super::rig::{LEASE, Mode, Rig, StoreKind, assert_killed};
use super::{Test, kills};
use crate::support::{Answer, Ask, Gateway, HeldBackend};

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
            test.raging.storm.journal.killed();
            let status = gateways[victim].process.wait();
            assert_killed(&gateways[victim].process, status);
            gateways[victim] = test.rig.gateway(&ports[victim], None);
        } else {
            gateways[victim].process.signal(Signal::STOP);
            test.raging.storm.journal.killed();
            // The pause itself is what is tested.
            thread::sleep(LEASE + dice.millis(LEASE.as_millis() as u64));
            gateways[victim].process.signal(Signal::CONT);
        }
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
    let schedules: &[fn(&mut Pair)] = match mode {
        Mode::Hold => &[Pair::wakes_up_late],
        Mode::Retry => &[Pair::wakes_up_while_another_runs, Pair::wakes_up_when_another_is_done],
    };
    for schedule in schedules {
        schedule(&mut Pair::stopped(kind, mode));
    }
}

/// Two gateways, of which one stopped while the backend had its request, and its lease is over.
struct Pair {
    holder: Gateway,
    other: Gateway,
    backend: HeldBackend,
    ask: Ask,
    held: Option<Running>,
    first: TcpStream,
    second: TcpStream,
    _kept: (Rig, [FreePort; 2]),
}

impl Pair {
    fn stopped(kind: StoreKind, mode: Mode) -> Self {
        let (rig, backend) = (Rig::new(kind, mode), HeldBackend::start());
        let ports = [FreePort::take(), FreePort::take()];
        let [holder, other] = ports.each_ref().map(|port| rig.gateway_before(port, backend.addr));
        let ask = Ask::order("k-1", 1).header(SCOPE, "north");
        let first = ask.start(holder.addr);
        let held = Running::next(&backend);
        holder.process.signal(Signal::STOP);
        Self {
            // This one waits until the lease is over.
            second: ask.clone().header("Prefer", "wait=20").start(other.addr),
            holder,
            other,
            backend,
            ask,
            held: Some(held),
            first,
            _kept: (rig, ports),
        }
    }

    fn wakes_up_late(&mut self) {
        Answer::read(&mut self.second).is(409, "outcome-unknown");
        self.wake_up();
        is(&Answer::read(&mut self.first), "first", false);
        // Its late finish counts.
        self.is_done("first");
    }

    fn wakes_up_while_another_runs(&mut self) {
        let running = self.taken_over();
        self.wake_up();
        // Its answer is not what the operation comes to.
        Answer::read(&mut self.first).is(409, "in-progress");
        (running.answer)("second");
        is(&Answer::read(&mut self.second), "second", false);
        self.is_done("second");
    }

    fn wakes_up_when_another_is_done(&mut self) {
        (self.taken_over().answer)("second");
        is(&Answer::read(&mut self.second), "second", false);
        self.wake_up();
        is(&Answer::read(&mut self.first), "second", true);
        self.is_done("second");
    }

    /// The other's run, under a higher fence.
    fn taken_over(&self) -> Running {
        let running = Running::next(&self.backend);
        let before = self.held.as_ref().map(|held| held.fence);
        assert!(Some(running.fence) > before, "{} after {before:?}", running.fence);
        running
    }

    fn wake_up(&mut self) {
        self.holder.process.signal(Signal::CONT);
        (self.held.take().unwrap().answer)("first");
    }

    fn is_done(&self, body: &str) {
        for gateway in [&self.holder, &self.other] {
            is(&self.ask.send(gateway.addr), body, true);
        }
    }
}

#[track_caller]
pub(super) fn is(answer: &Answer, body: &str, replayed: bool) {
    let told = (answer.status, &*answer.body, answer.is_replay());
    assert_eq!(told, (201, body, replayed), "{answer:?}");
}

/// A run whose request is with the backend.
pub(super) struct Running {
    pub(super) fence: u64,
    /// Lets the backend answer.
    pub(super) answer: Box<dyn FnOnce(&str)>,
}

impl Running {
    pub(super) fn next(backend: &HeldBackend) -> Self {
        let held = backend.next();
        let fence = held.text.lines().find_map(|line| line.strip_prefix("hapax-fence: "));
        Self {
            fence: fence
                .unwrap_or_else(|| panic!("no fence: {}", held.text))
                .parse()
                .unwrap(),
            answer: Box::new(move |body| held.answer(body)),
        }
    }
}
