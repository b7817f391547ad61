//! Messages of real brokers, the relay that posts them, and the endpoint that handles them.
//!
//! `HAPAX_CRASH_KILLS=1000` kills so many times at each failpoint (10 otherwise).

mod brokers;
#[cfg(feature = "failpoints")]
mod crash;
mod endpoint;
mod handled;
mod nats;
mod outage;
mod trouble;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hapax_testbed::Nats;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::shelf::objects;
use crate::support::{Ended, Gateway, PATIENCE, Process, hapax, program, sqlite};
use endpoint::Endpoint;
use nats::Client;

/// A stream, a store, and an endpoint.
struct World {
    directory: TempDir,
    /// `host:port` of NATS.
    address: String,
    stream: String,
    client: Mutex<Client>,
    endpoint: Endpoint,
}

impl World {
    /// With a stream of its own on the server that all tests share.
    fn new(endpoint: Endpoint) -> Self {
        Self::at(&Nats::shared().address(), endpoint)
    }

    fn at(address: &str, endpoint: Endpoint) -> Self {
        static STREAMS: AtomicUsize = AtomicUsize::new(0);
        let stream = format!("S{}-{}", std::process::id(), STREAMS.fetch_add(1, Relaxed));
        let mut client = Client::connect(address);
        client.stream(&stream, &[&format!("{stream}.>")], &[]);
        let world = Self {
            directory: tempfile::tempdir().unwrap(),
            address: address.to_owned(),
            stream,
            client: Mutex::new(client),
            endpoint,
        };
        world.configure("", "");
        world
    }

    /// Writes the configuration, with these lines for the consumer and for its policy.
    fn configure(&self, lines: &str, policy: &str) {
        let from = format!("from = \"nats://{}\"\nstream = \"{}\"", self.address, self.stream);
        self.configure_from(&format!("{from}\n{lines}"), policy);
    }

    fn configure_from(&self, lines: &str, policy: &str) {
        let identity = if lines.contains("identity") {
            ""
        } else {
            "identity = \"header:Event-Id\""
        };
        let config = format!(
            "store = \"{}\"\nadmin = \"127.0.0.1:0\"\n[log]\nlevel = \"info\"\n\
             [[consume]]\nname = \"points\"\n{identity}\nto = \"{}\"\n{lines}\n\
             [consume.retry]\nbase = \"50ms\"\nthrottle_base = \"50ms\"\n{policy}\n",
            self.store(),
            self.endpoint.url(),
        );
        std::fs::write(self.config(), config).unwrap();
    }

    fn store(&self) -> String {
        sqlite(self.directory.path())
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("hapax.toml")
    }

    fn publish(&self, id: &str, payload: &str) {
        self.publish_with(&[("Event-Id", id)], payload.as_bytes());
    }

    fn publish_with(&self, headers: &[(&str, &str)], payload: &[u8]) {
        let subject = format!("{}.paid", self.stream);
        self.client.lock().unwrap().publish(&subject, headers, payload);
    }

    /// Messages that the broker is not done with: never delivered, and not acknowledged.
    fn at_the_broker(&self) -> (u64, u64) {
        let consumer = self.client.lock().unwrap().consumer(&self.stream, "points");
        let number = |key: &str| consumer[key].as_u64().unwrap();
        (number("num_pending"), number("num_ack_pending"))
    }

    /// Waits until the broker is done with all messages.
    #[track_caller]
    fn acknowledged(&self) {
        until("all acknowledged", || self.at_the_broker() == (0, 0));
    }

    /// A relay, up and with its admin pages.
    #[track_caller]
    fn relay(&self) -> Gateway {
        let process = self.process(None);
        let admin = process.address("admin on ");
        Gateway {
            addr: admin,
            admin,
            process,
        }
    }

    fn process(&self, failpoint: Option<&str>) -> Process {
        let mut command = program();
        command.args(["serve", "--with-parent", "--config"]).arg(self.config());
        if let Some(failpoint) = failpoint {
            command.env("HAPAX_FAILPOINT", failpoint);
        }
        Process::spawn(&mut command)
    }

    fn hapax(&self, arguments: &[&str]) -> Ended {
        hapax(&[arguments, &["--store", &self.store()]].concat())
    }

    fn dead(&self) -> Vec<Value> {
        objects(&self.hapax(&["dead", "ls", "--json"]))
    }

    fn in_state(&self, state: &str) -> Vec<Value> {
        objects(&self.hapax(&["records", "ls", "--json", "--limit", "1000000", "--state", state]))
    }
}

/// A metric of the consumer.
fn metric(name: &str) -> String {
    format!("hapax_consumer_{name}{{consumer=\"points\"}}")
}

/// How many deliveries came to this.
fn came(what: &str) -> String {
    format!("hapax_consumer_messages_total{{consumer=\"points\",came=\"{what}\"}}")
}

/// SIGTERM, and a good end.
#[track_caller]
fn stop(mut process: Process) {
    process.signal(Signal::TERM);
    let status = process.wait();
    assert!(status.success(), "{status:?}: {}", process.log());
}

/// Looks until it holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
