//! What a seed draws before the world begins: which faults there are at all, and when.

mod policy;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hapax::RunOptions;
use hapax_core::policy::RetryPolicy;
use hapax_core::{AfterFailure, OperationId, Retention};

use super::client::operation;
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
/// The longest time from an effect's call to the effect.
pub(super) const LATEST_EFFECT_MS: u64 = 12_000;
/// `settle` with which a truthful "not found" is right, in processes that do not pause and by a clock that does not
/// jump: the slowest effect, and the slowest reply of the store before it.
pub(super) const SAFE_SETTLE: Duration = Duration::from_secs(17);

/// How long runners may take, once nothing fails any more, to bring all to its end: what is unknown settles, what waits
/// is due, breakers close, budgets and suspects take turns.
pub(super) const SETTLING: Duration = Duration::from_secs(
    SAFE_SETTLE.as_secs() + 2 * policy::LONGEST_CAP.as_secs() + 2 * policy::LONGEST_OPEN.as_secs() + 15,
);

/// Odds in a thousand of what the upstream does with a call.
#[derive(Debug, Clone, Default)]
pub(super) struct UpstreamOdds {
    /// Refuses the connection: nothing was sent.
    pub(super) refuses: u64,
    /// Does nothing, and asks to be left alone for a while.
    pub(super) throttles: u64,
    /// Fails without an effect, and nobody can tell.
    pub(super) fails_before: u64,
    /// Fails after the effect.
    pub(super) fails_after: u64,
    /// Never answers; the effect may have happened.
    pub(super) silent: u64,
    /// Says no (4xx): a final answer without an effect.
    pub(super) declines: u64,
    /// Says no for good, without an effect: a dead letter.
    pub(super) rejects: u64,
    /// Takes longer than the gateway waits.
    pub(super) slow: u64,
    /// Asked whether it happened: does not answer.
    pub(super) probe_down: u64,
    /// Asked whether it happened: does not say.
    pub(super) probe_vague: u64,
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
    /// Times in which the upstream does nothing but fail.
    pub(super) spells: u64,
    /// Odds that a client sends an altered payload.
    pub(super) altered: u64,
    /// Odds that a client is impatient.
    pub(super) impatient: u64,
    /// Odds that a handler panics after its call.
    pub(super) panics: u64,
    /// Arrivals of each operation, at most.
    pub(super) arrivals: u64,
    /// Whether nodes have runners.
    pub(super) runners: bool,
    /// Odds that a client leaves its operation to the runners.
    pub(super) later: u64,
    /// What a runner's handler does before it calls the upstream.
    pub(super) runner_thinks: Duration,
    pub(super) policy: RetryPolicy,
    pub(super) crashes_count: bool,
    /// How many operations kill whoever runs them: the last ones.
    poison: usize,
    /// When they do so.
    pub(super) poison_after: Duration,
    /// Whether there is a resolver.
    pub(super) resolves: bool,
    /// Whether the resolver can tell the answer, too.
    pub(super) probe_answers: bool,
    pub(super) settle: Duration,
    /// What a person does.
    pub(super) corrections: u64,
    /// Whether nothing goes wrong but what poison does.
    pub(super) calm: bool,
    /// Whether operations belong to groups of two, whose order the runners keep.
    pub(super) grouped: bool,
    /// Whether clients' claims bring what a runner can run them with.
    pub(super) brings: bool,
    retention: Retention,
    /// What becomes of each operation's failures: all hold, all retry, or by name.
    modes: u64,
    /// Operations that are asked for.
    pub(super) operations: usize,
}

