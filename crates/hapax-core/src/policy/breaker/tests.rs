use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const PER_TRY: Duration = Duration::from_secs(30);

fn policy() -> BreakerPolicy {
    BreakerPolicy {
        minimum_calls: 10,
        ..BreakerPolicy::default()
    }
}

fn call(breaker: &mut Breaker, now: Duration, health: Health) {
    let admission = breaker.admit(now, 0);
    assert!(matches!(admission, Admission::Go(_)), "{admission:?} at {now:?}");
    breaker.report(now, admission, health);
}

/// A breaker that opened at `now`.
fn open(policy: BreakerPolicy, now: Duration) -> Breaker {
    let mut breaker = Breaker::new(policy, PER_TRY);
    (0..policy.minimum_calls).for_each(|_| call(&mut breaker, now, Health::Failure));
    assert_eq!(breaker.state(now), BreakerState::Open);
    breaker
}

fn probe(breaker: &mut Breaker, now: Duration) -> Admission {
    let admission = breaker.admit(now, 0);
    assert!(matches!(admission, Admission::Probe(_)), "{admission:?} at {now:?}");
    admission
}

fn wait(breaker: &mut Breaker, now: Duration) -> Duration {
    match breaker.admit(now, 0) {
        Admission::Refused { retry_after } => retry_after,
        admitted => panic!("{admitted:?} at {now:?}"),
    }
}

/// A pause with the random number that these tests give: 0.
fn pause(seconds: u32) -> Duration {
    seconds * SECOND - seconds * SECOND / 20
}

#[test]
fn opens_at_the_rate_and_not_before_the_minimum() {
    let mut breaker = Breaker::new(policy(), PER_TRY);
    for _ in 0..9 {
        call(&mut breaker, SECOND, Health::Failure);
    }
    assert_eq!(breaker.state(SECOND), BreakerState::Closed);
    assert_eq!(breaker.retry_after(SECOND), None);
    call(&mut breaker, SECOND, Health::Failure);
    assert_eq!(breaker.state(SECOND), BreakerState::Open);
    assert_eq!(breaker.retry_after(SECOND), Some(pause(5)));
    assert_eq!(breaker.retry_after(SECOND + pause(5)), None, "a probe may be sent");
    assert_eq!(breaker.retry_after(SECOND + pause(9)), None);

    let mut breaker = Breaker::new(policy(), PER_TRY);
    for _ in 0..11 {
        call(&mut breaker, SECOND, Health::Success);
        call(&mut breaker, SECOND, Health::Ignored);
    }
    for _ in 0..10 {
        call(&mut breaker, SECOND, Health::Failure);
    }
    assert_eq!(
        breaker.state(SECOND),
        BreakerState::Closed,
        "10 of 21 is less than half"
    );
    call(&mut breaker, SECOND, Health::Failure);
    assert_eq!(breaker.state(SECOND), BreakerState::Open, "11 of 22 is half");
}

#[test]
fn only_a_failure_opens() {
    let mut breaker = Breaker::new(policy(), PER_TRY);
    for _ in 0..9 {
        call(&mut breaker, SECOND, Health::Failure);
    }
    call(&mut breaker, SECOND, Health::Ignored);
    call(&mut breaker, SECOND, Health::Success);
    assert_eq!(breaker.state(SECOND), BreakerState::Closed);
}

#[test]
fn old_failures_are_forgotten() {
    let mut breaker = Breaker::new(policy(), PER_TRY);
    (0..9).for_each(|_| call(&mut breaker, SECOND, Health::Failure));
    call(&mut breaker, 31 * SECOND, Health::Failure);
    assert_eq!(breaker.state(31 * SECOND), BreakerState::Closed);
    (0..9).for_each(|_| call(&mut breaker, 40 * SECOND, Health::Failure));
    assert_eq!(breaker.state(40 * SECOND), BreakerState::Open);
}

