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
        /// Whether a runner looks after it.
        attended: bool,
        /// Whether it brings what a runner can run it with.
        input: bool,
        /// Which group it belongs to.
        group: Option<u8>,
        /// Seconds of lease.
        lease_s: u64,
    },
    /// Enqueue a key.
    Enqueue {
        /// Which key.
        key: u8,
        /// Which attempt.
        attempt: u8,
        /// Which payload.
        payload: u8,
        /// Seconds until it is due.
        delay_s: u64,
        /// Which group it belongs to.
        group: Option<u8>,
    },
    /// Take all there is to take.
    Take {
        /// Which attempt.
        attempt: u8,
        /// How.
        ways: Ways,
        /// Again, as after a lost reply.
        again: bool,
        /// Seconds of lease.
        lease_s: u64,
    },
    /// Take every suspect, one after the other.
    TakeAlone {
        /// How.
        ways: Ways,
    },
    /// Amend a key.
    Amend {
        /// Which key.
        key: u8,
        /// What to do.
        change: Change,
        /// Decided on the fence of this run; `None` for any.
        guard: Option<usize>,
    },
    /// Read the audit of a key, or all of it.
    Audit {
        /// Of one key only.
        key: Option<u8>,
        /// Entries a page.
        limit: usize,
    },
    /// Count.
    Census,
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
        /// Dead for this reason.
        dead: Option<DeadReason>,
        /// Of one group only.
        group: Option<u8>,
        /// In its state since so many seconds ago or later, or since earlier.
        since: Option<(bool, u64)>,
        /// Records a page.
        limit: usize,
    },
    /// Raise the fence to this much over, or under, the highest given out.
    RaiseFence(i64),
    /// Let time pass.
    Pass(Duration),
}

/// How a runner takes in a history.
#[derive(Debug, Clone, Copy)]
pub struct Ways {
    /// Tries before it is dead.
    pub tries: u32,
    /// Whether crashes are held against an operation.
    pub crashes_count: bool,
    /// Whether it can resolve.
    pub resolves: bool,
    /// Whether a lapsed run is retried.
    pub retry: bool,
    /// Whether the order of groups is kept.
    pub ordered: bool,
}

/// What is done to a record in a history.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// Forget it, even if unknown.
    Forget(bool),
    /// It is done, with the answer of this number.
    Done(u8),
    /// It is not done.
    NotDone,
    /// It is dead.
    Dead,
    /// Send it back.
    Redrive,
    /// Close it.
    Discard,
    /// Begin its compensation.
    Undo,
}

/// How a run ends in a history.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// Done, with the answer of this number.
    Answer(u8),
    /// Done, without one.
    NotKept(NotKept),
    /// Released, due after so many seconds; whether it stays a try.
    Release(u64, bool),
    /// Unknown, with an answer or without.
    Unknown(Option<u8>),
    /// Dead.
    Dead(DeadReason, Option<u8>),
}

/// Histories of up to 80 steps.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..80)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => claim(),
        2 => (key(), run(), seconds()).prop_map(|(key, run, lease_s)| Step::Renew { key, run, lease_s }),
        5 => (key(), run(), ending()).prop_map(|(key, run, ending)| Step::Finish { key, run, ending }),
        4 => enqueue(),
        5 => take(),
        2 => ways().prop_map(|ways| Step::TakeAlone { ways }),
        3 => amend(),
        1 => (prop::option::of(key()), 1..4_usize).prop_map(|(key, limit)| Step::Audit { key, limit }),
        1 => Just(Step::Census),
        2 => Just(Step::Sweep),
        1 => key().prop_map(|key| Step::Read { key }),
        1 => list(),
        1 => (-2..3_i64).prop_map(Step::RaiseFence),
        6 => pass(),
    ]
}

