use std::cell::RefCell;
use std::future::pending;

use hapax_core::policy::{BreakerState, BudgetPolicy, Classes, RetryPolicy};
use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0}")]
struct Broken(FailureClass, Option<Duration>);

impl Failed for Broken {
    fn class(&self) -> FailureClass {
        self.0
    }

    fn retry_after(&self) -> Option<Duration> {
        self.1
    }
}

const UNSENT: Broken = Broken(FailureClass::Unsent, None);
const AMBIGUOUS: Broken = Broken(FailureClass::Ambiguous, None);
const FINAL: Broken = Broken(FailureClass::Final, None);

fn all_classes() -> RetryPolicy {
    RetryPolicy {
        retry: Classes::ALL,
        ..RetryPolicy::default()
    }
}

fn destination(policy: RetryPolicy) -> Destination {
    Destination::new(policy).unwrap()
}

/// Plays the results in order; gives what came of it, the tries that were made, and when each began.
async fn play(
    destination: &Destination,
    results: impl IntoIterator<Item = Result<u32, Broken>>,
) -> (Result<u32, GaveUp<Broken>>, Vec<Duration>) {
    let (results, times) = (RefCell::new(results.into_iter()), RefCell::new(Vec::new()));
    let started = Instant::now();
    let outcome = retry(destination, "k-1", |Attempt { number, key }| {
        times.borrow_mut().push(started.elapsed());
        assert_eq!(number as usize, times.borrow().len());
        assert_eq!(key, "k-1");
        let result = results.borrow_mut().next().expect("one result for each try");
        async move { result }
    })
    .await;
    (outcome, times.into_inner())
}

