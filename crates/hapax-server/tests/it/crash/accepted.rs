//! Operations that are accepted and left alone while the gateway is killed again and again: none is lost. Each ends
//! done once, or in a state that says that nobody knows, because a kill cut it off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use hapax::core::{Filter, StateName, Summary, Timestamp};
use hapax::store::Clock;
use hapax_testbed::FreePort;
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::client::{Ask, Client, Sent};
use super::journal::{End, Journal, SLACK};
use super::rig::{Dice, LEASE, Mode, RUNS, Rig, StoreKind, assert_killed};
use super::storm::{ACTIVE, chance, order};
use super::{DAWDLE, PATIENCE, kills, laws};

mod nothing_accepted_is_lost {
    in_each_configuration!(super::kill_while_they_wait);
}

/// Operations for each kill: 1,000 with the usual 10 kills, 10,000 with 50 (`HAPAX_CRASH_KILLS=100`).
fn share(kills: u64) -> u64 {
    if kills > 10 { 200 } else { 100 }
}

/// Kills are spread over this much of the work, in percent: the rest may have been cut off.
const UNDER_FIRE: u64 = 80;

fn kill_while_they_wait(kind: StoreKind, mode: Mode) {
    let (kills, port) = (kills() / 2, FreePort::take());
    let mut test = Test::start(Rig::new(kind, mode), &port, kills * share(kills), kind);
    let mut dice = Dice::new(test.crowd.seed);
    for number in 0..kills {
        test.kill(&port, number, kills, &mut dice);
    }
    let gateway = test.rig.gateway(&port, None);
    let ends = test.subside();
    test.ask_again(&ends);
    test.check(&ends);
    assert!(!gateway.process.log().contains("panicked"), "{}", gateway.process.log());
}

/// Those who ask once to have something run later.
struct Crowd {
    seed: u64,
    journal: Journal,
    client: Client,
    asks: Vec<Ask>,
    accepted: AtomicU64,
}

impl Crowd {
    fn new(mode: Mode, client: Client, count: u64) -> Self {
        let seed = chance();
        let mut dice = Dice::new(seed);
        let dawdle = DAWDLE.as_millis() as u64;
        let ask = |index| Ask {
            later: true,
            ..order(index, &mut dice, dawdle)
        };
        Self {
            seed,
            journal: Journal::new(mode),
            client,
            asks: (0..count).map(ask).collect(),
            accepted: AtomicU64::new(0),
        }
    }

    /// Lays all of them down: each is asked for until it is known to be safe.
    async fn come(&self) {
        stream::iter(&self.asks)
            .for_each_concurrent(ACTIVE, |ask| async {
                self.journal.asked(ask);
                while !self.is_safe(ask).await {
                    sleep(Dice::new(chance()).millis(50)).await;
                }
                self.accepted.fetch_add(1, Ordering::Relaxed);
            })
            .await;
    }

    async fn is_safe(&self, ask: &Ask) -> bool {
        let Some((accepted, end)) = self.ask(ask).await else {
            return false;
        };
        accepted || end.is_some()
    }

    /// Whether it was accepted, and its end if that is known; `None` if there was no answer.
    async fn ask(&self, ask: &Ask) -> Option<(bool, Option<End>)> {
        let at = Instant::now();
        let sent = self.client.send(ask).await;
        self.journal.count(|counts| {
            counts.requests += 1;
            counts.refused += u64::from(matches!(sent, Sent::Refused));
            counts.cut += u64::from(matches!(sent, Sent::Cut));
        });
        let Sent::Answered(answer) = sent else { return None };
        let accepted = answer.status == 202;
        Some((accepted, self.journal.judge(ask, at, answer)))
    }

    /// Asks for all of them once more: what is settled must be said.
    async fn ask_again(&self, ends: &BTreeMap<String, Summary>) {
        stream::iter(&self.asks)
            .for_each_concurrent(ACTIVE, |ask| async move {
                let told = self.ask(ask).await.and_then(|(_, end)| end);
                let state = ends.get(&ask.key).map(|end| end.state);
                match (told, state) {
                    (Some(End::Done), Some(StateName::Done)) | (Some(End::Unknown), Some(StateName::Unknown)) => {}
                    wrong => self
                        .journal
                        .violated(format!("{ask:?}: told and recorded are {wrong:?}")),
                }
                self.journal.ended(ask);
            })
            .await;
    }
}

struct Test {
    rig: Rig,
    kind: StoreKind,
    crowd: Arc<Crowd>,
    runtime: Runtime,
    started: Instant,
    /// The stores' clock, on the same machine.
    clock: Clock,
    /// When each kill came, between two looks at the clock.
    kills: Vec<(Timestamp, Timestamp)>,
}

impl Test {
    fn start(rig: Rig, port: &FreePort, count: u64, kind: StoreKind) -> Self {
        let client = Client::new(port.address(), PATIENCE);
        let crowd = Arc::new(Crowd::new(rig.mode, client, count));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let coming = Arc::clone(&crowd);
        runtime.spawn(async move { coming.come().await });
        Self {
            rig,
            kind,
            crowd,
            runtime,
            started: Instant::now(),
            clock: Clock::default(),
            kills: Vec::new(),
        }
    }