#[test]
fn open_time_doubles_to_its_maximum_and_is_back_after_health() {
    let mut now = SECOND;
    let mut breaker = open(policy(), now);
    for seconds in [5, 10, 10, 10] {
        assert_eq!(wait(&mut breaker, now), pause(seconds));
        assert_eq!(wait(&mut breaker, now + pause(seconds) - MS), MS);
        now += pause(seconds);
        let bad = probe(&mut breaker, now);
        breaker.report(now, bad, Health::Failure);
    }
    now += pause(10);
    let good = probe(&mut breaker, now);
    breaker.report(now, good, Health::Success);
    assert_eq!(breaker.state(now + 4999 * MS), BreakerState::Ramping);
    now += 5 * SECOND;
    assert_eq!(breaker.state(now), BreakerState::Closed);
    (0..10).for_each(|_| call(&mut breaker, now, Health::Failure));
    assert_eq!(wait(&mut breaker, now), pause(5), "health resets the pause");
}

#[test]
fn a_relapse_in_the_ramp_opens_sooner_and_for_longer() {
    let policy = BreakerPolicy {
        minimum_calls: 30,
        ..BreakerPolicy::default()
    };
    let mut breaker = open(policy, SECOND);
    let mut now = SECOND + pause(5);
    let good = probe(&mut breaker, now);
    breaker.report(now, good, Health::Success);
    for failures in 1..=3 {
        assert_eq!(breaker.state(now), BreakerState::Ramping, "{failures}");
        now += SECOND;
        call(&mut breaker, now, Health::Failure);
    }
    assert_eq!(wait(&mut breaker, now), pause(10));
}

#[test]
fn jitter_only_shortens_a_pause() {
    let mut breaker = Breaker::new(policy(), PER_TRY);
    for _ in 0..10 {
        let admission = breaker.admit(SECOND, u64::MAX);
        breaker.report(SECOND, admission, Health::Failure);
    }
    let wait = wait(&mut breaker, SECOND);
    assert!(wait > 3750 * MS && wait < 3751 * MS, "{wait:?}");
}

#[test]
fn the_pause_runs_from_the_start_of_the_bad_probe() {
    let mut breaker = open(policy(), SECOND);
    let mut now = SECOND + pause(5);
    let bad = probe(&mut breaker, now);
    now += 3 * SECOND;
    breaker.report(now, bad, Health::Failure);
    assert_eq!(wait(&mut breaker, now), pause(10) - 3 * SECOND);
}

#[test]
fn one_probe_at_a_time_and_a_lost_one_frees_its_slot() {
    let mut breaker = open(policy(), SECOND);
    let mut now = SECOND + pause(5);
    let lost = probe(&mut breaker, now);
    assert_eq!(breaker.state(now), BreakerState::Probing);
    assert_eq!(wait(&mut breaker, now + SECOND), 8500 * MS);
    now += 9500 * MS;
    let second = probe(&mut breaker, now);
    breaker.report(now, lost, Health::Failure);
    breaker.report(now, lost, Health::Ignored);
    assert_eq!(wait(&mut breaker, now), 9500 * MS, "a lost probe proves no failure");
    breaker.report(now, lost, Health::Success);
    assert_eq!(breaker.state(now), BreakerState::Ramping, "but it proves life");
    breaker.report(now, second, Health::Failure);
    assert_eq!(breaker.state(now), BreakerState::Ramping, "the outage is over");
    breaker.report(now + SECOND, second, Health::Success);
    assert_eq!(
        breaker.state(now + 5 * SECOND),
        BreakerState::Closed,
        "and the ramp goes on"
    );

    let mut short = Breaker::new(policy(), SECOND);
    (0..10).for_each(|_| call(&mut short, SECOND, Health::Failure));
    now = SECOND + pause(5);
    let _lost = probe(&mut short, now);
    assert_eq!(wait(&mut short, now), SECOND, "per_try bounds a probe");
}

#[test]
fn an_ignored_probe_makes_way_for_the_next() {
    let mut breaker = open(policy(), SECOND);
    let now = SECOND + pause(5);
    let ignored = probe(&mut breaker, now);
    breaker.report(now, ignored, Health::Ignored);
    assert_eq!(breaker.state(now), BreakerState::Probing);
    let _next = probe(&mut breaker, now);
}