#[tokio::test(start_paused = true)]
async fn a_success_is_given_at_once() {
    let destination = destination(RetryPolicy::default());
    let (outcome, times) = play(&destination, [Ok(7)]).await;
    assert_eq!(outcome.unwrap(), 7);
    assert_eq!(times, [Duration::ZERO]);
    let snapshot = destination.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_proves_nothing_happened_is_retried_after_a_pause() {
    let destination = destination(RetryPolicy::default());
    let slow_down = Broken(FailureClass::Throttled, Some(3 * SECOND));
    let (outcome, times) = play(&destination, [Err(slow_down), Err(UNSENT), Ok(7)]).await;
    assert_eq!(outcome.unwrap(), 7);
    assert!(times[1] >= 3 * SECOND && times[1] <= 4 * SECOND, "{times:?}");
    assert!(times[2] - times[1] <= 101 * SECOND / 1000, "{times:?}");
    let snapshot = destination.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn tries_are_spent() {
    let (outcome, times) = play(&destination(RetryPolicy::default()), [Err(UNSENT); 3]).await;
    let gave_up = outcome.unwrap_err();
    assert_eq!(times.len(), 3);
    assert_eq!(gave_up.why, Why::Policy(GiveUp::Tries));
    assert_eq!(gave_up.proves, FailureClass::Unsent);
    assert_eq!(gave_up.attempts, 3);
    assert!(matches!(gave_up.last, Last::Failed(UNSENT)));
    assert_eq!(
        gave_up.to_string(),
        "try 3 failed (unsent), then all tries are spent; nothing happened: ask again later"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_policy_does_not_retry_is_not() {
    let destination = destination(RetryPolicy::default());
    for error in [AMBIGUOUS, FINAL] {
        let (outcome, times) = play(&destination, [Err(error)]).await;
        let gave_up = outcome.unwrap_err();
        assert_eq!(gave_up.why, Why::Policy(GiveUp::Class(error.0)));
        assert_eq!((gave_up.proves, times.len()), (error.0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubt_is_not_lifted_by_a_later_try_that_did_nothing() {
    let destination = destination(all_classes());
    for (results, proves) in [
        ([AMBIGUOUS, UNSENT, UNSENT], FailureClass::Ambiguous),
        ([UNSENT, UNSENT, AMBIGUOUS], FailureClass::Ambiguous),
        ([AMBIGUOUS, UNSENT, FINAL], FailureClass::Final),
    ] {
        let (outcome, _) = play(&destination, results.map(Err)).await;
        assert_eq!(outcome.unwrap_err().proves, proves, "{results:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_takes_no_longer_than_it_may_and_is_ambiguous() {
    let mut policy = all_classes();
    policy.limits.tries = 2;
    let destination = destination(policy);
    let started = Instant::now();
    let outcome = retry(&destination, "k", |_| pending::<Result<(), Broken>>()).await;
    let gave_up = outcome.unwrap_err();
    assert!(matches!(gave_up.last, Last::TimedOut));
    assert_eq!((gave_up.attempts, gave_up.proves), (2, FailureClass::Ambiguous));
    // The second try has what the pause left of the total.
    assert_eq!(started.elapsed(), 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_no_longer_than_the_total() {
    let mut policy = RetryPolicy::default();
    policy.limits.total = 30 * SECOND;
    policy.limits.tries = 10;
    let slow_down = Broken(FailureClass::Throttled, Some(14 * SECOND));
    let started = Instant::now();
    let (outcome, times) = play(&destination(policy), [Err(slow_down); 9]).await;
    let gave_up = outcome.unwrap_err();
    assert_eq!(gave_up.why, Why::Total);
    assert!(times.len() <= 3, "{times:?}");
    assert_eq!(gave_up.retry_after, Some(14 * SECOND));
    assert!(started.elapsed() < 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn retries_are_within_the_budget() {
    let destination = destination(RetryPolicy {
        budget: BudgetPolicy {
            floor: 0.0,
            ..BudgetPolicy::default()
        },
        ..RetryPolicy::default()
    });
    let mut why = Vec::new();
    for _ in 0..50 {
        let (outcome, _) = play(&destination, [Err(UNSENT), Ok(1)]).await;
        why.extend(outcome.err().map(|gave_up| gave_up.why));
    }
    let snapshot = destination.snapshot();
    assert!(snapshot.retries > 0 && snapshot.retries <= 10, "{snapshot:?}");
    assert_eq!(
        why,
        vec![Why::NotAdmitted(NotAdmitted::BudgetSpent); 50 - snapshot.retries as usize]
    );
    assert_eq!(snapshot.refused_budget, why.len() as u64);
}

async fn fail_until_open(destination: &Destination) {
    for _ in 0..100 {
        let _ = play(destination, [Err(AMBIGUOUS)]).await;
    }
    assert_eq!(destination.snapshot().state, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_not_called() {
    let destination = destination(RetryPolicy::default());
    assert_eq!(destination.open_for(), None);
    fail_until_open(&destination).await;
    let open_for = destination.open_for().unwrap();
    assert!(open_for > 3 * SECOND && open_for < 5 * SECOND, "{open_for:?}");
    let (outcome, times) = play(&destination, []).await;
    let gave_up = outcome.unwrap_err();
    assert!(times.is_empty());
    assert!(matches!(gave_up.last, Last::NotCalled));
    assert_eq!((gave_up.proves, gave_up.attempts), (FailureClass::Unsent, 0));
    assert_eq!(gave_up.retry_after, Some(open_for));
    assert!(
        gave_up
            .to_string()
            .starts_with("not called: the circuit breaker is open"),
        "{gave_up}"
    );

    advance(5 * SECOND).await;
    assert_eq!(destination.snapshot().state, BreakerState::Probing);
    let (outcome, _) = play(&destination, [Ok(7)]).await;
    assert_eq!(outcome.unwrap(), 7);
    assert_eq!(destination.snapshot().state, BreakerState::Ramping);
    advance(5 * SECOND).await;
    let snapshot = destination.snapshot();
    assert_eq!((snapshot.state, snapshot.probes), (BreakerState::Closed, 1));
    assert_eq!((snapshot.calls, snapshot.refused_open), (101, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_makes_way() {
    let destination = destination(RetryPolicy::default());
    fail_until_open(&destination).await;
    advance(5 * SECOND).await;
    let permit = destination.admit().unwrap();
    assert!(permit.is_probe());
    assert!(matches!(destination.admit(), Err(NotAdmitted::Open { .. })));
    drop(permit);
    assert!(destination.admit().unwrap().is_probe());
}

#[tokio::test(start_paused = true)]
async fn final_errors_do_not_open_the_breaker() {
    let destination = destination(RetryPolicy::default());
    for _ in 0..200 {
        let _ = play(&destination, [Err(FINAL)]).await;
    }
    assert_eq!(destination.snapshot().state, BreakerState::Closed);
}

#[test]
fn a_policy_that_makes_no_sense_has_no_destination() {
    let mut policy = RetryPolicy::default();
    policy.limits.tries = 0;
    assert_eq!(Destination::new(policy).unwrap_err().field(), "tries");
}

#[tokio::test]
async fn jitter_differs() {
    let destination = destination(RetryPolicy::default());
    assert_ne!(destination.random(), destination.random());
}
