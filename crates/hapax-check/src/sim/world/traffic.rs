//! What clients, runners and the upstream send each other, and what the store carried out for it.

use std::sync::PoisonError;
use std::time::Duration;

use hapax_core::{Amend, Fence, OperationId, Record, Refusal, Taken, Work};
use tokio::sync::oneshot;

use super::super::attend::Seen;
use super::super::client::{Wish, describe, is_final, name, operation, request};
use super::super::door::{Call, Heard, Said};
use super::super::laws::Arriving;
use super::super::node::Node;
use super::super::post::Item;
use super::super::upstream::{Effect, Spell, answer, fate};
use super::super::watched::Step;
use super::{Event, World, millis};

impl World {
    pub(super) fn draw_arrivals(&mut self) {
        let active = millis(self.config.active);
        for number in 0..self.plan.operations {
            let first = self.dice.below(active * 2 / 3);
            for _ in 0..self.dice.between(1, self.plan.arrivals.max(1)) {
                // Half of the duplicates come at once.
                let at = match self.dice.chance(500) {
                    true => first + self.dice.below(100),
                    false => first + self.dice.below(active - first),
                };
                let wish = Wish::draw(&mut self.dice, &self.plan, number);
                self.at(at, Event::Ask(wish));
            }
        }
    }

    pub(super) fn ask(&mut self, wish: Wish) {
        let number = self.report.counts.requests as usize;
        self.report.counts.requests += 1;
        let node = self.dice.below(self.nodes.len() as u64) as usize;
        let request = request(&mut self.dice, &self.plan, number, &wish);
        self.note(|| format!("request {number} to node {node}: {wish:?}"));
        self.open.insert(number, wish);
        // A client waits a little longer than it takes to hang up; a crashed gateway refuses the connection.
        let time_out = request.patience + Duration::from_millis(100);
        match &self.nodes[node] {
            Some(node) => {
                node.take(request);
                self.after(time_out, Event::ClientTimeOut(number));
            }
            None => self.after(Duration::from_millis(1), Event::ClientTimeOut(number)),
        }
    }

    /// Takes what nodes left in the letter box.
    pub(super) fn collect(&mut self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        for (delay, step) in late {
            self.after(delay, Event::Late(step));
        }
        let items = self.post.take();
        for (_, item) in &items {
            if let Item::Step(step) = item
                && let Step::Amended { id, after: None, .. } | Step::Swept { id, .. } = step.as_ref()
                && let Some(number) = self.number(*id)
            {
                self.laws.goes(number);
            }
        }
        for (node, item) in items {
            if self.nodes[node].is_none() && !matches!(item, Item::Step(_)) {
                // What a node did after it was killed, and before it noticed.
                continue;
            }
            match item {
                Item::Started {
                    operation,
                    fence,
                    by_runner,
                } => self.started(node, operation, fence, by_runner),
                Item::Call(call) => self.call_upstream(node, call),
                Item::Look { operation, reply } => self.look_at_upstream(operation, reply),
                Item::Reply(number, heard) => {
                    self.stirred = true;
                    self.heard(number, &heard);
                }
                Item::Kills(number) => {
                    self.note(|| format!("{} kills node {node}", name(number)));
                    self.report.counts.kills += 1;
                    self.laws.kills(number);
                    let down = self.dice.millis(20, 2_000);
                    self.crash(node, down);
                }
                Item::Step(step) => self.carried_out(node, &step),
            }
        }
    }

    fn started(&mut self, node: usize, number: usize, fence: Fence, by_runner: bool) {
        self.granted.remove(&(node, fence));
        let now = self.time.now();
        self.laws.begins(number, fence, now);
        self.thinking.insert((node, fence), number);
        if let Some(probes) = self.nodes[node].as_ref().filter(|_| by_runner).map(Node::probes) {
            let now_ms = self.now_ms;
            self.laws.runs(node, number, now_ms, probes);
        }
    }

    /// What of the operation may still reach the upstream.
    fn arriving(&self, number: usize) -> Arriving {
        let coming = |event: &Event| matches!(event, Event::Effect(effect) if effect.operation == number);
        if self.thinking.values().any(|thinking| *thinking == number) || self.queue.values().any(coming) {
            Arriving::Call
        } else if self.granted.values().any(|granted| *granted == number) {
            Arriving::Claim
        } else {
            Arriving::Nothing
        }
    }

    fn number(&self, id: OperationId) -> Option<usize> {
        self.ids.iter().position(|known| *known == id)
    }