impl Plan {
    pub(super) fn draw(dice: &mut Dice, operations: usize) -> Self {
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
            throttles: some(200, 20, 200),
            fails_before: some(400, 20, 250),
            fails_after: some(400, 20, 250),
            silent: some(300, 20, 150),
            declines: some(300, 20, 200),
            rejects: some(300, 20, 300),
            slow: some(400, 20, 250),
            probe_down: some(300, 50, 500),
            probe_vague: some(300, 50, 500),
        };
        let runners = some(750, 1, 1) == 1;
        let short = some(150, 1, 1) == 1;
        let safe = some(600, 1, 1) == 1;
        let mut plan = Self {
            store,
            upstream,
            crashes: some(500, 1, 6),
            pauses: some(500, 1, 6),
            jumps: some(300, 1, 4),
            outages: some(300, 1, 3),
            spells: some(400, 1, 4),
            altered: some(400, 20, 300),
            impatient: some(500, 50, 500),
            panics: some(200, 10, 100),
            arrivals: some(1000, 1, 8),
            runners,
            later: if runners { some(850, 100, 1000) } else { 0 },
            runner_thinks: Duration::from_millis(some(300, 1, 1_500)),
            policy: RetryPolicy::default(),
            crashes_count: some(800, 1, 1) == 1,
            poison: some(250, 1, 2) as usize,
            poison_after: Duration::from_millis(match some(200, 1, 1) {
                0 => some(700, 0, 300),
                _ => some(1000, 1_200, 2_000),
            }),
            resolves: runners && some(650, 1, 1) == 1,
            probe_answers: some(500, 1, 1) == 1,
            settle: if safe {
                SAFE_SETTLE
            } else {
                Duration::from_millis(some(800, 1, 5_000))
            },
            corrections: some(600, 2, 24),
            calm: false,
            grouped: false,
            brings: false,
            retention: Retention {
                // Short, so that answers expire while the world runs.
                replay_for: Duration::from_secs(if short { 10 } else { 25 }),
                // Longer than any world, all jumps of its clock included; or so short that sweeps forget.
                remember_for: Duration::from_secs(if short { some(1000, 10, 25) } else { 36_000 }),
            },
            modes: some(1000, 0, 3),
            operations,
        };
        let (calm, busy) = (some(120, 1, 1) == 1, some(200, 3, 6) as usize);
        plan.policy = policy::draw(dice);
        if busy > 0 && plan.runners {
            plan.hurry(dice, busy);
        }
        if !plan.runners || !plan.crashes_count {
            plan.poison = 0;
        }
        if calm {
            plan.calm_down(dice);
        } else {
            // Where a sweep forgets the dead, whom they held up begins when all should be over.
            plan.grouped = dice.chance(350) && plan.retention.remember_for > SETTLING * 10;
            plan.brings = plan.runners && dice.chance(250);
        }
        plan
    }

    /// Many times more operations, left to the runners, while the upstream fails for long: enough for breakers and
    /// budgets to have a say.
    fn hurry(&mut self, dice: &mut Dice, times: usize) {
        self.operations *= times;
        self.arrivals = 2;
        self.later = dice.between(700, 1000);
        self.spells = dice.between(2, 5);
        self.policy.breaker.minimum_calls = dice.between(3, 10) as u32;
    }

    /// Nothing but poison, among healthy operations.
    fn calm_down(&mut self, dice: &mut Dice) {
        self.heal();
        (self.crashes, self.pauses, self.jumps, self.outages) = (0, 0, 0, 0);
        (self.spells, self.corrections, self.altered) = (0, 0, 0);
        (self.runners, self.resolves, self.crashes_count, self.calm) = (true, true, true, true);
        self.later = dice.between(700, 1000);
        self.poison = dice.between(1, 2) as usize;
        self.settle = SAFE_SETTLE;
        // A run that outlives its first heartbeat has other suspects beside it: then their crashes cost its tries.
        self.runner_thinks = self.runner_thinks.min(LEASE / 10);
        self.retention.remember_for = Duration::from_secs(36_000);
    }

    /// What the operation with this number belongs to.
    pub(super) fn group(&self, number: usize) -> Option<OperationId> {
        let group = OperationId::from_bytes([(number / 2) as u8; 16]);
        self.grouped.then_some(group)
    }

    pub(super) fn mode(&self, operation: usize) -> AfterFailure {
        self.mode_of(super::client::kind(operation))
    }

    /// What becomes of the failures of operations of a kind, which is their name.
    pub(super) fn mode_of(&self, kind: usize) -> AfterFailure {
        match self.modes {
            0 | 1 => AfterFailure::Hold,
            2 => AfterFailure::Retry,
            _ if kind == 0 => AfterFailure::Hold,
            _ => AfterFailure::Retry,
        }
    }

    pub(super) fn run_options(&self, mode: AfterFailure) -> RunOptions {
        RunOptions {
            lease: LEASE,
            max_run: MAX_RUN,
            after_failure: mode,
            retention: self.retention,
            attended: self.resolves,
            settle: self.settle,
        }
    }

    /// Whether it kills whoever runs it.
    pub(super) fn is_poison(&self, operation: usize) -> bool {
        operation + self.poison >= self.operations
    }

    pub(super) fn numbers(&self) -> Arc<HashMap<OperationId, usize>> {
        Arc::new(
            (0..self.operations)
                .map(|number| (operation(number).id(), number))
                .collect(),
        )
    }

    /// Whether a truthful "not found" that counts only after `settle` is always right.
    pub(super) fn settles(&self) -> bool {
        self.settle >= SAFE_SETTLE && self.pauses == 0 && self.jumps == 0
    }

    /// How much longer than that some worlds take: poison runs a few times more; and what is unknown for long, as it is
    /// by a clock that has jumped, is asked about seldom.
    pub(super) fn late(&self) -> Duration {
        let poison = (SAFE_SETTLE * 2) * self.policy.limits.tries;
        let poison = if self.poison > 0 { poison } else { Duration::ZERO };
        let jumps = if self.jumps > 0 {
            Duration::from_secs(450)
        } else {
            Duration::ZERO
        };
        // The second of a group begins when the first is over.
        let lines = if self.grouped { SETTLING + jumps } else { Duration::ZERO };
        if self.runners {
            poison + jumps + lines
        } else {
            Duration::ZERO
        }
    }

    /// No faults any more.
    pub(super) fn heal(&mut self) {
        self.store = Faults::default();
        self.upstream = UpstreamOdds::default();
        self.panics = 0;
    }
}
