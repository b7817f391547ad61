//! The suite that every store must pass.
//!
//! A backend is a set of data that can be opened more than once, each handle standing for a process of its own.
//! In a test, [`conformance_tests!`](crate::conformance_tests) makes one test of each case:
//!
//! ```ignore
//! mod memory {
//!     hapax_check::conformance_tests!(crate::memory_backend());
//! }
//! ```

mod amending;
mod census;
mod claims;
mod durability;
mod exam;
mod expiry;
mod finishes;
mod forgetting;
mod group_races;
mod groups;
pub mod joined;
mod keeping;
mod listing;
mod queue;
mod queue_races;
mod races;
pub mod source;
mod values;

use std::fmt;
use std::sync::Arc;

use hapax_core::{BoxFuture, Store, StoreError};
use hapax_store::Clock;

pub use exam::Exam;

/// A set of data, empty at first, that can be opened any number of times.
pub trait Backend: Send + Sync + 'static {
    /// Opens one more handle onto the same data, as another process would. All handles are given clocks that show
    /// the same time.
    fn open(&self, clock: Clock) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>>;
}

/// Any function that opens the data.
impl<F> Backend for F
where
    F: Fn(Clock) -> BoxFuture<'static, Result<Arc<dyn Store>, StoreError>> + Send + Sync + 'static,
{
    fn open(&self, clock: Clock) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
        self(clock)
    }
}

/// What a store did wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(format!("the store failed: {error}"))
    }
}

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// What the store promises.
    pub name: &'static str,
    run: fn(Exam) -> BoxFuture<'static, Result<(), Failure>>,
}

impl Case {
    /// Runs the case on an empty backend.
    ///
    /// # Errors
    /// What the store did otherwise than promised.
    pub async fn run(&self, backend: Arc<dyn Backend>) -> Result<(), Failure> {
        (self.run)(Exam::new(backend)).await
    }
}

/// Runs one case on a runtime of its own and panics with its name if it fails: the body of a test.
///
/// # Panics
/// When the case fails, or there is none of that name.
#[track_caller]
pub fn check(name: &str, backend: impl Backend) {
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        panic!("the suite has no case {name}");
    };
    let backend: Arc<dyn Backend> = Arc::new(backend);
    if let Err(failure) = block_on(case.run(backend)) {
        panic!("{name}: {failure}");
    }
}

/// Runs a future on a runtime with two threads, as the suite does.
///
/// # Panics
/// When the runtime cannot be made.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("no runtime for the test: {error}"),
    }
}

macro_rules! cases {
    ($d:tt $($module:ident: $($case:ident),+;)+) => {
        /// Every case.
        pub const CASES: &[Case] = &[$($(Case {
            name: stringify!($case),
            run: |exam| Box::pin($module::$case(exam)),
        }),+),+];

        /// Makes one test of each case. The argument is an expression that gives a new, empty
        /// [`Backend`](crate::conformance::Backend) each time.
        #[macro_export]
        macro_rules! conformance_tests {
            ($d backend:expr) => {
                $($(
                    #[test]
                    fn $case() {
                        $d crate::conformance::check(stringify!($case), $d backend);
                    }
                )+)+
            };
        }
    };
}