    /// A step that the store carried out.
    fn carried_out(&mut self, node: usize, step: &Step) {
        let id = match step {
            Step::Took(taken) => return self.took(node, taken),
            Step::Claimed { id, .. }
            | Step::Renewed { id, .. }
            | Step::Finished { id, .. }
            | Step::Enqueued { id, .. }
            | Step::Amended { id, .. }
            | Step::Overtook { id, .. }
            | Step::Swept { id, .. } => *id,
        };
        let Some(number) = self.number(id) else {
            return;
        };
        match step {
            Step::Amended { amendment, after, .. } => {
                let (action, actor) = (amendment.amend.as_str(), &amendment.audit.actor);
                let after = after.as_ref().map(|record| record.state.name());
                self.note(|| format!("{actor} does {action} to {}: {after:?}", name(number)));
                match amendment.amend {
                    Amend::Redrive => self.report.counts.redrives += 1,
                    Amend::Resolve { .. } => self.report.counts.resolves += 1,
                    _ => {}
                }
            }
            Step::Swept { .. } => self.note(|| format!("a sweep forgets {}", name(number))),
            Step::Finished { fence, finish, .. } => {
                self.note(|| format!("{} finished under {fence}: {finish:?}", name(number)));
            }
            _ => {}
        }
        match step {
            Step::Claimed { lease, .. } => {
                self.granted.insert((node, lease.fence), number);
            }
            Step::Finished { fence, .. } => {
                self.granted.remove(&(node, *fence));
            }
            _ => {}
        }
        let arriving = self.arriving(number);
        self.laws.step(number, step, arriving);
    }

    fn took(&mut self, node: usize, taken: &Taken) {
        let number = |record: &Record| self.number(record.operation.id());
        let ended: Vec<_> = taken
            .ended
            .iter()
            .filter_map(|record| Some((number(record)?, record)))
            .collect();
        let works = taken.work.iter().filter_map(|work| {
            let (Work::Run(record, _) | Work::Resolve(record)) = work;
            Some((number(record)?, work))
        });
        for (number, work) in works.collect::<Vec<_>>() {
            if let Work::Run(_, lease) = work {
                self.note(|| format!("{} is taken: {lease:?}", name(number)));
                self.report.counts.takes += 1;
                self.granted.insert((node, lease.fence), number);
            }
            self.laws.took(number, work, taken.now);
        }
        for (number, record) in ended {
            self.note(|| format!("{} ended: {:?}", name(number), record.state));
            self.laws.ended(number, record);
        }
    }

    /// What the upstream tells when it is asked whether an operation happened.
    fn look_at_upstream(&mut self, number: usize, reply: oneshot::Sender<Seen>) {
        let after = self.dice.millis(2, 600);
        let odds = &self.plan.upstream;
        if self.spell == Some(Spell::Down) || self.dice.chance(odds.probe_down) {
            return;
        }
        let effect = self.laws.effects.iter().find(|effect| effect.operation == number);
        let seen = match effect {
            _ if self.dice.chance(odds.probe_vague) => Seen::Vague,
            Some(effect) => Seen::Effect(answer(201, &name(number), effect.payload, effect.call)),
            None => Seen::Nothing,
        };
        self.note(|| format!("asked of {}, the upstream sees {seen:?}", name(number)));
        self.after(after, Event::Tell(reply, seen));
    }

    fn call_upstream(&mut self, node: usize, call: Call) {
        if let Some(fence) = call.fence {
            self.thinking.remove(&(node, fence));
        }
        let number = self.calls;
        self.calls += 1;
        let named = name(call.operation);
        self.note(|| {
            format!(
                "call {number} of {named} payload {} fence {:?}",
                call.payload, call.fence
            )
        });
        self.laws.called(number, call.fence);
        let fate = fate(&mut self.dice, &self.plan.upstream, self.spell, number, &named, &call);
        if let Some(after) = fate.effect_after {
            let effect = Effect {
                operation: call.operation,
                payload: call.payload,
                fence: call.fence,
                call: number,
            };
            self.after(after, Event::Effect(effect));
        }
        match fate.says {
            Some((after, said)) => self.after(after, Event::Say(call.reply, said)),
            // It never answers, but keeps the connection.
            None => self.after(Duration::from_secs(3600), Event::Say(call.reply, Said::Refused)),
        }
    }

    /// What the client of a request heard.
    pub(super) fn heard(&mut self, number: usize, heard: &Heard) {
        let Some(mut wish) = self.open.remove(&number) else {
            return;
        };
        self.note(|| format!("request {number} hears {}", describe(heard)));
        let record = self.record(operation(wish.operation).id());
        self.laws.reply(wish.operation, wish.payload, heard, record.as_ref());
        let counts = &mut self.report.counts;
        match heard {
            Heard::Answer(_) => counts.answers += 1,
            Heard::Accepted => counts.accepted += 1,
            Heard::Refused(Refusal::Mismatch) => counts.mismatches += 1,
            Heard::Refused(Refusal::Done { .. }) => counts.answers += 1,
            Heard::Refused(_) => counts.refusals += 1,
            _ => {}
        }
        wish.tries_left -= 1;
        if !is_final(heard) && wish.tries_left > 0 {
            let pause = self.dice.millis(100, 1_500);
            self.after(pause, Event::Ask(wish));
        } else if wish.probe {
            let mode = self.plan.mode(wish.operation);
            self.laws.probed(wish.operation, mode, Some(heard));
        }
    }
}
