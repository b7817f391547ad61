//! Two gateways whose runners share a store. One stops while its run is with the backend, for longer than its lease,
//! and goes on: what it brings home then is not what the operation comes to, if the other has taken over.

use std::thread;
use std::time::{Duration, Instant};

use hapax_testbed::FreePort;
use rustix::process::Signal;
use serde_json::Value;

use super::client::SCOPE;
use super::pair::{Running, is};
use super::rig::{Mode, Rig, StoreKind};
use crate::support::{Answer, Ask, Gateway, HeldBackend, PATIENCE};

mod a_runner_wakes_up_after_its_lease {
    in_each_configuration!(super::wake_up);
}

fn wake_up(kind: StoreKind, mode: Mode) {
    let schedules: &[fn(&mut Runners)] = match mode {
        Mode::Hold => &[Runners::wakes_up_late],
        Mode::Retry => &[
            Runners::wakes_up_while_another_runs,
            Runners::wakes_up_when_another_is_done,
        ],
    };
    for schedule in schedules {
        schedule(&mut Runners::stopped(kind, mode));
    }
}

struct Runners {
    holder: Gateway,
    /// It came when the holder had stopped.
    other: Gateway,
    backend: HeldBackend,
    held: Option<Running>,
    _kept: (Rig, [FreePort; 2]),
}

impl Runners {
    fn stopped(kind: StoreKind, mode: Mode) -> Self {
        let (rig, backend) = (Rig::new(kind, mode), HeldBackend::start());
        let ports = [FreePort::take(), FreePort::take()];
        let holder = rig.gateway_before(&ports[0], backend.addr);
        let accepted = ask(&holder);
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let held = Running::next(&backend);
        holder.process.signal(Signal::STOP);
        Self {
            other: rig.gateway_before(&ports[1], backend.addr),
            holder,
            backend,
            held: Some(held),
            _kept: (rig, ports),
        }
    }

    fn wakes_up_late(&mut self) {
        self.becomes("unknown");
        ask(&self.other).is(409, "outcome-unknown");
        self.wake_up();
        // Its late finish counts: nobody else ran it.
        self.becomes("done");
        self.ends_as("first", 0.0);
    }

    fn wakes_up_while_another_runs(&mut self) {
        let running = self.taken_over();
        self.wake_up();
        self.holder.wait_for_metric("hapax_fenced_total", 1.0);
        assert_eq!(status(&self.other)["state"], "running");
        (running.answer)("second");
        self.becomes("done");
        self.ends_as("second", 1.0);
    }

    fn wakes_up_when_another_is_done(&mut self) {
        (self.taken_over().answer)("second");
        self.becomes("done");
        self.wake_up();
        self.holder.wait_for_metric("hapax_fenced_total", 1.0);
        self.ends_as("second", 1.0);
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

    /// Asks the other until the record is in this state.
    #[track_caller]
    fn becomes(&self, state: &str) {
        let until = Instant::now() + PATIENCE;
        while status(&self.other)["state"] != state {
            assert!(Instant::now() < until, "never {state}: {}", status(&self.other));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Both say the same of it, for good, and nothing else reached the backend.
    #[track_caller]
    fn ends_as(&self, body: &str, fenced: f64) {
        for gateway in [&self.holder, &self.other] {
            is(&ask(gateway), body, true);
            let told = status(gateway);
            // The start that was cut off is no try: a gateway's crash is not an operation's fault.
            let record = (&told["state"], &told["tries"], &told["answer"]["status"]);
            assert_eq!(record, (&"done".into(), &1.into(), &201.into()), "{told}");
        }
        assert_eq!(self.holder.metric("hapax_fenced_total"), fenced);
        assert_eq!(self.other.metric("hapax_fenced_total"), 0.0);
        assert_eq!(self.backend.held(), 0);
    }
}

#[track_caller]
fn ask(gateway: &Gateway) -> Answer {
    let ask = Ask::order("k-1", 1).header(SCOPE, "north");
    ask.header("Prefer", "respond-async").send(gateway.addr)
}

#[track_caller]
fn status(gateway: &Gateway) -> Value {
    let answer = Ask::get("/.hapax/operations/k-1")
        .header(SCOPE, "north")
        .send(gateway.addr);
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}
