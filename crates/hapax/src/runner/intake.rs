//! What is taken, how much of it, and when not at all.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use hapax_core::policy::BreakerState;
use hapax_core::{Name, Record, State, Take, TakeName, Taken, Timestamp, Work};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::pace::Pace;
use super::{Handled, resolving};
use crate::engine::gate::{Side, Young, Youth};
use crate::engine::{Engine, Inner, random_attempt};
use crate::event::Event;
use crate::failpoint::{self, Failpoint};
use crate::retry::{Destination, NotAdmitted, Permit};

/// Pause between two looks while a breaker lets the traffic return little by little.
const RAMP_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Intake {
    inner: Arc<Inner>,
    slots: Arc<Semaphore>,
    endings: Arc<Semaphore>,
    lines: Vec<Line>,
    /// How each name is handled, and by which line.
    handled: HashMap<Name, (Arc<Handled>, usize)>,
    /// Requests whose reply was lost: what they took must not lie until its lease ends.
    pending: Vec<Take>,
    /// Requests that are with the store.
    asks: JoinSet<Asked>,
}

/// A request and what the store gave.
struct Asked {
    take: Take,
    /// `None` if the store failed.
    taken: Option<Taken>,
    /// Places for what was asked for.
    slots: Option<OwnedSemaphorePermit>,
    young: Young,
}

/// A destination and the names that call it.
struct Line {
    destination: Destination,
    names: Vec<TakeName>,
    /// Until when its retries are put off: each one that its budget refuses waits for a share of its floor.
    put_off: Instant,
    /// What its breaker did when it was last looked at.
    state: BreakerState,
    pace: Pace,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether there may be more at once.
    pub(super) more: bool,
    /// Whether there are suspects to be run alone.
    pub(super) suspects: bool,
    /// When to look again at the latest.
    pub(super) pause: Duration,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            more: false,
            suspects: false,
            pause: Duration::MAX,
        }
    }
}

impl Intake {
    pub(super) fn new(
        engine: &Engine,
        names: &HashMap<Name, Arc<Handled>>,
        slots: Arc<Semaphore>,
        endings: Arc<Semaphore>,
    ) -> Self {
        let mut lines: Vec<Line> = Vec::new();
        let mut handled = HashMap::new();
        for (name, one) in names {
            let destination = &one.handling.destination;
            let found = lines.iter().position(|line| line.destination.is(destination));
            let line = found.unwrap_or_else(|| {
                lines.push(Line {
                    destination: destination.clone(),
                    names: Vec::new(),
                    put_off: Instant::now(),
                    state: BreakerState::Closed,
                    pace: Pace::new(Instant::now()),
                });
                lines.len() - 1
            });
            lines[line].names.push(one.take_name());
            handled.insert(name.clone(), (Arc::clone(one), line));
        }
        Self {
            inner: Arc::clone(&engine.inner),
            slots,
            endings,
            lines,
            handled,
            pending: Vec::new(),
            asks: JoinSet::new(),
        }
    }

    /// How many requests are with the store.
    pub(super) fn asked(&self) -> usize {
        self.asks.len()
    }

    /// Lets run what the store gives to the next of the requests that are with it; `None` if there are none. Nothing is
    /// lost if it is dropped half-way.
    pub(super) async fn given(&mut self) -> Option<Look> {
        let asked = self.asks.join_next().await?;
        let mut look = Look::default();
        // A request does not panic; if it did, its work would wait for the end of its lease.
        if let Ok(asked) = asked {
            self.accept(asked, &mut Vec::new(), &mut look);
        }
        Some(look)
    }

    /// The same for all of them.
    pub(super) async fn drain(&mut self, look: &mut Look) {
        while let Some(given) = self.given().await {
            look.more |= given.more;
            look.suspects |= given.suspects;
        }
    }

