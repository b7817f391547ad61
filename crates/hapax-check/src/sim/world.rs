//! The world: what happens when.

mod accidents;

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_core::{BoxFuture, OperationId, Record, Refusal, StateName, Store, Summary, Timestamp};
use hapax_store::MemoryStore;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::client::{Wish, describe, is_final, name, operation, request};
use super::door::{Call, Heard, Post, Said};
use super::laws::Laws;
use super::node::{Node, WAITERS};
use super::plan::{LEASE, MAX_RUN, Plan};
use super::upstream::{Effect, fate};
use super::{Canary, Config, Report};
use crate::canaries::Planted;
use crate::dice::Dice;
use crate::faulty::{Faulty, Later};
use crate::time::MadeTime;

/// The longest step of the world while something is under way, in milliseconds.
const BUSY_TICK_MS: u64 = 40;
/// The longest step otherwise.
const IDLE_TICK_MS: u64 = 500;
/// How many steps may go by before the records are looked at again.
const LOOK_EVERY: u64 = 16;

enum Event {
    Ask(Wish),
    ClientTimeOut(usize),
    Effect(Effect),
    Say(oneshot::Sender<Said>, Said),
    Late(BoxFuture<'static, ()>),
    Crash(usize, Duration),
    Restart(usize),
    Pause(usize, Duration),
    Resume(usize),
    Outage(bool),
    Jump(i64),
    Heal,
    Probe,
}

type LateCalls = Arc<Mutex<Vec<(Duration, BoxFuture<'static, ()>)>>>;

pub(super) struct World {
    config: Config,
    dice: Dice,
    plan: Plan,
    time: MadeTime,
    now_ms: u64,
    runtime: Runtime,
    store: Arc<dyn Store>,
    nodes: Vec<Option<Node>>,
    outage: bool,
    healed: bool,
    post: Post,
    late: LateCalls,
    queue: BTreeMap<(u64, u64), Event>,
    ticks: u64,
    /// Whether somebody was answered since the records were looked at.
    stirred: bool,
    scheduled: u64,
    calls: usize,
    /// Wishes whose request is under way, by its number.
    open: BTreeMap<usize, Wish>,
    laws: Laws,
    report: Report,
    digest: std::hash::DefaultHasher,
}

impl World {
    pub(super) fn new(seed: u64, config: &Config) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice);
        let time = MadeTime::new(Timestamp::from_millis(1_800_000_000_000));
        let store: Arc<dyn Store> = match config.canary {
            Canary::Store(bug) => Arc::new(Planted::new(bug, time.clock())),
            _ => Arc::new(MemoryStore::new(time.clock(), [1; 32])),
        };
        let runtime = match Builder::new_current_thread().enable_time().start_paused(true).build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime for the simulated world: {error}"),
        };
        let mut world = Self {
            config: config.clone(),
            dice,
            plan,
            time,
            now_ms: 0,
            runtime,
            store,
            nodes: Vec::new(),
            outage: false,
            healed: false,
            post: Post::default(),
            late: LateCalls::default(),
            queue: BTreeMap::new(),
            ticks: 0,
            stirred: false,
            scheduled: 0,
            calls: 0,
            open: BTreeMap::new(),
            laws: Laws::default(),
            report: Report {
                seed,
                ..Report::default()
            },
            digest: std::hash::DefaultHasher::new(),
        };
        for _ in 0..config.nodes.max(1) {
            let node = world.node();
            world.nodes.push(Some(node));
        }
        world.draw_arrivals();
        world.draw_accidents();
        world
    }

    pub(super) fn run(mut self) -> Report {
        let active = millis(self.config.active);
        self.at(active, Event::Heal);
        let probe = active + millis(MAX_RUN + LEASE * 2) + 1_000;
        self.at(probe, Event::Probe);
        let end = probe + 60_000;
        while self.now_ms < end && !self.is_over(probe) {
            self.happen();
            self.step();
        }
        // What a client that hung up has begun comes to its end by itself.
        let quiet = self.now_ms + millis((MAX_RUN + LEASE) * 2);
        while self.now_ms < quiet {
            self.happen();
            self.step();
        }
        self.judge();
        self.report.digest = self.digest.finish();
        self.report.violations = self.laws.violations;
        self.report.counts.effects = self.laws.effects.len() as u64;
        self.report
    }

    /// Whether the probes have been asked, and nothing is left to be asked or to happen.
    fn is_over(&self, probe_ms: u64) -> bool {
        let coming = |event: &Event| matches!(event, Event::Ask(_) | Event::Effect(_) | Event::Probe);
        self.now_ms > probe_ms && self.open.is_empty() && !self.queue.values().any(coming)
    }

    fn draw_arrivals(&mut self) {
        let active = millis(self.config.active);
        for number in 0..self.config.operations {
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

    fn at(&mut self, at_ms: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at_ms, self.scheduled), event);
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now_ms + millis(delay), event);
    }

    fn node(&mut self) -> Node {
        let late = Arc::clone(&self.late);
        let later: Later = Arc::new(move |delay, step| {
            late.lock().unwrap_or_else(PoisonError::into_inner).push((delay, step));
        });
        let mut faults = self.plan.store.clone();
        faults.outage = self.outage;
        let store = Faulty::new(Arc::clone(&self.store), self.dice.bits(), faults).with_later(later);
        Node::start(store, self.config.canary, self.post.clone())
    }

    /// Lets happen what is due.
    fn happen(&mut self) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now_ms) {
            match entry.remove() {
                Event::Ask(wish) => self.ask(wish),
                Event::ClientTimeOut(number) => self.heard(number, &Heard::Nothing),
                Event::Effect(effect) => {
                    self.note(|| format!("effect {effect:?}"));
                    let mode = self.plan.mode(effect.operation);
                    let record = self.record(operation(effect.operation).id());
                    self.laws.record(effect.operation, record.as_ref());
                    self.laws.effect(effect, mode);
                }
                // A gateway that crashed or timed out does not hear it.
                Event::Say(reply, said) => drop(reply.send(said)),
                Event::Late(step) => self.runtime.block_on(step),
                Event::Probe => {
                    for number in 0..self.config.operations {
                        self.at(self.now_ms + 100 * number as u64, Event::Ask(Wish::probe(number)));
                    }
                }
                accident => self.accident(accident),
            }
        }
    }

    fn ask(&mut self, wish: Wish) {
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

    /// Lets a little time pass, in every node that is up.
    fn step(&mut self) {
        let longest = if self.open.is_empty() {
            IDLE_TICK_MS
        } else {
            self.dice.between(1, BUSY_TICK_MS)
        };
        let next = self.queue.first_key_value().map_or(u64::MAX, |(key, _)| key.0);
        let tick_ms = next.saturating_sub(self.now_ms).clamp(1, longest);
        let tick = Duration::from_millis(tick_ms);
        self.now_ms += tick_ms;
        self.time.pass(tick);
        let first = self.dice.below(self.nodes.len() as u64) as usize;
        for turn in 0..self.nodes.len() {
            let number = (first + turn) % self.nodes.len();
            if let Some(node) = &mut self.nodes[number] {
                node.step(tick);
                let waiting = node.waiting();
                if waiting > WAITERS {
                    self.laws
                        .broken("bounded", format!("{waiting} duplicates wait in node {number}"));
                }
                self.collect();
            }
        }
        self.ticks += 1;
        if self.stirred || self.ticks.is_multiple_of(LOOK_EVERY) {
            self.stirred = false;
            self.look_at_records();
        }
    }

    /// Takes what nodes left in the letter box.
    fn collect(&mut self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        for (delay, step) in late {
            self.after(delay, Event::Late(step));
        }
        let mail = std::mem::take(&mut *self.post.lock());
        self.stirred |= !mail.replies.is_empty();
        for call in mail.calls {
            self.call_upstream(call);
        }
        for (number, heard) in mail.replies {
            self.heard(number, &heard);
        }
    }

    fn call_upstream(&mut self, call: Call) {
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
        let fate = fate(&mut self.dice, &self.plan.upstream, number, &named, &call);
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
    fn heard(&mut self, number: usize, heard: &Heard) {
        let Some(mut wish) = self.open.remove(&number) else {
            return;
        };
        self.note(|| format!("request {number} hears {}", describe(heard)));
        let record = self.record(operation(wish.operation).id());
        self.laws.reply(wish.operation, wish.payload, heard, record.as_ref());
        let counts = &mut self.report.counts;
        match heard {
            Heard::Answer(_) => counts.answers += 1,
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

    fn record(&mut self, id: OperationId) -> Option<Record> {
        match self.runtime.block_on(self.store.read(id)) {
            Ok((now, record)) => {
                self.laws.time(now);
                record
            }
            Err(error) => {
                self.laws.broken("store", error.to_string());
                None
            }
        }
    }

    fn look_at_records(&mut self) {
        for number in 0..self.config.operations {
            let record = self.record(operation(number).id());
            self.laws.record(number, record.as_ref());
        }
    }

    /// When all is over: every wish was answered, and no record is still in progress.
    fn judge(&mut self) {
        let left = std::mem::take(&mut self.open);
        for (number, wish) in left {
            self.laws
                .broken("liveness", format!("request {number} was never answered: {wish:?}"));
        }
        for number in 0..self.config.operations {
            let record = self.record(operation(number).id());
            // As a listing shows it: a lapsed claim is no longer in progress, though nobody has asked again. One that
            // waits, and that nobody asks for with the same payload, is forgotten.
            let shown = record.as_ref().map(|record| Summary::of(record, self.time.now()));
            match shown.map(|shown| (shown.state, shown.until)) {
                Some((StateName::Running, until)) if until > Some(self.time.now()) => {
                    let what = format!("{} is still in progress: {record:?}", name(number));
                    self.laws.broken("liveness", what);
                }
                Some((StateName::Unknown, _)) => self.report.counts.unknown += 1,
                _ => {}
            }
        }
        for node in self.nodes.iter().flatten() {
            self.report.counts.store_faults += node.store.injected();
        }
    }

    fn note(&mut self, event: impl FnOnce() -> String) {
        let line = format!("{:>7} ms  {}", self.now_ms, event());
        self.digest.write(line.as_bytes());
        if self.config.keep_trace {
            self.report.trace.push(line);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    hapax_core::time::millis(duration).unsigned_abs()
}
