//! The exam of the exam: it must fail every store with a planted bug, and pass the same store without one.

use std::sync::{Arc, Mutex, PoisonError};

use hapax_check::canaries::{Bug, Planted};
use hapax_check::conformance::{CASES, block_on};
use hapax_check::{Backend, history};
use hapax_core::{BoxFuture, Store, StoreError};

fn planted(bug: Bug) -> impl Backend {
    let opened: Mutex<Option<Planted>> = Mutex::default();
    move |clock| -> BoxFuture<'static, Result<Arc<dyn Store>, StoreError>> {
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        let store = opened.get_or_insert_with(|| Planted::new(bug, clock)).clone();
        Box::pin(std::future::ready(Ok(Arc::new(store) as Arc<dyn Store>)))
    }
}

/// The cases that the store fails, and what they say.
fn failures(bug: Bug) -> Vec<(&'static str, String)> {
    let mut failures = Vec::new();
    for case in CASES {
        if let Err(failure) = block_on(case.run(Arc::new(planted(bug)))) {
            failures.push((case.name, failure.to_string()));
        }
    }
    failures
}

/// Which case must catch a bug, whatever else does.
fn caught_by(bug: Bug) -> &'static str {
    match bug {
        Bug::None => "nothing",
        Bug::CheckThenAct => "of_many_racers_one_wins",
        Bug::UnfencedFinish => "a_wrong_fence_finishes_nothing",
        Bug::UnscopedKey => "scope_name_and_key_each_make_another_operation",
        Bug::LeaseIsRetention => "a_fresh_claim_wins",
        Bug::DeletedOnError => "each_finish_is_told_to_the_next_arrival",
        Bug::LosesToItself => "a_repeated_claim_wins_again",
        Bug::SweepsClaimed => "a_sweep_never_removes_what_is_claimed_or_unknown",
        Bug::MismatchIgnoredWhenDone | Bug::MismatchIgnoredWhileRunning => "a_mismatch_is_told_first_in_every_state",
        Bug::LapsedHoldRunsAgain => "a_lapse_in_hold_mode_is_unknown",
        Bug::LastFinishStands => "the_first_finish_stands",
        Bug::FenceFromRecords => "fences_only_grow_whatever_happens",
        Bug::ForgottenWithAnswer => "a_sweep_strips_expired_answers",
        Bug::StrippedEarly => "a_sweep_strips_expired_answers",
        Bug::EndlessRenewal => "a_renewal_extends_up_to_max_run",
        Bug::FinishedAttemptRunsAgain => "a_finished_attempt_does_not_run_again",
        Bug::UnboundedSweep => "a_sweep_is_bounded",
        Bug::FollowsAnyClock => "the_time_never_runs_backwards",
        Bug::TakenByTwo => "many_takers_take_each_record_once",
        Bug::TakeLosesToItself => "a_take_is_answered_the_same_again",
        Bug::AmendKeepsFence => "a_stale_attempt_finishes_nothing_after_an_amendment",
        Bug::AmendUnaudited => "the_audit_comes_in_pages_and_outlives_its_records",
        Bug::RedrivesDone => "each_amendment_in_every_state_does_as_the_core_says",
        Bug::EnqueueOverwrites => "an_enqueue_in_every_state_does_as_the_core_says",
        Bug::UncountedStaysTry => "a_release_without_effect_gives_the_systems_try_back",
        Bug::ReleaseForgetsInput => "input_is_kept_until_it_is_done",
        Bug::BelievesNotDoneTooSoon => "not_done_counts_once_it_is_settled",
        Bug::SuspectsRunBesideOthers => "three_crashes_are_poison_and_bystanders_end_done",
        Bug::EnqueueLosesToItself => "an_enqueue_is_answered_the_same_again",
        Bug::EnqueueIgnoresDelay => "an_enqueued_operation_waits_with_its_input",
        Bug::TakesBeforeDue => "work_is_taken_when_it_is_due_and_once",
        Bug::TakesAnyName => "only_names_that_are_asked_for_are_taken",
        Bug::TakesNewestFirst | Bug::NeverMore => "the_longest_due_is_taken_first_and_no_more_than_asked",
        Bug::SweepCheckThenAct => "a_sweep_and_a_redrive_exclude_each_other",
        Bug::LatestIsOldest => "the_census_knows_the_longest_due",
        Bug::ErrorCutShort => "last_errors_come_back_up_to_their_limit",
        Bug::IgnoresOrder | Bug::OrderOfOneName => "only_the_oldest_of_a_group_that_is_not_done_is_started",
        Bug::DeadPassesTurn => "what_is_dead_or_unknown_holds_up_its_group",
        Bug::KeepsTurn => "whoever_is_done_wakes_the_next_of_its_group",
        Bug::UnboundedTake => "a_take_is_bounded_however_many_wait_for_their_turn",
        Bug::ClaimForgetsInput | Bug::ClaimKeepsFirstOnly => "a_claims_input_is_what_a_runner_takes_over_with",
        Bug::RedrivesUndone => "each_amendment_in_every_state_does_as_the_core_says",
        Bug::LowersFence => "raising_a_fence_never_lowers_one",
        Bug::IgnoresRaise => "a_raised_fence_is_never_given_out_again",
    }
}

#[test]
fn the_suite_passes_the_store_without_a_bug() {
    assert_eq!(failures(Bug::None), []);
}

#[test]
fn the_suite_fails_every_bug_where_it_should() {
    for bug in Bug::ALL {
        let failures = failures(*bug);
        let caught = failures.iter().any(|(case, _)| *case == caught_by(*bug));
        assert!(
            caught,
            "{bug:?} was not caught by {}, only by {failures:#?}",
            caught_by(*bug)
        );
    }
}

#[test]
fn histories_pass_the_store_without_a_bug() {
    let outcome = history::run_seeded(128, 1, || planted(Bug::None));
    assert_eq!(outcome.map_err(|failure| failure.0), Ok(()));
}

#[test]
fn histories_fail_every_bug_that_needs_no_race() {
    // Races, other scopes and names, more records than a sweep or a take may take, long errors, and jumps of the clock
    // do not occur in histories.
    let other = [
        Bug::CheckThenAct,
        Bug::UnscopedKey,
        Bug::UnboundedSweep,
        Bug::FollowsAnyClock,
        Bug::TakenByTwo,
        Bug::TakesAnyName,
        Bug::TakesNewestFirst,
        Bug::NeverMore,
        Bug::SweepCheckThenAct,
        Bug::ErrorCutShort,
        Bug::OrderOfOneName,
        Bug::UnboundedTake,
    ];
    for bug in Bug::ALL.iter().filter(|bug| !other.contains(bug)) {
        let outcome = history::run_seeded(512, 1, || planted(*bug));
        assert!(outcome.is_err(), "{bug:?} passed 512 histories");
    }
}