#[test]
fn reports_of_another_time_do_not_count() {
    let mut breaker = Breaker::new(policy(), PER_TRY);
    let slow: Vec<_> = (0..20).map(|_| breaker.admit(SECOND, 0)).collect();
    (0..10).for_each(|_| call(&mut breaker, SECOND, Health::Failure));
    let now = SECOND + pause(5);
    let good = probe(&mut breaker, now);
    breaker.report(now, slow[0], Health::Success);
    assert_eq!(breaker.state(now), BreakerState::Probing);
    breaker.report(now, good, Health::Success);
    for admission in slow {
        breaker.report(now, admission, Health::Failure);
    }
    assert_eq!(breaker.state(now), BreakerState::Ramping);
}

/// Calls that are let through in each second of a ramp, of those that come each second.
fn ramped(each_second: u32, come: u32) -> Vec<u32> {
    let mut breaker = Breaker::new(BreakerPolicy::default(), PER_TRY);
    let mut now = SECOND;
    for number in 0..30 * each_second {
        now += SECOND / each_second;
        let health = if number < 10 * each_second {
            Health::Success
        } else {
            Health::Failure
        };
        let admission = breaker.admit(now, 0);
        breaker.report(now, admission, health);
    }
    assert_eq!(breaker.state(now), BreakerState::Open);
    now += 10 * SECOND;
    let good = probe(&mut breaker, now);
    breaker.report(now, good, Health::Success);
    let mut count = |_| {
        let mut gone = 0;
        for _ in 0..come {
            now += SECOND / come;
            let admission = breaker.admit(now, 0);
            gone += u32::from(matches!(admission, Admission::Go(_)));
            breaker.report(now, admission, Health::Success);
        }
        gone
    };
    (0..6).map(&mut count).collect()
}

#[test]
fn a_ramp_grows_evenly_whatever_waits() {
    for come in [200, 2000] {
        let seconds = ramped(200, come);
        for (second, gone) in seconds[..5].iter().enumerate() {
            // 10 % to 100 % of 200 a second: 38, 74, 110, 146, 182.
            let expected = 38 + 36 * second as u32;
            assert!(gone.abs_diff(expected) <= 2, "{come} come: {seconds:?}");
        }
        assert_eq!(seconds[5], come, "{seconds:?}");
    }
}

#[test]
fn a_ramp_does_not_save_up() {
    let mut ramp = Ramp::new(SECOND, 5 * SECOND, 100.0);
    let gone = (0..1000).filter(|_| ramp.take(5 * SECOND)).count();
    assert_eq!(gone, 8, "a tenth of a second of 82 a second");
    let mut slow = Ramp::new(SECOND, 5 * SECOND, 0.5);
    assert!(slow.take(SECOND), "the first may always go");
    assert!(!slow.take(SECOND));
    assert!(slow.take(5 * SECOND), "and one more in its time");
}

#[test]
fn a_ramp_of_no_time_is_over_at_once() {
    let policy = BreakerPolicy {
        ramp: Duration::ZERO,
        ..policy()
    };
    let mut breaker = open(policy, SECOND);
    let now = SECOND + pause(5);
    let good = probe(&mut breaker, now);
    breaker.report(now, good, Health::Success);
    assert_eq!(breaker.state(now), BreakerState::Closed);
}

#[test]
fn a_refusal_in_the_ramp_names_its_end() {
    let mut breaker = open(policy(), SECOND);
    let now = SECOND + pause(5);
    let good = probe(&mut breaker, now);
    breaker.report(now, good, Health::Success);
    call(&mut breaker, now, Health::Success);
    assert_eq!(wait(&mut breaker, now + MS), 4999 * MS);
    assert_eq!(breaker.retry_after(now + MS), None);
}

#[test]
fn states_have_words() {
    let words = [
        BreakerState::Closed,
        BreakerState::Open,
        BreakerState::Probing,
        BreakerState::Ramping,
    ]
    .map(BreakerState::as_str);
    assert_eq!(words, ["closed", "open", "probing", "ramping"]);
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Admit(u64),
    Report(usize, Health),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let health = prop_oneof![
        2 => Just(Health::Failure),
        1 => Just(Health::Success),
        1 => Just(Health::Ignored),
    ];
    let step = prop_oneof![
        1 => (0u64..6000).prop_map(Step::Wait),
        3 => any::<u64>().prop_map(Step::Admit),
        3 => (any::<usize>(), health).prop_map(|(which, health)| Step::Report(which, health)),
    ];
    proptest::collection::vec(step, 0..300)
}

