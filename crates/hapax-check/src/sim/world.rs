//! The world: what happens when.

mod accidents;
mod people;
mod traffic;

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_core::{BoxFuture, Fence, Filter, OperationId, Record, StateName, Store, Summary, Timestamp};
use hapax_store::MemoryStore;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::attend::Seen;
use super::client::{Wish, operation};
use super::door::{Heard, Said};
use super::laws::Laws;
use super::node::{Node, WAITERS};
use super::plan::{LEASE, MAX_RUN, Plan, SETTLING};
use super::post::Post;
use super::tally::Tally;
use super::upstream::{Effect, Spell};
use super::watched::Watched;
use super::{Canary, Config, Report};
use crate::canaries::Planted;
use crate::dice::Dice;
use crate::faulty::{Faulty, Later};
use crate::time::MadeTime;

/// The longest step of the world while something is under way, in milliseconds.
const BUSY_TICK_MS: u64 = 40;
/// The longest step while only runners may be at work.
const RUNNER_TICK_MS: u64 = 100;
/// The longest step otherwise.
const IDLE_TICK_MS: u64 = 500;
/// How many steps may go by before the records are looked at again.
const LOOK_EVERY: u64 = 16;

enum Event {
    Ask(Wish),
    ClientTimeOut(usize),
    Effect(Effect),
    Say(oneshot::Sender<Said>, Said),
    Tell(oneshot::Sender<Seen>, Seen),
    Late(BoxFuture<'static, ()>),
    Crash(usize, Duration),
    Restart(usize),
    Pause(usize, Duration),
    Resume(usize),
    Outage(bool),
    Spell(Option<Spell>),
    Correct,
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
    spell: Option<Spell>,
    healed: bool,
    /// When clients ask for everything at the latest, and whether they have.
    probe_by: u64,
    probed: bool,
    ids: Arc<[OperationId]>,
    /// Handlers that have not called the upstream yet: in which node, under which fence, for which operation.
    thinking: BTreeMap<(usize, Fence), usize>,
    /// Claims whose handlers have not begun, as far as their nodes may still hear of them.
    granted: BTreeMap<(usize, Fence), usize>,
    post: Post,
    tally: Arc<Tally>,
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
        let plan = Plan::draw(&mut dice, config.operations.clamp(1, 40));
        let time = MadeTime::new(Timestamp::from_millis(1_800_000_000_000));
        let store: Arc<dyn Store> = match config.canary {
            Canary::Store(bug) => Arc::new(Planted::new(bug, time.clock())),
            _ => Arc::new(MemoryStore::new(time.clock(), [1; 32])),
        };
        let runtime = match Builder::new_current_thread().enable_time().start_paused(true).build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime for the simulated world: {error}"),
        };
        let ids = (0..plan.operations).map(|number| operation(number).id()).collect();
        let mut world = Self {
            config: config.clone(),
            dice,
            laws: Laws::new(&plan),
            plan,
            time,
            now_ms: 0,
            runtime,
            store,
            nodes: Vec::new(),
            outage: false,
            spell: None,
            healed: false,
            probe_by: 0,
            probed: false,
            ids,
            thinking: BTreeMap::new(),
            granted: BTreeMap::new(),
            post: Post::default(),
            tally: Arc::default(),
            late: LateCalls::default(),
            queue: BTreeMap::new(),
            ticks: 0,
            stirred: false,
            scheduled: 0,
            calls: 0,
            open: BTreeMap::new(),
            report: Report {
                seed,
                ..Report::default()
            },
            digest: std::hash::DefaultHasher::new(),
        };
        for number in 0..config.nodes.max(1) {
            let node = world.node(number);
            world.nodes.push(Some(node));
        }
        world.draw_arrivals();
        world.draw_accidents();
        world.draw_corrections();
        world
    }

    pub(super) fn run(mut self) -> Report {
        let active = millis(self.config.active);
        self.at(active, Event::Heal);
        let mut probe = active + millis(MAX_RUN + LEASE * 2) + 1_000;
        if self.plan.runners {
            probe += millis(SETTLING);
        }
        self.at(probe, Event::Probe);
        self.probe_by = probe + millis(self.plan.late());
        let end = self.probe_by + 60_000;
        while self.now_ms < end && !self.is_over() {
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
    fn is_over(&self) -> bool {
        let coming = |event: &Event| matches!(event, Event::Ask(_) | Event::Effect(_) | Event::Probe);
        self.probed && self.open.is_empty() && !self.queue.values().any(coming)
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at_ms, self.scheduled), event);
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now_ms + millis(delay), event);
    }

    fn node(&mut self, number: usize) -> Node {
        let late = Arc::clone(&self.late);
        let later: Later = Arc::new(move |delay, step| {
            late.lock().unwrap_or_else(PoisonError::into_inner).push((delay, step));
        });
        let mut faults = self.plan.store.clone();
        faults.outage = self.outage;
        let post = self.post.of(number);
        let watched = Watched::new(Arc::clone(&self.store), post.clone(), Arc::clone(&self.ids), &self.plan);
        let store = Faulty::new(Arc::new(watched), self.dice.bits(), faults).with_later(later);
        self.laws.node_starts(number);
        Node::start(
            store,
            Arc::clone(&self.tally),
            self.config.canary,
            post,
            &self.plan,
            self.dice.bits(),
        )
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
                Event::Tell(reply, seen) => drop(reply.send(seen)),
                Event::Late(step) => {
                    self.runtime.block_on(step);
                    self.collect();
                }
                Event::Correct => self.correct(),
                Event::Probe if self.now_ms < self.probe_by && self.is_unsettled() => {
                    self.after(Duration::from_secs(1), Event::Probe);
                }
                Event::Probe => {
                    self.probed = true;
                    let healthy = (0..self.plan.operations).filter(|number| !self.plan.is_poison(*number));
                    for number in healthy.collect::<Vec<_>>() {
                        self.at(self.now_ms + 100 * number as u64, Event::Ask(Wish::probe(number)));
                    }
                }
                accident => self.accident(accident),
            }
        }
    }

    /// Lets a little time pass, in every node that is up.
    fn step(&mut self) {
        let longest = if !self.open.is_empty() {
            self.dice.between(1, BUSY_TICK_MS)
        } else if self.plan.runners && !self.healed {
            RUNNER_TICK_MS
        } else {
            IDLE_TICK_MS
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
        for number in 0..self.plan.operations {
            let record = self.record(operation(number).id());
            self.laws.record(number, record.as_ref());
        }
    }

    /// Whether one that is dead, unknown, or left to its next arrival is before it in its group.
    fn is_held_up(&self, record: &Record) -> bool {
        let filter = Filter {
            group: record.group,
            ..Filter::default()
        };
        let Some(page) = record.group.map(|_| self.store.list(filter, None, 1000)) else {
            return false;
        };
        let page = match self.runtime.block_on(page) {
            Ok(page) => page,
            Err(_) => return false,
        };
        let mut older = page
            .records
            .iter()
            .take_while(|other| other.operation != record.operation);
        older.any(|other| match other.state {
            StateName::Dead => true,
            StateName::Unknown => !self.plan.resolves,
            StateName::Running | StateName::Waiting => !other.has_input,
            StateName::Done => false,
        })
    }

    fn is_unsettled(&mut self) -> bool {
        (0..self.plan.operations).any(|number| {
            let record = self.record(operation(number).id());
            let held_up = record.as_ref().is_some_and(|record| self.is_held_up(record));
            self.laws.is_unsettled(record.as_ref(), self.time.now(), held_up)
        })
    }

    /// When all is over: every wish was answered, and no record is still in progress.
    fn judge(&mut self) {
        let left = std::mem::take(&mut self.open);
        for (number, wish) in left {
            self.laws
                .broken("liveness", format!("request {number} was never answered: {wish:?}"));
        }
        for number in 0..self.plan.operations {
            let record = self.record(operation(number).id());
            let now = self.time.now();
            let held_up = record.as_ref().is_some_and(|record| self.is_held_up(record));
            self.laws.judge(number, record.as_ref(), now, held_up);
            // As a listing shows it: a lapsed claim is no longer in progress, though nobody has asked again.
            match record.map(|record| Summary::of(&record, now).state) {
                Some(StateName::Unknown) => self.report.counts.unknown += 1,
                Some(StateName::Dead) => self.report.counts.dead += 1,
                _ => {}
            }
        }
        self.tally.add_to(&mut self.report.counts);
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
