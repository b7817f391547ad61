use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn spend(budget: &mut Budget, now: Duration) -> usize {
    (0..10_000).take_while(|_| budget.withdraw(now)).count()
}

#[test]
fn a_share_and_a_floor() {
    let mut budget = Budget::new(BudgetPolicy::default());
    assert_eq!(spend(&mut budget, SECOND), 10, "the floor of a second");
    (0..100).for_each(|_| budget.deposit(SECOND));
    assert_eq!(
        spend(&mut budget, SECOND),
        10,
        "a fifth of a hundred, less what was spent"
    );
    assert_eq!(budget.left(SECOND), 0.0);
    assert!(!budget.allows(SECOND));
}

#[test]
fn an_outage_does_not_spend_ten_seconds_at_once() {
    let mut budget = Budget::new(BudgetPolicy::default());
    for second in 0..20 {
        (0..200).for_each(|_| budget.deposit(second * SECOND));
    }
    for second in 20..40 {
        (0..200).for_each(|_| budget.deposit(second * SECOND + SECOND / 2));
        let spent = spend(&mut budget, second * SECOND + SECOND / 2);
        assert!(spent <= 60, "{spent} in second {second}");
    }
    let mut spent = 0;
    for second in 40..50 {
        (0..200).for_each(|_| budget.deposit(second * SECOND + SECOND / 2));
        spent += spend(&mut budget, second * SECOND + SECOND / 2);
    }
    assert!(spent > 320 && spent <= 400, "{spent} in ten seconds");
}

#[test]
fn what_is_spent_comes_back_with_time() {
    let mut budget = Budget::new(BudgetPolicy {
        share: 0.0,
        floor: 1.0,
        window: 10 * SECOND,
    });
    assert!(budget.withdraw(SECOND));
    assert!(!budget.withdraw(SECOND));
    assert!(
        !budget.withdraw(2 * SECOND + SECOND / 2),
        "half of the first still counts"
    );
    assert!(budget.withdraw(3 * SECOND));
}

#[test]
fn a_small_floor_is_not_rounded_away() {
    let mut budget = Budget::new(BudgetPolicy {
        share: 0.0,
        floor: 0.2,
        window: 10 * SECOND,
    });
    assert_eq!(spend(&mut budget, SECOND), 1);
    assert_eq!(spend(&mut budget, 5 * SECOND), 1);
    assert_eq!(spend(&mut budget, 9 * SECOND), 0, "two in ten seconds");
    assert_eq!(spend(&mut budget, 11 * SECOND), 1);
}

#[test]
fn nothing_is_allowed_where_nothing_is_granted() {
    let mut budget = Budget::new(BudgetPolicy {
        share: 0.0,
        floor: 0.0,
        window: 10 * SECOND,
    });
    budget.deposit(SECOND);
    assert!(!budget.withdraw(SECOND));
}

#[test]
fn old_traffic_buys_nothing() {
    let mut budget = Budget::new(BudgetPolicy {
        share: 0.5,
        floor: 0.0,
        window: 10 * SECOND,
    });
    (0..10).for_each(|_| budget.deposit(SECOND));
    assert!(budget.withdraw(10 * SECOND));
    assert!(!budget.withdraw(12 * SECOND));
}

#[test]
fn a_tenth_of_any_window_is_bounded() {
    let mut budget = Budget::new(BudgetPolicy {
        share: 0.0,
        floor: 20.0,
        window: SECOND,
    });
    assert_eq!(spend(&mut budget, SECOND), 2);
    assert_eq!(spend(&mut budget, SECOND + SECOND / 5), 2);
}

proptest! {
    /// At each retry, those of the last ten buckets are within share × first tries or floor × window of the same ten.
    #[test]
    fn retries_are_within_the_budget(
        share in 0.0..=1.0f64,
        floor in 0.0..20.0f64,
        steps in proptest::collection::vec((0u64..2000, 0usize..20, 0usize..20), 1..60),
    ) {
        let policy = BudgetPolicy { share, floor, window: 10 * SECOND };
        let mut budget = Budget::new(policy);
        let mut now = Duration::ZERO;
        let mut events: Vec<(u64, bool)> = Vec::new();
        for (wait, firsts, retries) in steps {
            now += Duration::from_millis(wait);
            let bucket = now.as_secs();
            for _ in 0..firsts {
                budget.deposit(now);
                events.push((bucket, false));
            }
            let mut retried = false;
            for _ in 0..retries {
                if budget.withdraw(now) {
                    events.push((bucket, true));
                    retried = true;
                }
            }
            let in_window = |retry| {
                let recent = events.iter().filter(|(at, is)| *is == retry && at + 10 > bucket);
                recent.count() as f64
            };
            let allowed = (share * in_window(false)).max(floor * 10.0);
            let made = in_window(true);
            prop_assert!(!retried || made <= allowed + 1e-9, "{made} > {allowed}");
        }
    }
}

#[test]
fn first_tries_counted_at_once_are_as_many() {
    let mut budget = Budget::new(BudgetPolicy {
        floor: 0.0,
        ..BudgetPolicy::default()
    });
    budget.deposit_many(Duration::ZERO, 15);
    assert_eq!(budget.left(Duration::ZERO), 3.0);
    assert_eq!(budget.turns_at(Duration::from_millis(1_500)), Duration::from_secs(2));
}
