use super::*;
use crate::policy::*;

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn refused(field: &str, text: &str, change: impl FnOnce(&mut RetryPolicy)) {
    let mut policy = RetryPolicy::default();
    change(&mut policy);
    let error = policy.check().expect_err(field);
    assert_eq!(error.field(), field, "{error}");
    assert_eq!(error.to_string(), format!("retry policy: {field} {text}"));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    refused("tries", "is 0: write at least 1; 1 means no retries", |p| {
        p.limits.tries = 0
    });
    refused("tries", "is 1001: write at most 1000", |p| p.limits.tries = 1001);
    refused(
        "classes",
        "is empty: name what is retried, such as \"unsent\", or write tries = 1",
        |p| p.retry = Classes::NONE,
    );
    refused("per_try", "is 0ns: write at least 1ms", |p| {
        p.limits.per_try = Duration::ZERO
    });
    refused("total", "is 0ns: write at least 1ms", |p| {
        p.limits.total = Duration::ZERO
    });
    refused("elapsed", "is 0ns: write at least 1ms", |p| {
        p.limits.elapsed = Duration::ZERO
    });
    refused(
        "per_try",
        "is 61s, longer than total (60s): write at most 60s, or raise total",
        |p| p.limits.per_try = 61 * SECOND,
    );
    refused(
        "total",
        "is 60s, longer than elapsed (59s): write at most 59s, or raise elapsed",
        |p| p.limits.elapsed = 59 * SECOND,
    );
    refused("elapsed", "is 31622401s: write at most 31622400s, a year", |p| {
        p.limits.elapsed = LONGEST + SECOND;
    });
}

#[test]
fn backoff_that_makes_no_sense_is_refused() {
    refused("base", "is 0ns: write at least 1ms", |p| {
        p.backoff.base = Duration::ZERO
    });
    refused("throttle_base", "is 0ns: write at least 1ms", |p| {
        p.backoff.throttle_base = Duration::ZERO;
    });
    refused("cap", "is 0ns: write at least 1ms", |p| p.backoff.cap = Duration::ZERO);
    refused(
        "base",
        "is 21s, longer than cap (20s): write at most 20s, or raise cap",
        |p| {
            p.backoff.base = 21 * SECOND;
        },
    );
    refused(
        "throttle_base",
        "is 1s, longer than cap (500ms): write at most 500ms, or raise cap",
        |p| p.backoff.cap = SECOND / 2,
    );
}

#[test]
fn budgets_that_make_no_sense_are_refused() {
    for (share, text) in [(1.2, "1.2"), (-0.1, "-0.1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let text = format!("is {text}: write a share from 0 to 1; 0.2 is one retry for five calls");
        refused("budget_share", &text, |p| p.budget.share = share);
    }
    for (floor, text) in [
        (-1.0, "-1"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
        (1e7, "10000000"),
    ] {
        let text = format!("is {text}: write retries a second from 0 to 1000000");
        refused("budget_floor", &text, |p| p.budget.floor = floor);
    }
    refused("budget_window", "is 99ms: write at least 100ms", |p| {
        p.budget.window = Duration::from_millis(99);
    });
}

#[test]
fn breakers_that_make_no_sense_are_refused() {
    for (rate, text) in [(0.0, "0"), (-0.5, "-0.5"), (1.01, "1.01"), (f64::NAN, "NaN")] {
        let text = format!("is {text}: write a share above 0, at most 1; 0.5 opens when half of the calls fail");
        refused("breaker_failure_rate", &text, |p| p.breaker.failure_rate = rate);
    }
    refused(
        "breaker_minimum_calls",
        "is 0: write at least 1: a rate of no calls says nothing",
        |p| p.breaker.minimum_calls = 0,
    );
    refused("breaker_window", "is 0ns: write at least 100ms", |p| {
        p.breaker.window = Duration::ZERO;
    });
    refused("breaker_open", "is 0ns: write at least 1ms", |p| {
        p.breaker.open = Duration::ZERO
    });
    refused("breaker_open_at_most", "is 0ns: write at least 1ms", |p| {
        p.breaker.open_at_most = Duration::ZERO;
    });
    refused("breaker_ramp", "is 31622401s: write at most 31622400s, a year", |p| {
        p.breaker.ramp = LONGEST + SECOND;
    });
    refused(
        "breaker_open",
        "is 5s, longer than breaker_open_at_most (4s): write at most 4s, or raise breaker_open_at_most",
        |p| p.breaker.open_at_most = 4 * SECOND,
    );
}

#[test]
fn the_edges_are_accepted() {
    let mut policy = RetryPolicy {
        retry: Classes::NONE,
        ..RetryPolicy::default()
    };
    policy.limits = Limits {
        tries: 1,
        elapsed: SECOND,
        per_try: SECOND,
        total: SECOND,
    };
    policy.backoff.throttle_base = policy.backoff.cap;
    policy.budget = BudgetPolicy {
        share: 1.0,
        floor: 0.0,
        window: Duration::from_millis(100),
    };
    policy.breaker.failure_rate = 1.0;
    policy.breaker.minimum_calls = 1;
    policy.breaker.ramp = Duration::ZERO;
    policy.breaker.open = policy.breaker.open_at_most;
    policy.check().unwrap();
    policy.limits.tries = 1000;
    policy.retry.unsent = true;
    policy.budget.share = 0.0;
    policy.limits.elapsed = LONGEST;
    policy.check().unwrap();
    let error = PolicyError::new("tries", "is 0", "write 1");
    assert_eq!((error.problem(), error.write()), ("is 0", "write 1"));
}