    /// Takes what there is room for and lets it run; where nothing holds back what can be taken, it is only asked for,
    /// and [`given`](Self::given) lets it run. Not to be dropped half-way: see [`super::Runner::run`].
    pub(super) async fn look(&mut self) -> Look {
        let mut look = Look::default();
        if !self.pending.is_empty() {
            self.drain(&mut look).await;
        }
        while let Some(take) = self.pending.pop() {
            if self.take(take, &mut Vec::new(), &mut look).await.is_none() {
                return look;
            }
        }
        let mut free = Vec::new();
        for line in 0..self.lines.len() {
            if self.watch(line) == BreakerState::Closed {
                match self.lines[line].pace.allows(Instant::now()) {
                    None => free.extend(self.lines[line].names.iter().cloned()),
                    Some(most) => {
                        if self.catch_up(line, most, &mut look).await.is_none() {
                            return look;
                        }
                    }
                }
            } else if self.trickle(line, &mut look).await.is_none() {
                return look;
            }
        }
        let room = self.slots.available_permits();
        if let Some(take) = request(free, room, false) {
            let (inner, slots) = (Arc::clone(&self.inner), self.reserve(take.limit));
            self.asks.spawn(async move {
                let young = inner.gate.enter(Side::Runner).await;
                let taken = inner.ask(&take).await;
                Asked {
                    take,
                    taken,
                    slots,
                    young,
                }
            });
        }
        look
    }

    fn reserve(&self, places: usize) -> Option<OwnedSemaphorePermit> {
        let places = places.min(self.slots.available_permits()) as u32;
        Arc::clone(&self.slots).try_acquire_many_owned(places).ok()
    }

    /// What a destination's breaker does; tells of changes.
    fn watch(&mut self, line: usize) -> BreakerState {
        let Line {
            destination,
            names,
            state,
            pace,
            ..
        } = &mut self.lines[line];
        let before = std::mem::replace(state, destination.state());
        if *state != before {
            match (before, *state) {
                (_, BreakerState::Closed) => pace.closed(Instant::now()),
                (BreakerState::Closed, _) => pace.opened(Instant::now()),
                _ => {}
            }
            for TakeName { name, .. } in names {
                self.inner.emit(&Event::BreakerChanged { name, state: *state });
            }
        }
        *state
    }

    /// Takes no more for a destination than its breaker lets through; doubling, as long as there is something to take.
    /// `None` if the store failed.
    async fn trickle(&mut self, line: usize, look: &mut Look) -> Option<()> {
        let destination = self.lines[line].destination.clone();
        let mut most = 1;
        loop {
            let most_now = self.slots.available_permits().min(most);
            let (mut permits, wait) = admit(&destination, most_now);
            if let Some(wait) = wait {
                look.pause = look.pause.min(wait);
            }
            let names = self.lines[line].names.clone();
            let Some(take) = request(names, permits.len(), false) else {
                return Some(());
            };
            let taken = self.take(take, &mut permits, look).await;
            drop(permits);
            if !taken? || wait.is_some() {
                return Some(());
            }
            most *= 2;
        }
    }

    /// Takes what has waited through an outage, no more than the pace allows. `None` if the store failed.
    async fn catch_up(&mut self, line: usize, most: usize, look: &mut Look) -> Option<()> {
        look.pause = look.pause.min(RAMP_PAUSE);
        let names = self.lines[line].names.clone();
        let limit = most.min(self.slots.available_permits());
        let Some(take) = request(names, limit, false) else {
            return Some(());
        };
        let mut this = Look { more: false, ..*look };
        let more = self.take(take, &mut Vec::new(), &mut this).await?;
        // What is left comes at its pace, not at once.
        look.suspects |= this.suspects;
        if !more {
            self.lines[line].pace.caught_up(Instant::now());
        }
        Some(())
    }

    /// Asks the store, and lets run what it gives, by these permits first. Whether there may be more; `None` if the
    /// store failed.
    async fn take(&mut self, take: Take, permits: &mut Vec<Permit>, look: &mut Look) -> Option<bool> {
        // What was given before must not wait for this: who closes the gate would wait for it.
        self.drain(look).await;
        let slots = self.reserve(take.limit);
        // Counted before it is asked for, so that nothing that is taken runs beside a suspect.
        let young = self.inner.gate.enter(Side::Runner).await;
        let taken = self.inner.ask(&take).await;
        let asked = Asked {
            take,
            taken,
            slots,
            young,
        };
        self.accept(asked, permits, look)
    }

