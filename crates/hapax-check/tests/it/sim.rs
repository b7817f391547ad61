//! Simulated worlds: about two hundred here, as many as wanted with the program `sim`.

use hapax_check::canaries::Bug;
use hapax_check::sim::{Canary, Config, Counts, command, run};

fn laws_hold_in(seeds: impl IntoIterator<Item = u64>) -> Counts {
    let mut total = Counts::default();
    for seed in seeds {
        let report = run(seed, &Config::default());
        let violations = report.violations.join("\n  ");
        let again = command(seed);
        assert!(
            violations.is_empty(),
            "seed {seed}; to see it again: {again} --trace\n  {violations}"
        );
        total.add(&report.counts);
    }
    total
}

fn laws_hold(seeds: std::ops::Range<u64>) {
    let total = laws_hold_in(seeds);
    // A world in which nothing happens breaks no law.
    let happened = [
        total.effects,
        total.answers,
        total.refusals,
        total.mismatches,
        total.accidents,
        total.store_faults,
        total.unknown,
        total.dead,
        total.kills,
        total.accepted,
        total.takes,
        total.resolves,
        total.redrives,
        total.retries,
        total.put_off,
        total.opened,
        total.suspects,
        total.fenced,
    ];
    assert!(happened.iter().all(|count| *count > 5), "{total:?}");
}

#[test]
fn laws_hold_in_the_first_seventy_worlds() {
    laws_hold(0..70);
}

#[test]
fn laws_hold_in_the_next_seventy_worlds() {
    laws_hold(70..140);
}

#[test]
fn laws_hold_in_seventy_more_worlds() {
    laws_hold(140..210);
}

/// Worlds in which a process was told of its claim when the lease was over, and might have run what had been settled.
#[test]
fn laws_hold_where_claims_are_heard_of_late() {
    laws_hold_in([16, 363, 550, 988, 1287, 1349, 1467]);
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let config = Config {
        keep_trace: true,
        ..Config::default()
    };
    let mut digests = Vec::new();
    for seed in 0..12 {
        let report = run(seed, &config);
        assert_eq!(run(seed, &config), report, "seed {seed}");
        digests.push(report.digest);
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 12, "another seed gives another world");
}

/// The bugs that the world of some seed does not show, as a breach of their law.
fn missed(bugs: &[(Canary, &'static str)]) -> Vec<String> {
    const SEEDS: u64 = 600;
    let shows = |canary, law, seed| {
        let config = Config {
            canary,
            ..Config::default()
        };
        let violations = run(seed, &config).violations;
        violations.iter().any(|violation| violation.starts_with(law))
    };
    let missed = bugs
        .iter()
        .filter(|(canary, law)| !(0..SEEDS).any(|seed| shows(*canary, law, seed)));
    missed
        .map(|(canary, law)| format!("{canary:?} broke no law of {law} in {SEEDS} worlds"))
        .collect()
}

#[test]
fn bugs_of_the_gateway_are_found() {
    let bugs = [
        (Canary::AnswersBeforeFinish, "durable before answered"),
        (Canary::AmbiguousIsNoEffect, "once"),
        (Canary::UnprotectedWhenStoreIsDown, "once"),
        (Canary::RunsWhileInProgress, "once"),
        (Canary::RunsWhileInProgress, "same answer"),
        (Canary::FailureIsSuccess, "ack needs effect"),
        (Canary::BodyNotFingerprinted, "isolation"),
    ];
    assert_eq!(missed(&bugs), [""; 0]);
}

#[test]
fn bugs_of_the_runner_are_found() {
    let bugs = [
        (Canary::OpenBreakerKills, "killed early"),
        (Canary::TakenTwice, "fence"),
    ];
    assert_eq!(missed(&bugs), [""; 0]);
}

#[test]
fn bugs_of_the_store_are_found() {
    let bugs = [
        (Bug::CheckThenAct, "once"),
        (Bug::UnscopedKey, "isolation"),
        (Bug::DeletedOnError, "once"),
        (Bug::SweepsClaimed, "expiry"),
        (Bug::MismatchIgnoredWhenDone, "isolation"),
        (Bug::MismatchIgnoredWhileRunning, "mismatch first"),
        (Bug::LapsedHoldRunsAgain, "once"),
        (Bug::UnfencedFinish, "fence"),
        (Bug::LastFinishStands, "done is done"),
        (Bug::ForgottenWithAnswer, "expiry"),
        (Bug::LeaseIsRetention, "liveness"),
        (Bug::EndlessRenewal, "bounded"),
        (Bug::FollowsAnyClock, "time"),
    ];
    assert_eq!(missed(&bugs.map(|(bug, law)| (Canary::Store(bug), law))), [""; 0]);
}

#[test]
fn bugs_of_the_stores_queue_are_found() {
    let bugs = [
        (Bug::AmendKeepsFence, "fence"),
        (Bug::RedrivesDone, "done is done"),
        (Bug::BelievesNotDoneTooSoon, "settle"),
        (Bug::ReleaseForgetsInput, "lost"),
        (Bug::UncountedStaysTry, "killed early"),
        (Bug::EnqueueOverwrites, "done is done"),
        (Bug::SuspectsRunBesideOthers, "poison"),
        (Bug::IgnoresOrder, "order"),
        (Bug::DeadPassesTurn, "order"),
        (Bug::RedrivesUndone, "undone"),
    ];
    assert_eq!(missed(&bugs.map(|(bug, law)| (Canary::Store(bug), law))), [""; 0]);
}
