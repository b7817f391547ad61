//! What a seed draws before the world begins: which faults there are at all, and when.

use std::time::Duration;

use hapax_core::AfterFailure;

use crate::dice::Dice;
use crate::faulty::Faults;

/// Length of the leases.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// `max_run`: shorter than the slowest runs.
pub(super) const MAX_RUN: Duration = Duration::from_secs(5);
/// How long a gateway waits for the upstream.
pub(super) const UPSTREAM_TIME_OUT: Duration = Duration::from_secs(4);
/// How long a duplicate waits.
pub(super) const WAIT: Duration = Duration::from_secs(2);
/// `replay_for`: short, so that answers expire while the world runs.
pub(super) const REPLAY_FOR: Duration = Duration::from_secs(25);
/// `remember_for`: longer than any world, all jumps of its clock included.
pub(super) const REMEMBER_FOR: Duration = Duration::from_secs(36_000);

/// Odds in a thousand of what the upstream does with a call.
#[derive(Debug, Clone, Default)]
pub(super) struct UpstreamOdds {
    /// Refuses the connection: nothing was sent.
    pub(super) refuses: u64,
    /// Fails without an effect, and nobody can tell.
    pub(super) fails_before: u64,
    /// Fails after the effect.
    pub(super) fails_after: u64,
    /// Never answers; the effect may have happened.
    pub(super) silent: u64,
    /// Says no (4xx): a final answer without an effect.
    pub(super) declines: u64,
    /// Takes longer than the gateway waits.
    pub(super) slow: u64,
}

/// Faults of one seed. Each kind is there or not at all, so that rare ones are not drowned by common ones.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) store: Faults,
    pub(super) upstream: UpstreamOdds,
    pub(super) crashes: u64,
    pub(super) pauses: u64,
    pub(super) jumps: u64,
    pub(super) outages: u64,
    /// Odds that a client sends an altered payload.
    pub(super) altered: u64,
    /// Odds that a client is impatient.
    pub(super) impatient: u64,
    /// Odds that a handler panics after its call.
    pub(super) panics: u64,
    /// Arrivals of each operation, at most.
    pub(super) arrivals: u64,
    /// What becomes of each operation's failures: all hold, all retry, or by operation.
    modes: u64,
}

impl Plan {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let mut some = |share: u64, low: u64, high: u64| match dice.chance(share) {
            true => dice.between(low, high),
            false => 0,
        };
        let store = Faults {
            failed: some(400, 5, 150),
            lost_reply: some(500, 5, 150),
            late: some(400, 5, 100),
            timed_out: some(300, 5, 60),
            delayed: some(500, 10, 300),
            duplicated: some(300, 5, 100),
            longest_delay_ms: some(1000, 20, 4000),
            time_out: Duration::from_millis(some(1000, 500, 4000)),
            outage: false,
        };
        let upstream = UpstreamOdds {
            refuses: some(400, 20, 300),
            fails_before: some(400, 20, 250),
            fails_after: some(400, 20, 250),
            silent: some(300, 20, 150),
            declines: some(400, 20, 200),
            slow: some(400, 20, 250),
        };
        Self {
            store,
            upstream,
            crashes: some(500, 1, 6),
            pauses: some(500, 1, 6),
            jumps: some(300, 1, 4),
            outages: some(300, 1, 3),
            altered: some(400, 20, 300),
            impatient: some(500, 50, 500),
            panics: some(200, 10, 100),
            arrivals: some(1000, 1, 8),
            modes: some(1000, 0, 3),
        }
    }

    pub(super) fn mode(&self, operation: usize) -> AfterFailure {
        match self.modes {
            0 | 1 => AfterFailure::Hold,
            2 => AfterFailure::Retry,
            _ if operation.is_multiple_of(2) => AfterFailure::Hold,
            _ => AfterFailure::Retry,
        }
    }

    /// No faults any more.
    pub(super) fn heal(&mut self) {
        self.store = Faults::default();
        self.upstream = UpstreamOdds::default();
        self.panics = 0;
    }
}
