use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::words::OperationId;

const MS: Duration = Duration::from_millis(1);
const ZERO: Duration = Duration::ZERO;

fn retry_after(next: Next) -> Duration {
    match next {
        Next::Retry { after } => after,
        Next::GiveUp(why) => panic!("gave up: {why}"),
    }
}

#[test]
fn defaults_are_the_documented_ones_and_make_sense() {
    let policy = RetryPolicy::default();
    policy.check().unwrap();
    assert_eq!(policy.limits.tries, 3);
    assert_eq!(policy.backoff.base, 50 * MS);
    assert_eq!(policy.backoff.throttle_base, 1000 * MS);
    assert_eq!(policy.backoff.cap, 20_000 * MS);
    assert_eq!((policy.budget.share, policy.budget.floor), (0.2, 10.0));
    assert_eq!((policy.breaker.failure_rate, policy.breaker.minimum_calls), (0.5, 100));
    assert_eq!(policy.longest(), Duration::from_secs(3 * 30 + 2 * 20));
}

#[test]
fn only_what_proves_that_nothing_happened_is_retried_by_default() {
    let policy = RetryPolicy::default();
    for (class, retried) in [
        (FailureClass::Unsent, true),
        (FailureClass::Throttled, true),
        (FailureClass::Ambiguous, false),
        (FailureClass::Final, false),
    ] {
        let next = policy.after_failure(class, 1, ZERO, None, 0);
        match retried {
            true => assert_eq!(next, Next::Retry { after: ZERO }, "{class}"),
            false => assert_eq!(next, Next::GiveUp(GiveUp::Class(class)), "{class}"),
        }
    }
    let all = RetryPolicy {
        retry: Classes::ALL,
        ..policy
    };
    assert_eq!(
        all.after_failure(FailureClass::Ambiguous, 1, ZERO, None, 0),
        Next::Retry { after: ZERO }
    );
    assert_eq!(
        all.after_failure(FailureClass::Final, 1, ZERO, None, 0),
        Next::GiveUp(GiveUp::Class(FailureClass::Final))
    );
}

#[test]
fn pauses_double_up_to_the_cap() {
    let backoff = Backoff::default();
    let longest = |class, tries| backoff.pause(class, tries, None, u64::MAX).as_millis() + 1;
    let unsent: Vec<_> = [1, 2, 3, 9, 10, 11, 40, u32::MAX]
        .map(|tries| longest(FailureClass::Unsent, tries))
        .into();
    assert_eq!(unsent, [50, 100, 200, 12_800, 20_000, 20_000, 20_000, 20_000]);
    let throttled: Vec<_> = [1, 2, 5, 6].map(|tries| longest(FailureClass::Throttled, tries)).into();
    assert_eq!(throttled, [1000, 2000, 16_000, 20_000]);
    assert_eq!(backoff.pause(FailureClass::Unsent, 1, None, 1 << 63), 25 * MS);
}

#[test]
fn advice_is_kept_within_the_cap() {
    let policy = RetryPolicy::default();
    let after =
        |advice, random| retry_after(policy.after_failure(FailureClass::Throttled, 1, ZERO, Some(advice), random));
    assert_eq!(after(7000 * MS, 0), 7000 * MS);
    assert_eq!(after(7000 * MS, 1 << 63), 7500 * MS, "jitter comes on top");
    assert_eq!(after(Duration::from_secs(3600), 5), policy.backoff.cap);
    assert_eq!(after(Duration::MAX, u64::MAX), policy.backoff.cap);
}

#[test]
fn tries_and_elapsed_time_are_spent() {
    let policy = RetryPolicy::default();
    let next = |tries, elapsed, random| policy.after_failure(FailureClass::Unsent, tries, elapsed, None, random);
    assert_eq!(next(2, ZERO, 0), Next::Retry { after: ZERO });
    assert_eq!(next(3, ZERO, 0), Next::GiveUp(GiveUp::Tries));
    assert_eq!(next(u32::MAX, ZERO, 0), Next::GiveUp(GiveUp::Tries));
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(next(1, day - 26 * MS, 1 << 63), Next::Retry { after: 25 * MS });
    assert_eq!(next(1, day - 25 * MS, 1 << 63), Next::GiveUp(GiveUp::Elapsed));
    assert_eq!(next(1, Duration::MAX, 0), Next::GiveUp(GiveUp::Elapsed));
}