proptest! {
    /// Whatever happens: one probe at a time, and one at the latest when a call comes after the longest pause.
    #[test]
    fn never_two_probes_and_never_none_for_long(steps in steps()) {
        let policy = BreakerPolicy { minimum_calls: 2, ..BreakerPolicy::default() };
        let mut breaker = Breaker::new(policy, PER_TRY);
        let mut now = SECOND;
        let mut in_hand = HashMap::new();
        let mut out = Vec::new();
        let mut blocked: Option<Duration> = None;
        for step in steps {
            match step {
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Admit(random) => {
                    let admission = breaker.admit(now, random);
                    match admission {
                        Admission::Probe(ticket) => {
                            in_hand.retain(|_, since| now < *since + Duration::from_millis(9500));
                            prop_assert!(in_hand.is_empty(), "two probes");
                            in_hand.insert(ticket.probe, now);
                            out.push(admission);
                            blocked = None;
                        }
                        Admission::Go(_) => {
                            out.push(admission);
                            blocked = None;
                        }
                        Admission::Refused { .. } if breaker.state(now) == BreakerState::Ramping => blocked = None,
                        Admission::Refused { retry_after } => {
                            let since = *blocked.get_or_insert(now);
                            prop_assert!(now - since <= policy.open_at_most, "blocked since {since:?} at {now:?}");
                            prop_assert!(retry_after > Duration::ZERO && retry_after <= policy.open_at_most);
                        }
                    }
                }
                Step::Report(..) if out.is_empty() => {}
                Step::Report(which, health) => {
                    let admission = out.swap_remove(which % out.len());
                    if let Admission::Probe(ticket) = admission {
                        in_hand.remove(&ticket.probe);
                    }
                    breaker.report(now, admission, health);
                }
            }
        }
    }
}

#[test]
fn it_is_steady_while_closed_and_calls_were_seen() {
    let mut breaker = Breaker::new(policy(), PER_TRY);
    assert_eq!(breaker.steady(SECOND), None, "no call was seen");
    call(&mut breaker, SECOND, Health::Success);
    assert_eq!(breaker.steady(SECOND), Some(0));

    let mut breaker = open(policy(), SECOND);
    assert_eq!(breaker.steady(SECOND), None);
    let now = SECOND + pause(5);
    let first = probe(&mut breaker, now);
    assert_eq!(breaker.steady(now), None, "probing");
    breaker.report(now, first, Health::Success);
    call(&mut breaker, now, Health::Success);
    assert_eq!(breaker.steady(now), None, "ramping");
    let now = now + policy().ramp;
    let epoch = breaker.steady(now).expect("the ramp is over");
    assert_eq!(breaker.admit(now, 0), Admission::Go(Ticket::of_epoch(epoch)));
    assert_eq!(Ticket::of_epoch(epoch).epoch(), 2, "it opened and closed");
}

#[test]
fn successes_reported_at_once_count_as_if_one_by_one() {
    let mut breaker = Breaker::new(policy(), PER_TRY);
    breaker.succeeded(SECOND, Ticket::of_epoch(0), 11);
    breaker.succeeded(SECOND, Ticket::of_epoch(1), 1_000);
    (0..10).for_each(|_| call(&mut breaker, SECOND, Health::Failure));
    assert_eq!(breaker.state(SECOND), BreakerState::Closed, "10 of 21");
    call(&mut breaker, SECOND, Health::Failure);
    assert_eq!(breaker.state(SECOND), BreakerState::Open, "11 of 22");

    for (now, turns) in [(0, 3), (2_999, 3), (3_000, 6)] {
        assert_eq!(breaker.turns_at(now * MS), turns * SECOND, "a tenth of 30 s");
    }
}
