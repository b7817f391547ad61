//! A circuit breaker: leaves a destination alone while it is down.
//!
//! ```text
//!            too many failures                 good probe                 ramp over
//!   closed ───────────────────→ open ⇄ probing ──────────→ ramping ─────────────────→ closed
//!                                ↑   bad probe                │
//!                                └────────────────────────────┘ too many failures
//! ```

mod ramp;

use std::time::Duration;

use self::ramp::Ramp;
use super::backoff::part;
use super::window::{Counts, Window};

/// When a destination is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerPolicy {
    /// It opens when this share of calls failed, above 0, at most 1 (0.5)…
    pub failure_rate: f64,
    /// …of at least this many (100; while ramping a tenth)…
    pub minimum_calls: u32,
    /// …in this time (30 s).
    pub window: Duration,
    /// The first pause before a probe (5 s). It doubles with each bad probe…
    pub open: Duration,
    /// …up to this (10 s), and is back to the first once a ramp ends well. Pauses are 5 to 25 % shorter than this at
    /// random, so that several breakers do not probe together and none probes later than it says.
    pub open_at_most: Duration,
    /// How long the traffic takes to return after a good probe (5 s).
    pub ramp: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failure_rate: 0.5,
            minimum_calls: 100,
            window: Duration::from_secs(30),
            open: Duration::from_secs(5),
            open_at_most: Duration::from_secs(10),
            ramp: Duration::from_secs(5),
        }
    }
}

/// What a breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// It lets all calls through.
    Closed,
    /// It lets none through.
    Open,
    /// One call is on its way to see whether the destination is back, or the next one will be.
    Probing,
    /// It lets a growing share through.
    Ramping,
}

impl BreakerState {
    /// The word for it in logs, metrics and the console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
            Self::Ramping => "ramping",
        }
    }
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a call that was admitted must be reported"]
pub enum Admission {
    /// Make it, and report it.
    Go(Ticket),
    /// Make it, and report it: all others wait for what becomes of it.
    Probe(Ticket),
    /// Do not make it.
    Refused {
        /// When to ask again. Not zero.
        retry_after: Duration,
    },
}

/// Which call a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Reports from before the breaker last opened or closed are of another time.
    epoch: u64,
    /// Zero for a call that is no probe.
    probe: u64,
}

impl Ticket {
    /// Of a call that is no probe.
    #[must_use]
    pub fn of_epoch(epoch: u64) -> Self {
        Self { epoch, probe: 0 }
    }

    /// How often the breaker had opened or closed.
    #[must_use]
    pub fn epoch(self) -> u64 {
        self.epoch
    }
}

/// What a call says about the health of its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It works: a success, or an error that is the caller's (4xx).
    Success,
    /// It does not: unreachable, timed out, 5xx.
    Failure,
    /// Nothing: the caller gave up, or never called.
    Ignored,
}

/// The breaker of one destination.
///
/// ```
/// use std::time::Duration;
/// use hapax_core::policy::{Admission, Breaker, BreakerPolicy, BreakerState, Health};
///
/// let policy = BreakerPolicy { minimum_calls: 2, ..BreakerPolicy::default() };
/// let (mut breaker, mut now) = (Breaker::new(policy, Duration::from_secs(30)), Duration::ZERO);
/// for _ in 0..2 {
///     let admission = breaker.admit(now, 0);
///     breaker.report(now, admission, Health::Failure);
/// }
/// assert_eq!(breaker.state(now), BreakerState::Open);
/// now += policy.open;
/// let probe = breaker.admit(now, 0);
/// assert!(matches!(probe, Admission::Probe(_)));
/// assert!(matches!(breaker.admit(now, 0), Admission::Refused { .. }), "one probe at a time");
/// breaker.report(now, probe, Health::Success);
/// assert_eq!(breaker.state(now), BreakerState::Ramping);
/// ```
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    /// A probe that is not reported by then is lost.
    probe_for: Duration,
    /// Good and bad calls.
    window: Window,
    /// When the window had its first call since it opened or closed.
    since: Option<Duration>,
    phase: Phase,
    epoch: u64,
    probes: u64,
    /// The next pause, before jitter.
    pause: Duration,
    /// Calls a second before it opened.
    normal: f64,
    /// The last random number that was given.
    random: u64,
}

#[derive(Debug, Clone)]
enum Phase {
    Closed,
    Ramping(Ramp),
    /// The next call at or after `until` is a probe; a probe in hand puts it off.
    Open {
        until: Duration,
        probe: Option<Probe>,
    },
}

/// A probe that is on its way.
#[derive(Debug, Clone, Copy)]
struct Probe {
    number: u64,
    since: Duration,
}

/// The refused wait at least this long, lest they spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

impl Breaker {
    /// A closed breaker. A probe that is not reported within `per_try`, or within the longest pause if that is
    /// shorter, no longer keeps others from being sent.
    #[must_use]
    pub fn new(policy: BreakerPolicy, per_try: Duration) -> Self {
        Self {
            policy,
            probe_for: per_try.min(policy.open_at_most - policy.open_at_most / 20),
            window: Window::new(policy.window),
            since: None,
            phase: Phase::Closed,
            epoch: 0,
            probes: 0,
            pause: policy.open,
            normal: 0.0,
            random: 0,
        }
    }

    /// Asks for leave to make a call.
    pub fn admit(&mut self, now: Duration, random: u64) -> Admission {
        self.random = random;
        self.settle(now);
        let wait_until = match &mut self.phase {
            Phase::Closed => None,
            Phase::Ramping(ramp) => (!ramp.take(now)).then(|| ramp.end()),
            Phase::Open { until, .. } => {
                if now >= *until {
                    return self.probe(now);
                }
                Some(*until)
            }
        };
        match wait_until {
            Some(until) => Admission::Refused {
                retry_after: until.saturating_sub(now).max(SHORTEST_WAIT),
            },
            None => Admission::Go(Ticket::of_epoch(self.epoch)),
        }
    }

