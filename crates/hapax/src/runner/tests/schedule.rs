//! What is due runs, when it is due, as often as the policy says.

use std::sync::atomic::Ordering;

use hapax_core::policy::FailureClass;
use hapax_core::{DeadReason, Refusal, State};
use tokio::time::{Instant, sleep, timeout};

use super::world::*;
use crate::runner::{Attempted, Failure, RunnerOptions};
use hapax_core::LastError;
use std::time::Duration;

/// A handler that ends as told by the number of starts before.
fn ends(
    starts: &Starts,
    end: fn(usize) -> Attempted,
) -> impl Fn(crate::Run, String) -> std::future::Ready<Doing> + use<> {
    let starts = starts.clone();
    move |_, key| std::future::ready(Doing::Ends(end(starts.note(&key))))
}

#[tokio::test(start_paused = true)]
async fn what_is_enqueued_runs_once_at_once_and_is_done() {
    let (store, starts) = (memory(), Starts::new());
    let process = Process::start(
        &store,
        handling(policy()),
        ends(&starts, |_| Attempted::Done(outcome("a"))),
    );
    sleep(10 * SECOND).await;
    assert_eq!(process.enqueue("k").await.refusal, None);
    sleep(MILLI).await;
    assert_eq!(starts.of("k"), [10 * SECOND]);
    let record = record(&store, "k").await;
    assert_eq!(
        (record.state, record.tries, record.input),
        (State::Done(outcome("a")), 1, None)
    );
    let told = process.enqueue("k").await.refusal;
    assert!(matches!(told, Some(Refusal::Done { .. })), "{told:?}");
    sleep(10 * SECOND).await;
    assert_eq!(starts.all().len(), 1);
    assert_eq!((process.log.count("Enqueued"), process.log.count("Taken")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_runner_looks_once_a_second() {
    let process = Process::start(&memory(), handling(policy()), |_, _| async { Doing::Kills });
    sleep(100 * SECOND).await;
    let takes = process.link.takes.load(Ordering::SeqCst);
    assert!((99..=102).contains(&takes), "{takes}");
}

#[tokio::test(start_paused = true)]
async fn one_long_run_does_not_slow_the_many_short_ones_beside_it() {
    let (store, starts) = (memory(), Starts::new());
    let options = RunnerOptions {
        concurrency: 4,
        ..RunnerOptions::default()
    };
    let noted = starts.clone();
    let process = Process::with(&store, handling(policy()), options, move |_, key| {
        noted.note(&key);
        async move {
            if key == "long" {
                sleep(20 * SECOND).await;
            }
            Doing::Ends(Attempted::Done(outcome("a")))
        }
    });
    process.enqueue("long").await;
    for n in 0..200 {
        process.enqueue_in(&n.to_string(), 2500 * MILLI).await;
    }
    sleep(4 * SECOND).await;
    let mut short: Vec<_> = (0..200).flat_map(|n| starts.of(&n.to_string())).collect();
    short.sort_unstable();
    assert_eq!(short.len(), 200);
    // It is waited for in vain once.
    let took = short[199] - short[0];
    assert!(took <= 5 * MILLI, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_delayed_runs_when_it_is_due() {
    let (store, starts) = (memory(), Starts::new());
    let process = Process::start(
        &store,
        handling(policy()),
        ends(&starts, |_| Attempted::Done(outcome("a"))),
    );
    process.enqueue_in("late", 2500 * MILLI).await;
    process.enqueue_in("soon", 300 * MILLI).await;
    sleep(5 * SECOND).await;
    assert_eq!(
        (starts.of("soon"), starts.of("late")),
        (vec![300 * MILLI], vec![2500 * MILLI])
    );
}

#[tokio::test(start_paused = true)]
async fn ambiguous_failures_are_retried_with_growing_pauses_until_the_tries_are_spent() {
    let (store, starts) = (memory(), Starts::new());
    let mut policy = policy();
    policy.backoff.base = SECOND;
    policy.limits.tries = 5;
    let process = Process::start(
        &store,
        retrying(policy),
        ends(&starts, |_| {
            Attempted::Failed(Failure {
                answer: Some(answer(502, "bad")),
                ..Failure::new(FailureClass::Ambiguous, "status 502")
            })
        }),
    );
    process.enqueue("k").await;
    sleep(100 * SECOND).await;
    let times = starts.of("k");
    assert_eq!(times.len(), 5, "{times:?}");
    for (try_number, pair) in times.windows(2).enumerate() {
        let ceiling = SECOND * (1 << try_number);
        assert!(pair[1] - pair[0] <= ceiling + 2 * MILLI, "{times:?}");
    }
    let record = record(&store, "k").await;
    let (reason, answer) = (DeadReason::Exhausted, Some(answer(502, "bad")));
    assert_eq!((record.state, record.tries), (State::Dead { reason, answer }, 5));
    assert_eq!(record.last_error, Some(LastError::new("status 502")));
    assert!(record.input.is_some(), "kept for a redrive");
    assert_eq!(
        (process.log.count("Retried"), process.log.count("Died exhausted")),
        (4, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn failures_without_effect_cost_no_try_until_the_time_is_over() {
    let (store, starts) = (memory(), Starts::new());
    let mut policy = policy();
    policy.limits.elapsed = 600 * SECOND;
    policy.breaker.minimum_calls = u32::MAX;
    let process = Process::start(
        &store,
        retrying(policy),
        ends(&starts, |_| failed(FailureClass::Unsent)),
    );
    process.enqueue("k").await;
    sleep(300 * SECOND).await;
    assert_eq!(record(&store, "k").await.tries, 0);
    sleep(400 * SECOND).await;
    let times = starts.of("k");
    assert!((30..200).contains(&times.len()), "{}", times.len());
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.iter().all(|pause| *pause <= 20 * SECOND + 2 * MILLI),
        "{pauses:?}"
    );
    assert!(
        pauses[..3].iter().sum::<Duration>() < 2 * SECOND,
        "it begins with short ones: {pauses:?}"
    );
    assert!(*times.last().unwrap() <= 600 * SECOND, "{times:?}");
    let reason = DeadReason::Exhausted;
    assert_eq!(record(&store, "k").await.state, State::Dead { reason, answer: None });
}

#[tokio::test(start_paused = true)]
async fn advice_of_one_that_throttles_is_followed_inside_the_cap() {
    let (store, starts) = (memory(), Starts::new());
    let process = Process::start(
        &store,
        handling(policy()),
        ends(&starts, |before| match before {
            0 | 1 => Attempted::Failed(Failure {
                retry_after: Some([5 * SECOND, 500 * SECOND][before]),
                ..Failure::new(FailureClass::Throttled, "status 429")
            }),
            _ => Attempted::Done(outcome("a")),
        }),
    );
    process.enqueue("k").await;
    sleep(60 * SECOND).await;
    let times = starts.of("k");
    assert_eq!(times.len(), 3, "{times:?}");
    assert!(
        (5 * SECOND..=6 * SECOND + 2 * MILLI).contains(&(times[1] - times[0])),
        "{times:?}"
    );
    let cap = 20 * SECOND;
    assert!((cap..=cap + 2 * MILLI).contains(&(times[2] - times[1])), "{times:?}");
    assert_eq!(record(&store, "k").await.tries, 1);
}

#[tokio::test(start_paused = true)]
async fn advice_after_an_ambiguous_failure_is_followed() {
    let (store, starts) = (memory(), Starts::new());
    let advised = |before| match before {
        0 => Attempted::Failed(Failure {
            retry_after: Some(5 * SECOND),
            ..Failure::new(FailureClass::Ambiguous, "status 500")
        }),
        _ => Attempted::Done(outcome("a")),
    };
    let process = Process::start(&store, retrying(policy()), ends(&starts, advised));
    process.enqueue("k").await;
    sleep(60 * SECOND).await;
    let times = starts.of("k");
    assert!(times.len() == 2 && times[1] - times[0] >= 5 * SECOND, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_is_not_retried() {
    let (store, starts) = (memory(), Starts::new());
    let process = Process::start(
        &store,
        retrying(policy()),
        ends(&starts, |_| failed(FailureClass::Final)),
    );
    process.enqueue("k").await;
    sleep(SECOND).await;
    let reason = DeadReason::Refused;
    assert_eq!(record(&store, "k").await.state, State::Dead { reason, answer: None });
    assert_eq!((starts.all().len(), process.log.count("Died refused")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_an_endless_run_prove_nothing() {
    let store = memory();
    let work = |_, key: String| async move {
        assert!(key != "panic", "planted");
        std::future::pending().await
    };
    let process = Process::start(&store, handling(policy()), work);
    process.enqueue("panic").await;
    process.enqueue("endless").await;
    sleep(29 * SECOND).await;
    assert!(matches!(record(&store, "endless").await.state, State::Running { .. }));
    sleep(2 * SECOND).await;
    for key in ["panic", "endless"] {
        let state = record(&store, key).await.state;
        assert!(matches!(state, State::Unknown { .. }), "{key} {state:?}");
    }
    assert_eq!(process.log.count("Panicked"), 1);

    let retried = Process::start(&memory(), retrying(policy()), work);
    retried.enqueue("panic").await;
    sleep(10 * SECOND).await;
    assert_eq!(
        (retried.log.count("Retried"), retried.log.count("Died exhausted")),
        (2, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_runs_than_there_is_room_for_and_all_get_their_turn() {
    let (store, starts) = (memory(), Starts::new());
    let options = RunnerOptions {
        concurrency: 4,
        ..RunnerOptions::default()
    };
    let noted = starts.clone();
    let process = Process::with(&store, handling(policy()), options, move |_, key| {
        noted.note(&key);
        async {
            sleep(SECOND).await;
            Doing::Ends(Attempted::Done(outcome("a")))
        }
    });
    for number in 0..10 {
        process.enqueue(&number.to_string()).await;
    }
    sleep(3500 * MILLI).await;
    let begun = |from, to| starts.all().iter().filter(|(_, at)| (from..to).contains(at)).count();
    assert_eq!(begun(Duration::ZERO, SECOND), 4);
    assert_eq!(begun(SECOND, 2 * SECOND), 4);
    assert_eq!(begun(2 * SECOND, 3 * SECOND), 2);
}

/// Starts noted in a second of which each reply to `step` is on its way for all, with ten operations and room for two.
async fn starts_while_slow(step: &'static str) -> (usize, usize) {
    let (store, starts) = (memory(), Starts::new());
    let options = RunnerOptions {
        concurrency: 2,
        ..RunnerOptions::default()
    };
    let process = Process::with(
        &store,
        handling(policy()),
        options,
        ends(&starts, |_| Attempted::Done(outcome("a"))),
    );
    process.link.slow.lock().unwrap().insert(step, SECOND);
    sleep(2 * SECOND).await;
    for number in 0..10 {
        process.enqueue(&number.to_string()).await;
    }
    sleep(1500 * MILLI).await;
    let takes = process.link.takes.load(Ordering::SeqCst);
    sleep(10 * SECOND).await;
    assert_eq!(starts.all().len(), 10);
    (starts.all().iter().filter(|(_, at)| *at < 3500 * MILLI).count(), takes)
}

#[tokio::test(start_paused = true)]
async fn as_many_again_can_run_while_the_ends_of_others_are_written_down() {
    assert_eq!(starts_while_slow("finish").await.0, 6);
}

#[tokio::test(start_paused = true)]
async fn what_two_lost_replies_gave_is_run_before_its_lease_ends() {
    let store = memory();
    let options = RunnerOptions {
        concurrency: 4,
        ..RunnerOptions::default()
    };
    let process = Process::with(&store, handling(policy()), options, move |_, key| async move {
        sleep(key.parse::<u32>().unwrap() % 4 * 30 * MILLI).await;
        Doing::Ends(Attempted::Done(outcome("a")))
    });
    for number in 0..40 {
        process.enqueue(&number.to_string()).await;
    }
    process.link.slow.lock().unwrap().insert("take", 100 * MILLI);
    sleep(250 * MILLI).await;
    // For longer than the patience of both of its requests.
    process.link.lose.lock().unwrap().insert("take", 22);
    sleep(20 * SECOND).await;
    for number in 0..40 {
        let record = record(&store, &number.to_string()).await;
        assert_eq!(record.state, State::Done(outcome("a")), "{number}");
        assert_eq!(record.tries, 1, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_waits_for_its_runs_but_not_for_ever() {
    let store = memory();
    let work = |_, key: String| async move {
        sleep(key.parse::<u32>().unwrap() * SECOND).await;
        Doing::Ends(Attempted::Done(outcome("a")))
    };
    let mut policy = policy();
    policy.limits.per_try = 1000 * SECOND;
    policy.limits.total = 1000 * SECOND;
    let mut process = Process::start(&store, handling(policy), work);
    for key in ["5", "20", "100"] {
        process.enqueue(key).await;
    }
    sleep(SECOND).await;
    let started = Instant::now();
    assert_eq!(process.stop().await, 1);
    assert_eq!(started.elapsed(), 30 * SECOND);
    process.enqueue("1").await;
    for (key, done) in [("5", true), ("20", true), ("100", false), ("1", false)] {
        assert_eq!(matches!(record(&store, key).await.state, State::Done(_)), done, "{key}");
    }
    let ends = async {
        while !matches!(record(&store, "100").await.state, State::Done(_)) {
            sleep(SECOND).await;
        }
    };
    timeout(100 * SECOND, ends).await.expect("what was left goes on");
    assert!(matches!(record(&store, "1").await.state, State::Waiting { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_run_without_end_is_kept_as_what_the_gateway_calls_a_time_out() {
    let store = memory();
    let mut policy = policy();
    policy.limits.per_try = 3 * SECOND;
    let process = Process::start(&store, handling(policy), |_, _| std::future::pending::<Doing>());
    process.enqueue("k").await;
    sleep(5 * SECOND).await;
    let record = record(&store, "k").await;
    assert!(matches!(record.state, State::Unknown { .. }), "{record:?}");
    assert_eq!(record.last_error, Some(LastError::new("timed out after 3 s")));
}
