//! The laws of what runners and people do: checked on every step that the store carries out, in its order.

use std::time::Duration;

use hapax_core::{
    Amend, Amendment, DeadReason, Fence, Finish, Lease, Record, Starter, State, StateName, Timestamp, Work,
};

use super::super::client::name;
use super::super::watched::Step;
use super::Laws;

/// Kills that a poisonous operation may make beside its policy's tries: the first, which is everybody's, and two alone.
const KILLS: u64 = 3;

/// The longest step of the world: nodes' time may be that far behind.
const TICK: Duration = Duration::from_millis(500);

/// What an operation went through.
#[derive(Default)]
pub(super) struct Past {
    pub(super) held: Option<Held>,
    /// The last fence that the store gave.
    fence: Option<Fence>,
    /// Starts by the system that certainly count as tries.
    surely: i64,
    /// Starts by the system that may count as tries.
    maybe: i64,
    crashes: u32,
    /// When its schedule of retries began.
    since: Option<Timestamp>,
    pub(super) accepted: bool,
    /// It was forgotten once, by a person or for its age: what is heard of it may be of before.
    pub(super) removed: bool,
    /// Somebody's wrong verdict let it run again.
    misjudged: bool,
    pub(super) amended: bool,
    /// Its compensation has begun.
    undone: bool,
    redriven: u64,
    kills: u64,
}

/// What of an operation may still reach the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Arriving {
    Nothing,
    /// The reply to a claim is on its way, or lost.
    Claim,
    /// A handler will call, or a call's effect is to come.
    Call,
}

/// A claim that has not been finished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) fence: Fence,
    deadline: Timestamp,
    system: bool,
    pub(super) alone: bool,
    pub(super) retry: bool,
}

impl Laws {
    pub(super) fn past(&mut self, number: usize) -> &mut Past {
        self.pasts.entry(number).or_default()
    }

    pub(super) fn was_removed(&self, number: usize) -> bool {
        self.pasts.get(&number).is_some_and(|past| past.removed)
    }

    pub(super) fn was_amended(&self, number: usize) -> bool {
        self.pasts.get(&number).is_some_and(|past| past.amended)
    }

    pub(super) fn was_misjudged(&self, number: usize) -> bool {
        self.pasts
            .get(&number)
            .is_some_and(|past| past.misjudged || past.removed)
    }

    pub(super) fn accepted(&mut self, number: usize, record: Option<&Record>) {
        if record.is_none() {
            self.broken("durable before accepted", format!("{} has no record", name(number)));
        }
        self.past(number).accepted = true;
    }

    /// What was accepted can be run until it is done.
    pub(super) fn keeps_its_input(&mut self, number: usize, record: &Record) {
        let past = self.past(number);
        let accepted = past.accepted && !past.removed;
        if accepted && record.input.is_none() && !matches!(record.state, State::Done(_)) {
            let what = format!("{} was accepted, and has no input: {record:?}", name(number));
            self.broken("lost", what);
        }
    }

    /// A step that the store carried out. `arriving` is what may still reach the upstream.
    pub(in super::super) fn step(&mut self, number: usize, step: &Step, arriving: Arriving) {
        match step {
            Step::Claimed { now, lease, .. } => self.started(number, None, *lease, *now),
            Step::Renewed { fence, until, .. } => {
                let held = self.past(number).held.as_mut().filter(|held| held.fence == *fence);
                if let Some(held) = held {
                    held.deadline = *until;
                }
            }
            Step::Enqueued { now, record, .. } => {
                let past = self.past(number);
                past.held = None;
                past.fence = past.fence.max(record.as_ref().map(|record| record.fence));
                past.since.get_or_insert(*now);
            }
            Step::Finished {
                fence,
                finish,
                now,
                before,
                ..
            } => self.finished(number, *fence, finish, *now, before.as_ref()),
            Step::Amended {
                amendment,
                before,
                after,
                ..
            } => self.amended(number, amendment, before.as_ref(), after.as_deref(), arriving),
            Step::Swept { now, before, .. } => self.swept(number, before, *now),
            Step::Overtook { id, before } => self.broken("order", format!("{id} is started before {before}")),
            Step::Took(_) => {}
        }
    }

