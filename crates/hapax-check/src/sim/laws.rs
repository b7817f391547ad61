//! The laws, checked on every effect, every reply and every record.

mod budget;
mod end;
mod queue;

use std::collections::{HashMap, HashSet};

use hapax_core::{AfterFailure, Answer, Fence, NotKept, Outcome, Record, Refusal, State, Timestamp};

use super::client::name;
use super::door::Heard;
use super::plan::{MAX_RUN, Plan};
use super::upstream::Effect;
use budget::Starts;
pub(super) use queue::Arriving;
use queue::Past;

/// What was seen so far, and which laws were broken.
pub(super) struct Laws {
    /// As it was drawn, faults included.
    plan: Plan,
    /// What each operation went through.
    pasts: HashMap<usize, Past>,
    /// What the runner of each node has started.
    starts: HashMap<usize, Starts>,
    pub(super) effects: Vec<Effect>,
    pub(super) violations: Vec<String>,
    /// Under which fence each call of the upstream was made.
    calls: HashMap<usize, Option<Fence>>,
    fences: HashSet<Fence>,
    answers: HashMap<usize, Answer>,
    ends: HashMap<usize, (Fence, Timestamp, Outcome)>,
    highest: HashMap<usize, Fence>,
    latest: Option<Timestamp>,
    /// Payloads that records were made with. More than one, and a record was forgotten in between.
    payloads: HashMap<usize, HashSet<u8>>,
}

