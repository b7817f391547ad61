//! What can happen in a history.

use std::time::Duration;

use hapax_core::{DeadReason, NotKept, StateName};
use proptest::prelude::*;

/// One step. Small numbers stand for keys, attempts, payloads and runs, so that steps meet each other.
#[derive(Debug, Clone)]
pub enum Step {
    /// Claim a key.
    Claim {
        /// Which key.
        key: u8,
        /// Which attempt.
        attempt: u8,
        /// Which payload.
        payload: u8,
        /// Which of two recipes made the fingerprint.
        recipe: usize,
        /// Whether the system starts it.
        system: bool,
        /// Whether a lapsed run is retried.
        retry: bool,
        /// Seconds of lease.
        lease_s: u64,
    },
    /// Renew the lease of a run.
    Renew {
        /// Which key.
        key: u8,
        /// Which of the fences given out so far, counted from the latest; one too many is no fence at all.
        run: usize,
        /// Seconds of lease.
        lease_s: u64,
    },
    /// Finish a run.
    Finish {
        /// Which key.
        key: u8,
        /// Which of the fences given out so far.
        run: usize,
        /// How.
        ending: Ending,
    },
    /// Forget a key.
    Forget {
        /// Which key.
        key: u8,
        /// Even if unknown.
        even_unknown: bool,
    },
    /// Sweep everything that is due.
    Sweep,
    /// Read a key.
    Read {
        /// Which key.
        key: u8,
    },
    /// List all pages.
    List {
        /// In this state.
        state: Option<StateName>,
        /// Of one key only.
        key: Option<u8>,
        /// Records a page.
        limit: usize,
    },
    /// Let time pass.
    Pass(Duration),
}

/// How a run ends in a history.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// Done, with the answer of this number.
    Answer(u8),
    /// Done, without one.
    NotKept(NotKept),
    /// Released, due after so many seconds.
    Release(u64),
    /// Unknown, with an answer or without.
    Unknown(Option<u8>),
    /// Dead.
    Dead(DeadReason, Option<u8>),
}

/// Histories of up to 60 steps.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => claim(),
        2 => (key(), run(), seconds()).prop_map(|(key, run, lease_s)| Step::Renew { key, run, lease_s }),
        5 => (key(), run(), ending()).prop_map(|(key, run, ending)| Step::Finish { key, run, ending }),
        1 => (key(), any::<bool>()).prop_map(|(key, even_unknown)| Step::Forget { key, even_unknown }),
        2 => Just(Step::Sweep),
        1 => key().prop_map(|key| Step::Read { key }),
        1 => list(),
        6 => pass(),
    ]
}

fn claim() -> impl Strategy<Value = Step> {
    let payload = prop_oneof![9 => Just(0_u8), 1 => Just(1_u8)];
    let recipe = prop_oneof![19 => Just(0_usize), 1 => Just(1_usize)];
    let numbers = (key(), 0..5_u8, payload, recipe);
    (numbers, any::<bool>(), any::<bool>(), seconds()).prop_map(|(numbers, system, retry, lease_s)| {
        let (key, attempt, payload, recipe) = numbers;
        Step::Claim {
            key,
            attempt,
            payload,
            recipe,
            system,
            retry,
            lease_s,
        }
    })
}

fn list() -> impl Strategy<Value = Step> {
    let state = prop::option::of(prop::sample::select(StateName::ALL));
    (state, prop::option::of(key()), 1..4_usize).prop_map(|(state, key, limit)| Step::List { state, key, limit })
}

fn ending() -> impl Strategy<Value = Ending> {
    let answer = || prop::option::of(0..3_u8);
    prop_oneof![
        3 => (0..3_u8).prop_map(Ending::Answer),
        1 => prop::sample::select(NotKept::ALL).prop_map(Ending::NotKept),
        3 => prop_oneof![Just(0), seconds()].prop_map(Ending::Release),
        2 => answer().prop_map(Ending::Unknown),
        1 => (prop::sample::select(DeadReason::ALL), answer()).prop_map(|(reason, answer)| Ending::Dead(reason, answer)),
    ]
}

fn key() -> impl Strategy<Value = u8> {
    0..3_u8
}

fn run() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0_usize), 3 => 0..4_usize]
}

fn seconds() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0, 10, 10, 30, 200])
}

/// Up to, exactly to, and past each boundary: leases, `max_run` (100 s), `replay_for` (1,000 s), `remember_for`
/// (5,000 s), and the sweeper's first look.
fn pass() -> impl Strategy<Value = Step> {
    let millis = prop::sample::select(vec![
        1, 999, 5_000, 10_000, 10_000, 20_000, 29_999, 30_000, 100_000, 999_999, 1_000_000, 1_100_000, 5_000_000,
    ]);
    millis.prop_map(|millis| Step::Pass(Duration::from_millis(millis)))
}
