//! What is counted without the lock is what would have been counted under it.

use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::thread;

use hapax_core::policy::{BreakerPolicy, BudgetPolicy};
use proptest::prelude::*;

use super::*;

const THREADS: usize = 4;
const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);
/// Half of the pause of an open breaker.
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
enum Step {
    /// A first try, or a retry, that stays in hand.
    Start {
        retry: bool,
    },
    /// One of those in hand ends.
    End {
        which: usize,
        health: Health,
    },
    /// So many calls that end at once.
    Calls {
        calls: u32,
        health: Health,
    },
    /// So many ticks.
    Wait(u32),
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let health = || {
        prop_oneof![
            4 => Just(Health::Success),
            3 => Just(Health::Failure),
            1 => Just(Health::Ignored),
        ]
    };
    let step = prop_oneof![
        3 => any::<bool>().prop_map(|retry| Step::Start { retry }),
        3 => (any::<usize>(), health()).prop_map(|(which, health)| Step::End { which, health }),
        4 => (1u32..6, health()).prop_map(|(calls, health)| Step::Calls { calls, health }),
        2 => (1u32..5).prop_map(Step::Wait),
        1 => Just(Step::Look),
    ];
    prop::collection::vec(step, 1..80)
}

/// Pauses of an open breaker end between two of the times at which these histories do anything, whatever the dice say.
fn policy() -> RetryPolicy {
    RetryPolicy {
        budget: BudgetPolicy {
            share: 0.3,
            floor: 0.05,
            window: 10 * TICK,
        },
        breaker: BreakerPolicy {
            minimum_calls: 4,
            window: 20 * TICK,
            open: 2 * TICK,
            open_at_most: 2 * TICK,
            ramp: 2 * TICK,
            ..BreakerPolicy::default()
        },
        ..RetryPolicy::default()
    }
}

/// A destination, and what it should be.
struct Twins {
    destination: Destination,
    breaker: Breaker,
    budget: Budget,
    calls: u64,
    retries: u64,
    now: Duration,
    in_hand: Vec<(Permit, Admission)>,
}

impl Twins {
    fn new() -> Self {
        let policy = policy();
        Self {
            destination: Destination::seeded(policy.clone(), 7).unwrap(),
            breaker: Breaker::new(policy.breaker, policy.limits.per_try),
            budget: Budget::new(policy.budget),
            calls: 0,
            retries: 0,
            now: Duration::ZERO,
            in_hand: Vec::new(),
        }
    }

    fn start(&mut self, retry: bool) -> bool {
        let (permit, borne) = match retry {
            true => (self.destination.admit_retry(), self.budget.allows(self.now)),
            false => (self.destination.admit(), true),
        };
        let admission = borne.then(|| self.breaker.admit(self.now, 0));
        match (permit, admission) {
            (Err(NotAdmitted::BudgetSpent), None)
            | (Err(NotAdmitted::Open { .. }), Some(Admission::Refused { .. })) => return false,
            (Ok(permit), Some(admission @ (Admission::Go(_) | Admission::Probe(_)))) => {
                assert_eq!(permit.admission, admission);
                self.in_hand.push((permit, admission));
            }
            (permit, admission) => panic!("{permit:?}, should be {admission:?}"),
        }
        if retry {
            assert!(self.budget.withdraw(self.now));
            self.retries += 1;
        } else {
            self.budget.deposit(self.now);
            self.calls += 1;
        }
        true
    }

    fn end(&mut self, which: usize, health: Health) {
        if !self.in_hand.is_empty() {
            let (permit, admission) = self.in_hand.remove(which % self.in_hand.len());
            permit.report(health);
            self.breaker.report(self.now, admission, health);
        }
    }

    fn look(&mut self) {
        let seen = self.destination.snapshot();
        assert_eq!(seen.state, self.breaker.state(self.now));
        assert_eq!(seen.budget_left.to_bits(), self.budget.left(self.now).to_bits());
        assert_eq!((seen.calls, seen.retries), (self.calls, self.retries));
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Start { retry } => {
                self.start(retry);
            }
            Step::End { which, health } => self.end(which, health),
            Step::Calls { calls, health } => {
                for _ in 0..calls {
                    if self.start(false) {
                        self.end(self.in_hand.len() - 1, health);
                    }
                }
            }
            Step::Wait(times) => {
                tokio::time::advance(TICK * times).await;
                self.now += TICK * times;
            }
            Step::Look => self.look(),
        }
    }
}