impl Laws {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            pasts: HashMap::new(),
            starts: HashMap::new(),
            effects: Vec::new(),
            violations: Vec::new(),
            calls: HashMap::new(),
            fences: HashSet::new(),
            answers: HashMap::new(),
            ends: HashMap::new(),
            highest: HashMap::new(),
            latest: None,
            payloads: HashMap::new(),
        }
    }

    pub(super) fn broken(&mut self, law: &str, what: String) {
        self.violations.push(format!("{law}: {what}"));
    }

    /// The store's time.
    pub(super) fn time(&mut self, now: Timestamp) {
        if let Some(latest) = self.latest.filter(|latest| *latest > now) {
            self.broken("time", format!("the store's time was {latest}, and is {now}"));
        }
        self.latest = self.latest.max(Some(now));
    }

    /// A call on its way to the upstream.
    pub(super) fn called(&mut self, call: usize, fence: Option<Fence>) {
        self.calls.insert(call, fence);
    }

    /// An effect at the upstream.
    pub(super) fn effect(&mut self, effect: Effect, mode: AfterFailure) {
        let number = effect.operation;
        let earlier = self.effects.iter().find(|earlier| earlier.operation == number);
        if let Some(earlier) = earlier.cloned() {
            if mode == AfterFailure::Hold && !self.was_misjudged(number) {
                let what = format!("{} happened twice: {earlier:?}, {effect:?}", name(number));
                self.broken("once", what);
            }
            if earlier.payload != effect.payload && !self.was_forgotten(number) {
                let what = format!("{} ran with two payloads: {earlier:?}, {effect:?}", name(number));
                self.broken("one payload", what);
            }
        }
        if let Some(fence) = effect.fence
            && !self.fences.insert(fence)
        {
            self.broken("fence", format!("fence {fence} ran twice, now as {effect:?}"));
        }
        self.effects.push(effect);
    }

    fn learn(&mut self, number: usize, record: Option<&Record>) {
        if let Some(record) = record {
            let payload = record.fingerprint.digest()[0];
            self.payloads.entry(number).or_default().insert(payload);
        }
    }

    /// Whether an operation's record was made anew with another payload: what is said of it may be of the older one.
    fn was_forgotten(&self, number: usize) -> bool {
        self.was_removed(number) || self.payloads.get(&number).is_some_and(|payloads| payloads.len() > 1)
    }

    /// A reply to a client who sent `payload`; `record` is the store's at that moment.
    pub(super) fn reply(&mut self, number: usize, payload: u8, heard: &Heard, record: Option<&Record>) {
        self.learn(number, record);
        let mismatched = matches!(heard, Heard::Refused(Refusal::Mismatch));
        let told_record = matches!(heard, Heard::Answer(_) | Heard::Refused(_));
        let asked = record.map(|record| record.fingerprint.digest() == &[payload; 32]);
        if told_record && asked.is_some_and(|same| same == mismatched) && !self.was_forgotten(number) {
            let what = format!(
                "{} with payload {payload} heard {heard:?}, the record: {record:?}",
                name(number)
            );
            self.broken("mismatch first", what);
        }
        match heard {
            // Caches may tell of what is gone.
            _ if self.was_removed(number) => {}
            Heard::Accepted => self.accepted(number, record),
            Heard::Answer(answer) => self.answer(number, payload, answer, record),
            Heard::Refused(Refusal::Done {
                outcome: Outcome::Answer(answer),
                ..
            }) => self.answer(number, payload, answer, record),
            _ => {}
        }
    }

    /// A completed operation's answer.
    fn answer(&mut self, number: usize, payload: u8, answer: &Answer, record: Option<&Record>) {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let said = format!("{} payload {payload} call ", name(number));
        let call = body.strip_prefix(&said).and_then(|call| call.parse::<usize>().ok());
        let Some(call) = call else {
            self.broken(
                "isolation",
                format!("{} with payload {payload} heard {body:?}", name(number)),
            );
            return;
        };
        let happened = self
            .effects
            .iter()
            .any(|effect| effect.operation == number && effect.call == call);
        if answer.status == 201 && !happened {
            self.broken("ack needs effect", format!("{body:?} was answered, and never happened"));
        }
        match record.map(|record| &record.state) {
            Some(State::Done(Outcome::Answer(kept))) if kept == answer => {}
            Some(State::Done(Outcome::NotKept(NotKept::Expired))) => {}
            state => self.broken(
                "durable before answered",
                format!("{body:?} was answered, the record: {state:?}"),
            ),
        }
        let first = self.answers.entry(number).or_insert_with(|| answer.clone());
        if first != answer {
            let what = format!("{} was answered {:?} and {body:?}", name(number), first.body);
            self.broken("same answer", what);
        }
    }

    /// A record as it stands.
    pub(super) fn record(&mut self, number: usize, record: Option<&Record>) {
        self.learn(number, record);
        let Some(record) = record else {
            if self.ends.contains_key(&number) && !self.was_removed(number) {
                self.broken("expiry", format!("{} was done, and is forgotten", name(number)));
            }
            return;
        };
        let highest = self.highest.entry(number).or_insert(record.fence);
        if record.fence < *highest {
            let what = format!("{} has fence {} after {highest}", name(number), record.fence);
            self.violations.push(format!("fence: {what}"));
        }
        *highest = (*highest).max(record.fence);
        if let State::Running {
            deadline, run_until, ..
        } = &record.state
            && (deadline > run_until || run_until.since(record.since) > MAX_RUN)
        {
            self.broken("bounded", format!("{} runs past max_run: {record:?}", name(number)));
        }
        self.keeps_its_input(number, record);
        self.end(number, record);
    }

    /// A done record never changes, but for the answer's expiry.
    fn end(&mut self, number: usize, record: &Record) {
        let expired = Outcome::NotKept(NotKept::Expired);
        match (self.ends.get(&number), &record.state) {
            (Some((fence, since, outcome)), State::Done(kept)) => {
                let same = (*fence, *since) == (record.fence, record.since);
                if !same || (kept != outcome && *kept != expired) {
                    let what = format!("{} changed after it was done: {record:?}", name(number));
                    self.broken("done is done", what);
                }
            }
            (Some(_), state) => {
                let what = format!("{} was done, and is {}", name(number), state.name());
                self.broken("done is done", what);
            }
            (None, State::Done(outcome)) => {
                self.ends.insert(number, (record.fence, record.since, outcome.clone()));
                self.finished_by_its_holder(number, record);
            }
            (None, _) => {}
        }
    }

    /// The answer that is kept must be of the call that was made under the record's fence.
    fn finished_by_its_holder(&mut self, number: usize, record: &Record) {
        let State::Done(Outcome::Answer(answer)) = &record.state else {
            return;
        };
        let body = String::from_utf8_lossy(&answer.body);
        let call = body.rsplit(' ').next().and_then(|call| call.parse::<usize>().ok());
        let fence = call.and_then(|call| self.calls.get(&call).copied().flatten());
        if fence != Some(record.fence) && !self.was_amended(number) {
            let what = format!("{} keeps {body:?}, asked under {fence:?}: {record:?}", name(number));
            self.broken("fence", what);
        }
    }

    /// What a probe heard when all faults were over.
    pub(super) fn probed(&mut self, number: usize, mode: AfterFailure, heard: Option<&Heard>) {
        let ended = match heard {
            Some(Heard::Answer(_) | Heard::Rejected) => true,
            Some(Heard::Refused(refusal)) => match refusal {
                Refusal::Done { .. } | Refusal::Mismatch | Refusal::Dead { .. } => true,
                Refusal::Unknown { .. } => mode == AfterFailure::Hold && !self.plan.resolves,
                _ => false,
            },
            _ => false,
        };
        if !ended {
            let what = format!(
                "{} in {mode} mode, asked when all was well, heard {heard:?}",
                name(number)
            );
            self.broken("liveness", what);
        }
    }
}
