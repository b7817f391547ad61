//! A simulated world, drawn from one seed: gateways (the real engine, each on a runtime of its own in virtual time)
//! over one store, each with a runner, clients that duplicate, alter, give up, retry, and leave their operations to the
//! runners, an upstream that is slow, fails and falls silent, a resolver that asks it, a person who corrects records
//! rightly or not, operations that kill whoever runs them, and faults: crashes, pauses, lost replies, delays, clock
//! jumps, outages.
//!
//! The upstream's list of effects is the oracle. While the world runs, the laws of the protocol are checked on every
//! reply and on every record; then all faults end, and each operation must come to its end. The same seed gives the
//! same world, event by event.

mod attend;
mod breaking;
mod client;
mod door;
mod laws;
mod node;
mod plan;
mod post;
mod tally;
mod upstream;
mod watched;
mod world;

use std::time::Duration;

use crate::canaries::Bug;

/// What a simulation is made of. The seed draws the rest.
#[derive(Debug, Clone)]
pub struct Config {
    /// Gateways.
    pub nodes: usize,
    /// Operations that are asked for.
    pub operations: usize,
    /// How long faults happen.
    pub active: Duration,
    /// A bug planted in the gateway or its store: the simulation must find it.
    pub canary: Canary,
    /// Whether to keep the trace, not only its digest.
    pub keep_trace: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: 3,
            operations: 10,
            active: Duration::from_secs(30),
            canary: Canary::None,
            keep_trace: false,
        }
    }
}

/// A bug that the simulator must find within a bounded number of seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// None.
    None,
    /// In the store.
    Store(Bug),
    /// The gateway answers before the finish is durable.
    AnswersBeforeFinish,
    /// The gateway takes an ambiguous failure for one without effect.
    AmbiguousIsNoEffect,
    /// The gateway takes a failure for a success.
    FailureIsSuccess,
    /// The gateway's fingerprint does not cover the body.
    BodyNotFingerprinted,
    /// The gateway passes the request on unprotected when the store is down.
    UnprotectedWhenStoreIsDown,
    /// The gateway passes a duplicate on while the first arrival is still in progress.
    RunsWhileInProgress,
    /// A runner's open breaker kills what waits for it.
    OpenBreakerKills,
    /// A runner is given what it took before, once more.
    TakenTwice,
}

/// What came of a simulation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Laws that were broken; empty if all is well.
    pub violations: Vec<String>,
    /// Digest of all events.
    pub digest: u64,
    /// All events, if asked for.
    pub trace: Vec<String>,
    /// How much happened.
    pub counts: Counts,
}

/// How much happened in a simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests sent by clients.
    pub requests: u64,
    /// Effects at the upstream.
    pub effects: u64,
    /// Answers that a client got of a completed operation.
    pub answers: u64,
    /// Refusals: in progress, unknown, and others.
    pub refusals: u64,
    /// Mismatches told.
    pub mismatches: u64,
    /// Crashes and pauses of gateways, clock jumps, outages.
    pub accidents: u64,
    /// Calls of the store that met a fault.
    pub store_faults: u64,
    /// Operations that ended unknown.
    pub unknown: u64,
    /// Operations that ended dead.
    pub dead: u64,
    /// Crashes of gateways, those by poison included.
    pub crashes: u64,
    /// Gateways that poison has killed.
    pub kills: u64,
    /// Requests that were left to the runners.
    pub accepted: u64,
    /// Runs that runners took.
    pub takes: u64,
    /// Unknown outcomes that a resolver or a person settled.
    pub resolves: u64,
    /// Dead letters that a person sent back.
    pub redrives: u64,
    /// Failed runs that runners repeat.
    pub retries: u64,
    /// Runs that were put off by a breaker or a budget.
    pub put_off: u64,
    /// Breakers that opened, for each name of their destination.
    pub opened: u64,
    /// Suspects that ran alone.
    pub suspects: u64,
    /// Runs that had lost their fence when they ended.
    pub fenced: u64,
}

impl Counts {
    /// Adds another simulation's.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.effects += other.effects;
        self.answers += other.answers;
        self.refusals += other.refusals;
        self.mismatches += other.mismatches;
        self.accidents += other.accidents;
        self.store_faults += other.store_faults;
        self.unknown += other.unknown;
        self.dead += other.dead;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.accepted += other.accepted;
        self.takes += other.takes;
        self.resolves += other.resolves;
        self.redrives += other.redrives;
        self.retries += other.retries;
        self.put_off += other.put_off;
        self.opened += other.opened;
        self.suspects += other.suspects;
        self.fenced += other.fenced;
    }
}

/// Runs the world of a seed. Must not be called within a runtime.
#[must_use]
pub fn run(seed: u64, config: &Config) -> Report {
    world::World::new(seed, config).run()
}

/// The command that repeats a seed.
#[must_use]
pub fn command(seed: u64) -> String {
    format!("cargo run -p hapax-check --bin sim -- --seed {seed}")
}