    /// A record that a take gave away.
    pub(in super::super) fn took(&mut self, number: usize, work: &Work, now: Timestamp) {
        if let Work::Run(record, lease) = work {
            self.started(number, Some(record), *lease, now);
        }
    }

    /// A start: by the system if `taken`.
    fn started(&mut self, number: usize, taken: Option<&Record>, lease: Lease, now: Timestamp) {
        let (tries, crashes_count) = (i64::from(self.plan.policy.limits.tries), self.plan.crashes_count);
        let past = self.past(number);
        if past.held.is_some_and(|held| held.fence == lease.fence) {
            return;
        }
        let mut broken = Vec::new();
        if let Some(held) = past.held.filter(|held| held.deadline > now) {
            broken.push(("one holder", format!("taken at {now} from {held:?}")));
        }
        if past.undone {
            broken.push(("undone", "started while it is being undone".into()));
        }
        if past.fence.is_some_and(|fence| fence >= lease.fence) {
            broken.push(("fence", format!("started with {} after {:?}", lease.fence, past.fence)));
        }
        let alone = matches!(
            taken.map(|record| &record.state),
            Some(State::Running {
                starter: Starter::Alone,
                ..
            })
        );
        if let Some(record) = taken {
            if let Some(held) = past.held {
                // It lapsed, and nobody told what became of it. The first crash may have been another's doing.
                let first = past.crashes == 0;
                if crashes_count && (first || alone) {
                    past.crashes += 1;
                }
                if held.system && (first || !crashes_count) {
                    past.surely -= 1;
                    past.maybe -= 1;
                }
            }
            past.surely += 1;
            past.maybe += 1;
            if past.surely > tries || i64::from(record.tries) > tries {
                broken.push(("bounded", format!("start {} of {tries}: {record:?}", past.surely)));
            }
            if record.input.is_none() {
                broken.push(("input", format!("taken without input: {record:?}")));
            }
        }
        let retry = taken.is_some_and(|record| record.tries > 1 || record.last_error.is_some());
        past.held = Some(Held {
            fence: lease.fence,
            deadline: lease.deadline,
            system: taken.is_some(),
            alone,
            retry,
        });
        past.fence = Some(lease.fence);
        past.since.get_or_insert(now);
        for (law, what) in broken {
            self.broken(law, format!("{} was {what}", name(number)));
        }
    }

    /// A handler begins: no later than its lease ends. A jump of the clock ends leases that processes believe in.
    pub(in super::super) fn begins(&mut self, number: usize, fence: Fence, now: Timestamp) {
        let held = self.past(number).held.filter(|held| held.fence == fence);
        let over = held.is_none_or(|held| now > held.deadline.after(TICK));
        if over && self.plan.jumps == 0 {
            let what = format!("{} is started at {now} under {fence}: {held:?}", name(number));
            self.broken("late start", what);
        }
    }

    /// A record that ended when a runner wanted to take it.
    pub(in super::super) fn ended(&mut self, number: usize, record: &Record) {
        let tries = i64::from(self.plan.policy.limits.tries);
        let poison = self.plan.is_poison(number);
        let calm = self.plan.calm;
        let past = self.past(number);
        past.held = None;
        let early = match record.state {
            State::Dead {
                reason: DeadReason::Exhausted,
                ..
            } => past.maybe < tries,
            State::Dead {
                reason: DeadReason::Poison,
                ..
            } => past.crashes + 1 < Record::POISON || (calm && !poison),
            _ => false,
        };
        if early {
            let what = format!("{} after {} of {tries} tries: {record:?}", name(number), past.maybe);
            self.broken("killed early", what);
        }
    }