proptest! {
    #[test]
    fn decides_as_if_each_call_took_the_lock(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut twins = Twins::new();
            for step in &steps {
                twins.step(step).await;
            }
            twins.look();
        });
    }
}

/// Lets threads do something at the same time.
fn together(work: impl Fn() + Sync) {
    let begin = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                begin.wait();
                work();
            });
        }
    });
}

fn call(destination: &Destination, health: Health) {
    destination.admit().expect("the breaker is closed").report(health);
}

#[test]
fn threads_that_call_at_once_open_the_breaker_at_its_rate_and_not_before() {
    const ROUNDS: u32 = 20_000;
    let policy = RetryPolicy {
        breaker: BreakerPolicy {
            failure_rate: 0.34,
            minimum_calls: 1,
            window: HOUR,
            ..BreakerPolicy::default()
        },
        // It turns all the time.
        budget: BudgetPolicy {
            window: 100 * MS,
            ..BudgetPolicy::default()
        },
        ..RetryPolicy::default()
    };
    let destination = Destination::new(policy).unwrap();
    // However the threads mix: a third failed at most.
    together(|| {
        for _ in 0..ROUNDS {
            call(&destination, Health::Success);
            call(&destination, Health::Success);
            call(&destination, Health::Failure);
        }
    });
    let rounds = u64::from(ROUNDS) * THREADS as u64;
    assert_eq!(destination.snapshot().calls, 3 * rounds);

    let (mut calls, mut bad) = (3 * rounds, rounds);
    while destination.state() == BreakerState::Closed {
        call(&destination, Health::Failure);
        (calls, bad) = (calls + 1, bad + 1);
    }
    let share = |bad: u64, calls: u64| bad as f64 / calls as f64;
    assert!(share(bad, calls) >= 0.34, "{bad} of {calls}");
    assert!(share(bad - 1, calls - 1) < 0.34, "{bad} of {calls}: too late");
}

#[test]
fn threads_that_retry_at_once_spend_the_budget_and_no_more() {
    let policy = RetryPolicy {
        budget: BudgetPolicy {
            share: 0.2,
            floor: 0.0,
            window: HOUR,
        },
        // It turns all the time.
        breaker: BreakerPolicy {
            window: 100 * MS,
            ..BreakerPolicy::default()
        },
        ..RetryPolicy::default()
    };
    let destination = Destination::new(policy).unwrap();
    let granted = AtomicU32::new(0);
    let retry = || match destination.admit_retry() {
        Ok(permit) => {
            permit.report(Health::Success);
            granted.fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(refused) => {
            assert_eq!(refused, NotAdmitted::BudgetSpent);
            false
        }
    };
    together(|| {
        for _ in 0..20_000 {
            call(&destination, Health::Success);
            retry();
        }
    });
    while retry() {}
    let seen = destination.snapshot();
    assert_eq!(seen.calls, 20_000 * THREADS as u64);
    assert_eq!(seen.retries, seen.calls / 5);
    assert_eq!(seen.retries, u64::from(granted.into_inner()));
}

#[test]
fn no_thread_calls_once_the_breaker_is_known_to_be_open() {
    let policy = RetryPolicy {
        breaker: BreakerPolicy {
            minimum_calls: 1,
            failure_rate: 1e-6,
            open: HOUR,
            open_at_most: HOUR,
            ..BreakerPolicy::default()
        },
        ..RetryPolicy::default()
    };
    for _ in 0..50 {
        let destination = Destination::new(policy.clone()).unwrap();
        call(&destination, Health::Success);
        let (opened, openers) = (AtomicBool::new(false), AtomicU32::new(0));
        together(|| {
            for turn in 0.. {
                let known = opened.load(Ordering::SeqCst);
                let admitted = destination.admit();
                assert!(!known || admitted.is_err(), "leave after the breaker opened");
                let Ok(permit) = admitted else { break };
                if turn == 200 && openers.fetch_add(1, Ordering::Relaxed) == 0 {
                    permit.report(Health::Failure);
                    opened.store(true, Ordering::SeqCst);
                } else {
                    permit.report(Health::Success);
                }
            }
        });
        assert_eq!(destination.snapshot().state, BreakerState::Open);
    }
}