    /// The epoch of the ticket that each call gets, if all are let through until a failure is reported: then nobody
    /// needs to ask, and successes may be reported late, by [`Self::succeeded`].
    #[must_use]
    pub fn steady(&mut self, now: Duration) -> Option<u64> {
        self.settle(now);
        (matches!(self.phase, Phase::Closed) && self.since.is_some()).then_some(self.epoch)
    }

    /// Reports successes at once: the same as [`Self::report`] for each, if none was at or after [`Self::turns_at`].
    pub fn succeeded(&mut self, now: Duration, ticket: Ticket, calls: u64) {
        self.settle(now);
        if ticket.epoch == self.epoch && ticket.probe == 0 {
            self.window.advance(now);
            self.since.get_or_insert(now);
            self.window.add(Counts {
                first: calls,
                second: 0,
            });
        }
    }

    /// Until when it makes no difference at what time a success is counted.
    #[must_use]
    pub fn turns_at(&self, now: Duration) -> Duration {
        self.window.turns_at(now)
    }

    /// Says what became of a call that was admitted. Every admission should be reported, with [`Health::Ignored`] at
    /// least; one that never is costs a probe's slot for a while, and nothing else.
    pub fn report(&mut self, now: Duration, admission: Admission, health: Health) {
        let (Admission::Go(ticket) | Admission::Probe(ticket)) = admission else {
            return;
        };
        self.settle(now);
        if ticket.epoch != self.epoch {
            return;
        }
        if ticket.probe == 0 {
            self.count(now, health);
        } else {
            self.probed(now, ticket.probe, health);
        }
    }

    /// What it does.
    #[must_use]
    pub fn state(&mut self, now: Duration) -> BreakerState {
        self.settle(now);
        match &self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Ramping(_) => BreakerState::Ramping,
            Phase::Open { until, probe: None } if now < *until => BreakerState::Open,
            Phase::Open { .. } => BreakerState::Probing,
        }
    }

    /// How long until a probe may be sent; `None` if it is closed or ramping, or a probe may be sent at once. Asking
    /// takes no slot.
    #[must_use]
    pub fn retry_after(&mut self, now: Duration) -> Option<Duration> {
        self.settle(now);
        match &self.phase {
            Phase::Open { until, .. } if now < *until => Some(*until - now),
            _ => None,
        }
    }

    /// Ends a ramp whose time has come.
    fn settle(&mut self, now: Duration) {
        if let Phase::Ramping(ramp) = &self.phase
            && now >= ramp.end()
        {
            self.phase = Phase::Closed;
            self.pause = self.policy.open;
        }
    }

    fn count(&mut self, now: Duration, health: Health) {
        self.window.advance(now);
        let since = *self.since.get_or_insert(now);
        match health {
            Health::Success => self.window.add(Counts { first: 1, second: 0 }),
            Health::Failure => self.window.add(Counts { first: 0, second: 1 }),
            Health::Ignored => return,
        }
        let Counts {
            first: good,
            second: bad,
        } = self.window.sum();
        let ramping = matches!(self.phase, Phase::Ramping(_));
        let minimum = match ramping {
            true => self.policy.minimum_calls.div_ceil(10),
            false => self.policy.minimum_calls,
        };
        let calls = good + bad;
        if health == Health::Failure
            && calls >= u64::from(minimum)
            && bad as f64 >= self.policy.failure_rate * calls as f64
        {
            if !ramping {
                let time = now.saturating_sub(since).min(self.policy.window);
                self.normal = calls as f64 / time.as_secs_f64().max(1.0);
            }
            self.epoch += 1;
            self.open(now, now);
        }
    }

    fn probe(&mut self, now: Duration) -> Admission {
        self.probes += 1;
        self.phase = Phase::Open {
            until: now.saturating_add(self.probe_for),
            probe: Some(Probe {
                number: self.probes,
                since: now,
            }),
        };
        Admission::Probe(Ticket {
            epoch: self.epoch,
            probe: self.probes,
        })
    }

    /// Any probe of this outage proves life, however late; only the one in hand can prove the contrary.
    fn probed(&mut self, now: Duration, number: u64, health: Health) {
        let in_hand = match self.phase {
            Phase::Open { probe, .. } => probe.filter(|probe| probe.number == number),
            Phase::Closed | Phase::Ramping(_) => None,
        };
        match (health, in_hand) {
            (Health::Success, _) => self.close(now),
            (Health::Failure, Some(probe)) => self.open(probe.since, now),
            (Health::Ignored, Some(_)) => {
                self.phase = Phase::Open {
                    until: now,
                    probe: None,
                };
            }
            (Health::Failure | Health::Ignored, None) => {}
        }
    }

    /// Pauses from `since`: the start of a bad probe, so that probes keep their distance however long they take.
    fn open(&mut self, since: Duration, now: Duration) {
        let pause = self.pause - part(self.pause / 5, self.random) - self.pause / 20;
        self.phase = Phase::Open {
            until: since.saturating_add(pause).max(now),
            probe: None,
        };
        self.pause = self.pause.saturating_mul(2).min(self.policy.open_at_most);
        self.window.clear();
    }

    fn close(&mut self, now: Duration) {
        self.epoch += 1;
        self.window.clear();
        self.since = None;
        self.phase = Phase::Ramping(Ramp::new(now, self.policy.ramp, self.normal));
        self.settle(now);
    }
}

#[cfg(test)]
mod tests;