#[test]
fn the_longest_schedule_is_bounded_by_the_elapsed_time() {
    let mut policy = RetryPolicy::default();
    policy.limits.tries = 1;
    assert_eq!(policy.longest(), Duration::from_secs(30));
    policy.limits.tries = 1000;
    assert_eq!(policy.longest(), Duration::from_secs(30 * 1000 + 20 * 999));
    policy.limits.elapsed = Duration::from_secs(3600);
    assert_eq!(policy.longest(), Duration::from_secs(3600 + 30));
}

#[test]
fn classes_are_read_by_their_words() {
    let classes = Classes::parse(["unsent", "ambiguous"]).unwrap();
    assert_eq!(
        classes,
        Classes {
            unsent: true,
            throttled: false,
            ambiguous: true
        }
    );
    assert_eq!(classes.words().collect::<Vec<_>>(), ["unsent", "ambiguous"]);
    assert_eq!(Classes::parse(Classes::ALL.words()), Ok(Classes::ALL));
    let shown = FailureClass::ALL.map(|class| class.to_string());
    assert_eq!(shown, ["unsent", "throttled", "ambiguous", "final"]);
    for (word, text) in [
        ("final", "leave it out"),
        ("timeout", "\"timeout\""),
        ("", "write any of"),
    ] {
        let error = Classes::parse(["unsent", word]).unwrap_err();
        assert_eq!(error.field(), "classes");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn derived_keys_differ_by_parent_and_by_effect() {
    let parent = |byte| OperationId::from_bytes([byte; 16]);
    let key = derive_key(&parent(1), "charge");
    assert_eq!(
        key, "9f59547e73274c396e372c294d1456ec",
        "receivers remember keys: the recipe must never change"
    );
    assert_ne!(key, derive_key(&parent(2), "charge"));
    assert_ne!(key, derive_key(&parent(1), "email"));
    assert_ne!(key, derive_key(&parent(1), ""));
}

fn classes() -> impl Strategy<Value = FailureClass> {
    proptest::sample::select(&FailureClass::ALL[..])
}

proptest! {
    #[test]
    fn a_pause_is_within_the_cap_and_no_shorter_than_advice(
        class in classes(),
        tries: u32,
        advice in proptest::option::of(any::<Duration>()),
        base in 0u64..100_000,
        cap in 0u64..100_000,
        random: u64,
    ) {
        let cap = Duration::from_millis(cap);
        let base = Duration::from_millis(base);
        let backoff = Backoff { base, throttle_base: 3 * base, cap };
        let pause = backoff.pause(class, tries, advice, random);
        prop_assert!(pause <= cap);
        prop_assert!(pause >= advice.unwrap_or_default().min(cap));
    }

    /// The schedule of a policy ends within its tries, and within the time that it calls the longest.
    #[test]
    fn a_schedule_is_no_longer_than_the_longest(
        policy in policies(),
        class in classes(),
        advice in proptest::option::of(0u64..100_000),
        randoms in proptest::collection::vec(any::<u64>(), 20),
    ) {
        policy.check().unwrap();
        let mut elapsed = ZERO;
        for tries in 1.. {
            prop_assert!(tries <= policy.limits.tries);
            elapsed += policy.limits.per_try;
            let advice = advice.map(Duration::from_millis);
            match policy.after_failure(class, tries, elapsed, advice, randoms[tries as usize % 20]) {
                Next::Retry { after } => elapsed += after,
                Next::GiveUp(_) => break,
            }
        }
        prop_assert!(elapsed <= policy.longest(), "{:?} > {:?}", elapsed, policy.longest());
    }
}

prop_compose! {
    fn policies()(
        tries in 1u32..15,
        base in 1u64..1000,
        cap in 1000u64..30_000,
        per_try in 1u64..1000,
        elapsed in 60_000u64..200_000,
    ) -> RetryPolicy {
        RetryPolicy {
            retry: Classes::ALL,
            backoff: Backoff { base: MS * base as u32, throttle_base: MS * 1000, cap: MS * cap as u32 },
            limits: Limits {
                tries,
                elapsed: Duration::from_millis(elapsed),
                per_try: Duration::from_millis(per_try),
                total: Duration::from_millis(per_try),
            },
            ..RetryPolicy::default()
        }
    }
}