fn claim() -> impl Strategy<Value = Step> {
    let payload = prop_oneof![9 => Just(0_u8), 1 => Just(1_u8)];
    let recipe = prop_oneof![19 => Just(0_usize), 1 => Just(1_usize)];
    let numbers = (key(), 0..5_u8, payload, recipe, group());
    (numbers, any::<[bool; 4]>(), seconds()).prop_map(|(numbers, [system, retry, attended, input], lease_s)| {
        let (key, attempt, payload, recipe, group) = numbers;
        Step::Claim {
            key,
            attempt,
            payload,
            recipe,
            system,
            retry,
            attended,
            input,
            group,
            lease_s,
        }
    })
}

fn enqueue() -> impl Strategy<Value = Step> {
    let payload = prop_oneof![9 => Just(0_u8), 1 => Just(1_u8)];
    let delay = prop_oneof![2 => Just(0), 1 => seconds()];
    (key(), 0..5_u8, payload, delay, group()).prop_map(|(key, attempt, payload, delay_s, group)| Step::Enqueue {
        key,
        attempt,
        payload,
        delay_s,
        group,
    })
}

fn take() -> impl Strategy<Value = Step> {
    let again = prop_oneof![2 => Just(false), 1 => Just(true)];
    (10..13_u8, ways(), again, seconds()).prop_map(|(attempt, ways, again, lease_s)| Step::Take {
        attempt,
        ways,
        again,
        lease_s,
    })
}

fn ways() -> impl Strategy<Value = Ways> {
    (1..5_u32, any::<[bool; 4]>()).prop_map(|(tries, [crashes_count, resolves, retry, ordered])| Ways {
        tries,
        crashes_count,
        resolves,
        retry,
        ordered,
    })
}

fn amend() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        2 => any::<bool>().prop_map(Change::Forget),
        1 => (0..3_u8).prop_map(Change::Done),
        2 => Just(Change::NotDone),
        1 => Just(Change::Dead),
        3 => Just(Change::Redrive),
        1 => Just(Change::Discard),
        1 => Just(Change::Undo),
    ];
    let guard = prop_oneof![3 => Just(None), 1 => run().prop_map(Some)];
    (key(), change, guard).prop_map(|(key, change, guard)| Step::Amend { key, change, guard })
}

fn list() -> impl Strategy<Value = Step> {
    let state = prop::option::of(prop::sample::select(StateName::ALL));
    let dead = prop_oneof![4 => Just(None), 1 => prop::sample::select(DeadReason::ALL).prop_map(Some)];
    let since = prop::option::of((any::<bool>(), seconds()));
    let filters = (state, prop::option::of(key()), dead, group(), since);
    (filters, 1..4_usize).prop_map(|((state, key, dead, group, since), limit)| Step::List {
        state,
        key,
        dead,
        group,
        since,
        limit,
    })
}

fn ending() -> impl Strategy<Value = Ending> {
    let answer = || prop::option::of(0..3_u8);
    prop_oneof![
        3 => (0..3_u8).prop_map(Ending::Answer),
        1 => prop::sample::select(NotKept::ALL).prop_map(Ending::NotKept),
        3 => (prop_oneof![Just(0), seconds()], any::<bool>()).prop_map(|(after_s, counts)| Ending::Release(after_s, counts)),
        2 => answer().prop_map(Ending::Unknown),
        1 => (prop::sample::select(DeadReason::ALL), answer()).prop_map(|(reason, answer)| Ending::Dead(reason, answer)),
    ]
}

fn key() -> impl Strategy<Value = u8> {
    0..3_u8
}

/// Mostly the same, so that there is a line to wait in.
fn group() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![2 => Just(None), 3 => Just(Some(0_u8)), 1 => Just(Some(1_u8))]
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
        1, 999, 5_000, 10_000, 10_000, 20_000, 29_999, 30_000, 60_000, 100_000, 999_999, 1_000_000, 1_100_000,
        5_000_000,
    ]);
    millis.prop_map(|millis| Step::Pass(Duration::from_millis(millis)))
}