    /// Lets a gateway work until some more is done, or not even start, and kills it.
    fn kill(&mut self, port: &FreePort, number: u64, of: u64, dice: &mut Dice) {
        let whole = 2 * self.crowd.asks.len() as u64 * UNDER_FIRE / 100;
        let until = (number * whole + dice.roll(whole)) / of;
        let mut process = match dice.roll(4) {
            0 => self.rig.starting(port),
            _ => {
                let gateway = self.rig.gateway(port, None);
                self.wait_until(until);
                gateway.process
            }
        };
        // Not to wait for anything: this is the random moment.
        thread::sleep(dice.millis(20));
        let before = self.clock.now();
        process.signal(Signal::KILL);
        let status = process.wait();
        assert_killed(&process, status);
        self.kills.push((before, self.clock.now()));
        self.crowd.journal.killed();
    }

    /// Waits until so much was accepted and done.
    fn wait_until(&self, progress: u64) {
        let (mut last, mut at) = (0, Instant::now());
        loop {
            let made = self.crowd.accepted.load(Ordering::Relaxed) + self.rig.shop.effects();
            if made >= progress {
                return;
            }
            if made > last {
                (last, at) = (made, Instant::now());
            }
            assert!(
                at.elapsed() < 2 * LEASE + SLACK,
                "{made} of {progress} and nothing goes on"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// No more kills: waits until nothing waits or runs. Gives the end of each.
    fn subside(&self) -> BTreeMap<String, Summary> {
        let store = self.runtime.block_on(self.rig.store());
        let (mut last, mut at) = (usize::MAX, Instant::now());
        loop {
            let mut ends = BTreeMap::new();
            let mut open = self.crowd.asks.len() - self.crowd.accepted.load(Ordering::Relaxed) as usize;
            let mut after = None;
            loop {
                let page = self
                    .runtime
                    .block_on(store.list(Filter::default(), after, 1000))
                    .unwrap();
                for summary in page.records {
                    open += usize::from(matches!(summary.state, StateName::Waiting | StateName::Running));
                    ends.insert(summary.operation.key().to_string(), summary);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            if open == 0 {
                return ends;
            }
            if open < last {
                (last, at) = (open, Instant::now());
            }
            assert!(
                at.elapsed() < 2 * LEASE + SLACK,
                "{open} wait or run for ever: {ends:?}"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn ask_again(&self, ends: &BTreeMap<String, Summary>) {
        self.runtime.block_on(self.crowd.ask_again(ends));
    }

    #[expect(clippy::print_stdout, reason = "a test's report")]
    fn check(&self, ends: &BTreeMap<String, Summary>) {
        let (story, mode) = (self.crowd.journal.story().clone(), self.rig.mode);
        let (sums, mut complaints) = laws::check(&story, &self.rig.shop.ledger(), mode, true);
        let unknown: Vec<_> = ends.values().filter(|end| end.state == StateName::Unknown).collect();
        for end in &unknown {
            if mode == Mode::Retry || end.last_error.is_some() || !self.was_cut_off(end.since) {
                let kills = &self.kills;
                complaints.push(format!("nobody knows why it is unknown: {end:?}, killed at {kills:?}"));
            }
        }
        if unknown.len() as u64 > RUNS * story.kills {
            complaints.push(format!("{} are unknown", unknown.len()));
        }
        let shown: Vec<_> = complaints.iter().take(10).collect();
        let (count, kills) = (complaints.len(), story.kills);
        assert!(complaints.is_empty(), "{kills} kills, {count} violations: {shown:#?}");
        let counts = story.counts;
        println!(
            "crash: accepted, {:?}, {mode:?}: {kills} kills, {} requests ({} refused, {} cut off, {} accepted, {} \
             unavailable), {} operations, {} done, {} unknown ({} happened), {} effects, {} doubles, {:.1?}",
            self.kind,
            counts.requests,
            counts.refused,
            counts.cut,
            counts.accepted,
            counts.unavailable,
            ends.len(),
            ends.len() - unknown.len(),
            unknown.len(),
            sums.unknown.1,
            sums.effects,
            sums.doubles,
            self.started.elapsed(),
        );
        assert_eq!(ends.len(), self.crowd.asks.len());
        assert!(
            kills.min(counts.cut).min(counts.accepted) > 0,
            "nothing was put to the test: {counts:?}"
        );
    }

    /// Whether a lease that ended then was held by a process that was killed, or was about to be: one that gets no
    /// time to run can lose a lease while it lives, and what it had sent to the store may be carried out after it.
    fn was_cut_off(&self, ended: Timestamp) -> bool {
        let stall = 2 * LEASE;
        self.kills
            .iter()
            .any(|(before, after)| *before <= ended.after(stall) && ended <= after.after(LEASE + stall))
    }
}