cases! { $
    claims:
        a_fresh_claim_wins,
        a_repeated_claim_wins_again,
        a_duplicate_is_told_in_progress,
        a_mismatch_is_told_first_in_every_state,
        another_recipe_is_named_in_every_state,
        a_release_at_once_runs_again,
        a_release_for_later_waits_until_due,
        a_finished_attempt_does_not_run_again,
        a_lapse_in_hold_mode_is_unknown,
        a_lapse_in_retry_mode_is_taken_over,
        only_the_systems_starts_are_tries,
        a_lease_ends_with_max_run,
        scope_name_and_key_each_make_another_operation;
    finishes:
        a_done_operation_is_replayed_to_everybody,
        each_finish_is_told_to_the_next_arrival,
        a_late_finish_settles_a_lapsed_run,
        a_late_finish_settles_an_ambiguous_run,
        a_second_doubt_changes_nothing,
        the_first_finish_stands,
        a_wrong_fence_finishes_nothing,
        a_holder_past_its_deadline_can_still_finish,
        a_renewal_extends_up_to_max_run,
        only_the_holder_renews;
    expiry:
        an_answer_expires_to_the_millisecond_without_a_sweep,
        a_sweep_strips_expired_answers,
        a_sweep_forgets_ended_records_in_time_and_not_before,
        a_sweep_lapses_what_nobody_finished,
        a_sweep_forgets_what_nobody_asks_for_again,
        a_sweep_never_removes_what_is_claimed_or_unknown,
        a_sweep_is_bounded,
        a_claim_after_a_sweep_starts_the_record_anew;
    forgetting:
        forgetting_is_refused_while_it_runs,
        forgetting_an_unknown_outcome_takes_a_word,
        ended_and_waiting_records_can_be_forgotten,
        a_forgotten_key_runs_again,
        fences_only_grow_whatever_happens;
    listing:
        pages_come_oldest_first_and_end,
        a_page_holds_one_to_a_thousand,
        each_filter_holds,
        a_lapsed_claim_is_listed_as_unknown,
        a_summary_tells_the_record,
        a_change_moves_no_record_to_another_page;
    keeping:
        a_recipe_has_one_number_for_ever,
        racing_for_a_new_recipe_gives_one_number,
        the_secret_is_the_same_for_every_handle,
        the_time_never_runs_backwards,
        a_corrected_clock_takes_no_time_back,
        a_jump_is_not_followed_until_accepted;
    values:
        large_and_empty_answers_come_back_byte_for_byte,
        large_and_empty_inputs_come_back_byte_for_byte,
        last_errors_come_back_up_to_their_limit,
        headers_come_back_in_order,
        odd_words_name_their_own_operations,
        every_status_comes_back,
        extreme_durations_saturate,
        far_times_work;
    races:
        of_many_racers_one_wins,
        a_racing_repetition_never_loses_to_itself,
        of_many_takeovers_one_wins,
        racers_on_other_keys_all_win,
        a_finish_and_a_takeover_exclude_each_other,
        a_sweep_never_takes_a_claim_away,
        forgetting_never_takes_a_claim_away,
        many_finishes_of_one_run_agree;
    queue:
        an_enqueued_operation_waits_with_its_input,
        an_enqueue_is_answered_the_same_again,
        an_enqueue_in_every_state_does_as_the_core_says,
        input_is_kept_until_it_is_done,
        work_is_taken_when_it_is_due_and_once,
        the_longest_due_is_taken_first_and_no_more_than_asked,
        only_names_that_are_asked_for_are_taken,
        a_take_in_every_state_does_as_the_core_says,
        a_take_that_resolves_does_as_the_core_says,
        a_take_in_solitude_does_as_the_core_says,
        a_release_without_effect_gives_the_systems_try_back,
        three_crashes_are_poison_and_bystanders_end_done,
        a_take_is_answered_the_same_again,
        an_unknown_outcome_is_given_to_resolve_and_left_alone_meanwhile;
    groups:
        only_the_oldest_of_a_group_that_is_not_done_is_started,
        what_is_dead_or_unknown_holds_up_its_group,
        whoever_is_done_wakes_the_next_of_its_group,
        whoever_is_closed_by_hand_wakes_the_next_of_its_group,
        a_take_is_bounded_however_many_wait_for_their_turn,
        a_group_is_kept_as_it_was_made,
        a_group_is_listed_by_age,
        a_claims_input_is_what_a_runner_takes_over_with,
        a_compensation_that_has_begun_ends_redrives,
        a_raised_fence_is_never_given_out_again,
        raising_a_fence_never_lowers_one;
    amending:
        each_amendment_in_every_state_does_as_the_core_says,
        not_done_counts_once_it_is_settled,
        a_stale_attempt_finishes_nothing_after_an_amendment,
        a_redriven_operation_runs_again_with_all_its_tries,
        the_audit_comes_in_pages_and_outlives_its_records,
        the_audit_keeps_odd_words;
    census:
        the_census_counts_what_is_not_settled,
        the_census_knows_the_longest_due;
    group_races:
        a_line_moves_on_under_many_takers,
        fences_stay_unique_while_they_are_raised;
    queue_races:
        many_takers_take_each_record_once,
        of_many_resolvers_one_is_asked,
        a_take_and_an_arrival_exclude_each_other,
        a_take_and_a_late_finish_exclude_each_other,
        of_many_enqueues_one_is_accepted,
        an_enqueue_and_an_arrival_agree,
        a_redrive_and_a_late_finish_exclude_each_other,
        a_resolution_and_a_late_finish_exclude_each_other,
        a_sweep_and_a_redrive_exclude_each_other;
    durability:
        everything_is_there_after_reopening,
        what_is_laid_taken_and_amended_is_there_after_reopening,
        a_reopened_store_goes_on;
}