    /// Lets run what the store gave. Whether there may be more; `None` if the store failed.
    fn accept(&mut self, asked: Asked, permits: &mut Vec<Permit>, look: &mut Look) -> Option<bool> {
        let Asked {
            take,
            taken,
            mut slots,
            young,
        } = asked;
        let Some(taken) = taken else {
            self.pending.push(Take { again: true, ..take });
            look.more = false;
            return None;
        };
        let more = taken.more;
        // Other lines' more is found when they are asked again.
        look.more |= more;
        look.suspects |= taken.suspects;
        self.inner.tell_ended(&taken);
        for work in taken.work {
            let youth = Youth::Among {
                _young: young.another(),
            };
            let slot = slots.as_mut().and_then(|slots| slots.split(1));
            self.start(work, taken.now, permits, slot, Some(youth));
        }
        Some(more)
    }

    fn start(
        &mut self,
        work: Work,
        now: Timestamp,
        permits: &mut Vec<Permit>,
        slot: Option<OwnedSemaphorePermit>,
        youth: Option<Youth>,
    ) {
        let (Work::Run(record, _) | Work::Resolve(record)) = &work;
        // The store gives what was asked for: names that are handled, no more than there are slots.
        let Some((handled, line)) = self.handled.get(record.operation.name()) else {
            return;
        };
        let (handled, inner) = (Arc::clone(handled), Arc::clone(&self.inner));
        let line = &mut self.lines[*line];
        match work {
            Work::Resolve(record) => {
                // Held until then, lest the probes of an upstream that is down are many.
                let permit = permits.pop();
                tokio::spawn(async move {
                    resolving::resolve(inner, handled, *record, now).await;
                    drop((permit, slot));
                });
            }
            Work::Run(record, lease) => {
                let attempt = Attempt {
                    inner,
                    handled,
                    lease,
                    youth,
                    slot,
                    endings: Arc::clone(&self.endings),
                };
                line.start(*record, attempt, permits.pop());
            }
        }
    }

    /// Runs one suspect with nothing beside it, until it ends or its first heartbeat. Breaks if told to stop; false if
    /// there was none to be run.
    pub(super) async fn run_alone(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> ControlFlow<(), bool> {
        let names = self
            .lines
            .iter()
            .filter(|line| line.destination.state() == BreakerState::Closed);
        let names = names.flat_map(|line| line.names.iter().filter(|name| name.crashes_count).cloned());
        let room = self.slots.available_permits().min(1);
        let Some(mut take) = request(names.collect(), room, true) else {
            return ControlFlow::Continue(false);
        };
        let closed = tokio::select! {
            biased;
            () = &mut stop => return ControlFlow::Break(()),
            closed = self.inner.gate.close() => closed,
        };
        let taken = loop {
            if let Some(taken) = self.inner.ask(&take).await {
                break taken;
            }
            // A suspect that was taken and never run would look as if it had crashed alone.
            take.again = true;
            if stop.as_mut().now_or_never().is_some() {
                return ControlFlow::Break(());
            }
        };
        self.inner.tell_ended(&taken);
        let ran = !taken.work.is_empty();
        let mut youth = Some(Youth::Alone { _closed: closed });
        for work in taken.work {
            if let Work::Run(record, _) = &work {
                self.inner.emit(&Event::Suspect {
                    operation: &record.operation,
                    crashes: record.crashes,
                });
            }
            let slot = self.reserve(1);
            self.start(work, taken.now, &mut Vec::new(), slot, youth.take());
        }
        drop(youth);
        tokio::select! {
            biased;
            () = &mut stop => ControlFlow::Break(()),
            () = self.inner.gate.opened() => ControlFlow::Continue(ran),
        }
    }
}

impl Inner {
    /// One request, repeated while the store fails. `None` if it never answers.
    async fn ask(&self, take: &Take) -> Option<Taken> {
        let (mut again, patience) = (take.again, self.options.store_patience);
        let mut asked = Instant::now();
        let taken = loop {
            let ask = self.insist("take", patience, |store| {
                asked = Instant::now();
                let again = std::mem::replace(&mut again, true);
                store.take(Take { again, ..take.clone() })
            });
            let taken = ask.await.ok()?;
            let over = |work: &Work| matches!(work, Work::Run(_, lease) if lease.is_over(taken.now, asked.elapsed()));
            if !taken.work.iter().any(over) {
                break taken;
            }
            // As long on its way as a lease holds, as when this process was paused: somebody may have settled it. Asked
            // again, the store gives what is still held.
            self.tell_ended(&taken);
        };
        self.learn_time(taken.now);
        if !taken.work.is_empty() {
            failpoint::hit(Failpoint::Taken);
            let runs = taken.work.iter().filter(|work| matches!(work, Work::Run(..))).count();
            self.emit(&Event::Taken {
                runs,
                resolves: taken.work.len() - runs,
                more: taken.more,
                took: asked.elapsed(),
            });
        }
        Some(taken)
    }