    fn finished(&mut self, number: usize, fence: Fence, finish: &Finish, now: Timestamp, before: Option<&Record>) {
        let limits = self.plan.policy.limits;
        let cap = self.plan.policy.backoff.cap;
        let steady = self.plan.jumps == 0;
        let past = self.past(number);
        let mut broken = Vec::new();
        if past.fence != Some(fence) {
            broken.push((
                "fence",
                format!("{fence} finished what {:?} holds: {finish:?}", past.fence),
            ));
        }
        let system = past.held.is_some_and(|held| held.system);
        match finish {
            Finish::Release { counts: false, .. } if system => {
                past.surely -= 1;
                // A run that lapsed into unknown has spent its try.
                if before.is_some_and(|record| matches!(record.state, State::Running { .. })) {
                    past.maybe -= 1;
                }
            }
            Finish::Dead {
                reason: DeadReason::Exhausted,
                ..
            } if steady && past.maybe < i64::from(limits.tries) => {
                let age = past.since.map_or(Duration::ZERO, |since| now.since(since));
                // A second for what a process believes to be the store's time.
                if age + cap + Duration::from_secs(1) < limits.elapsed {
                    let what = format!("dead after {} tries and {age:?}: {finish:?}", past.maybe);
                    broken.push(("killed early", what));
                }
            }
            _ => {}
        }
        past.held = None;
        past.crashes = 0;
        for (law, what) in broken {
            self.broken(law, format!("{}: {what}", name(number)));
        }
    }

    fn amended(
        &mut self,
        number: usize,
        amendment: &Amendment,
        before: Option<&Record>,
        after: Option<&Record>,
        arriving: Arriving,
    ) {
        let happened = self.effects.iter().any(|effect| effect.operation == number);
        let settles = self.plan.settles() && amendment.audit.actor == "probe";
        let Some(after) = after else {
            return self.removed(number);
        };
        let mut broken = Vec::new();
        let past = self.past(number);
        if past.fence.is_some_and(|fence| fence >= after.fence) {
            broken.push(("fence", format!("kept {:?}", past.fence)));
        }
        let was = before.map(|record| record.lapsed(after.since).unwrap_or_else(|| record.clone()));
        let state = was.as_ref().map(|record| record.state.name());
        match &amendment.amend {
            Amend::Redrive => {
                if state != Some(StateName::Dead) {
                    broken.push(("redrive", format!("redriven from {state:?}")));
                }
                (past.surely, past.maybe, past.since) = (0, 0, Some(after.since));
                past.redriven += 1;
            }
            Amend::Resolve { settle, .. } if amendment.amend.is_not_done() => {
                let settled = was.as_ref().map(|record| record.since.after(*settle));
                if settled.is_none_or(|at| at > after.since) {
                    broken.push(("settle", format!("believed before {settled:?}")));
                }
                if settles && (happened || arriving == Arriving::Call) {
                    broken.push(("settle", "wrong although it was settled".into()));
                }
            }
            _ => {}
        }
        if matches!(after.state, State::Waiting { .. }) {
            past.misjudged |= happened || arriving != Arriving::Nothing;
        }
        past.undone = match after.state {
            State::Dead { reason, .. } => reason == DeadReason::Undone,
            _ if past.undone && !matches!(after.state, State::Done(_)) => {
                broken.push(("undone", format!("became {}", after.state.name())));
                true
            }
            _ => false,
        };
        (past.fence, past.held) = (Some(after.fence), None);
        (past.amended, past.crashes) = (true, 0);
        for (law, what) in broken {
            self.broken(law, format!("{}: {what}: {amendment:?} {after:?}", name(number)));
        }
    }

    /// A sweep must find the record as it is, and over.
    fn swept(&mut self, number: usize, before: &Record, now: Timestamp) {
        let fence = self.past(number).fence;
        let over = before.forget_at().is_some_and(|at| at <= now);
        if !over || fence != Some(before.fence) {
            let what = format!("{} was forgotten at {now}, fence {fence:?}: {before:?}", name(number));
            self.broken("expiry", what);
        }
        self.removed(number);
    }

    /// What is heard of it from here on may be of before it was forgotten.
    pub(in super::super) fn goes(&mut self, number: usize) {
        self.past(number).removed = true;
    }

    fn removed(&mut self, number: usize) {
        let past = self.past(number);
        *past = Past {
            removed: true,
            fence: past.fence,
            kills: past.kills,
            redriven: past.redriven + 1,
            ..Past::default()
        };
        self.ends.remove(&number);
        self.answers.remove(&number);
    }

    /// A poisonous operation has killed its node.
    pub(in super::super) fn kills(&mut self, number: usize) {
        let tries = u64::from(self.plan.policy.limits.tries);
        let past = self.past(number);
        past.kills += 1;
        let most = (tries + KILLS) * (past.redriven + 1);
        if past.kills > most {
            let what = format!("{} has killed {} nodes, {most} are enough", name(number), past.kills);
            self.broken("poison", what);
        }
    }
}