    /// Tells of records that ended in the store's own hands.
    fn tell_ended(&self, taken: &Taken) {
        for record in &taken.ended {
            let operation = &record.operation;
            match record.state {
                State::Dead { reason, .. } => self.emit(&Event::Died { operation, reason }),
                _ => self.emit(&Event::Unattended { operation }),
            }
        }
    }
}

impl Line {
    /// Starts a run if the destination bears it; else puts it off. A suspect runs in any case: put off, it would look
    /// as if it had not crashed.
    fn start(&mut self, record: Record, attempt: Attempt, permit: Option<Permit>) {
        let alone = matches!(attempt.youth, Some(Youth::Alone { .. }));
        let retry = attempt.lease.tries > 1 || record.last_error.is_some();
        let destination = &self.destination;
        let permit = match permit.map_or_else(|| destination.admit_either(), Ok) {
            Ok(permit) => Some(permit),
            Err(_) if alone => None,
            Err(by) => {
                let after = match by {
                    NotAdmitted::Open { retry_after } => retry_after,
                    NotAdmitted::BudgetSpent => self.next_share(),
                };
                return attempt.put_off(record, after, by);
            }
        };
        let probe = permit.as_ref().is_some_and(Permit::is_probe);
        if !destination.spend(retry) && !alone && !probe {
            return attempt.put_off(record, self.next_share(), NotAdmitted::BudgetSpent);
        }
        self.pace.started(Instant::now());
        attempt.start(record, permit);
    }

    /// When the budget's floor alone would bear one more retry than were put off before; beyond the cap, any time.
    fn next_share(&mut self) -> Duration {
        let policy = self.destination.policy();
        let share = Duration::from_secs_f64(1.0 / policy.budget.floor.max(1.0));
        let (now, cap) = (Instant::now(), policy.backoff.cap.max(share));
        let after = self.put_off.max(now) + share - now;
        if after <= cap {
            self.put_off = now + after;
            return after;
        }
        // Spread, so that whenever there is a share, somebody comes for it.
        let part = (self.destination.random() >> 11) as f64 / (1_u64 << 53) as f64;
        cap.mul_f64(part).max(share)
    }
}

/// As many permits as there are, and how long to wait for more.
fn admit(destination: &Destination, most: usize) -> (Vec<Permit>, Option<Duration>) {
    let mut permits = Vec::new();
    while permits.len() < most {
        match destination.admit_either() {
            Ok(permit) => permits.push(permit),
            Err(_) if destination.state() == BreakerState::Ramping => return (permits, Some(RAMP_PAUSE)),
            Err(NotAdmitted::Open { retry_after }) => return (permits, Some(retry_after)),
            Err(NotAdmitted::BudgetSpent) => break,
        }
    }
    (permits, None)
}

/// `None` if there is nothing to ask for, or no room; or, for want of random bytes, not now.
fn request(names: Vec<TakeName>, limit: usize, alone: bool) -> Option<Take> {
    if names.is_empty() || limit == 0 {
        return None;
    }
    Some(Take {
        attempt: random_attempt().ok()?,
        names,
        limit,
        alone,
        again: false,
    })
}
