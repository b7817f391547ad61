//! The contract's steps in callers' own transactions, with every driver.

mod postgres;
mod sqlite;

use std::sync::Arc;

use hapax_check::conformance;
use hapax_check::conformance::joined::{JoinedBackend, Place};
use hapax_check::history;
use hapax_store::joined::{Fault, JointError};

/// Of a driver's error.
fn explain(error: impl std::error::Error + Send + Sync + 'static) -> JointError {
    let fault = Fault::of(&error);
    JointError::new(fault, hapax_core::StoreErrorKind::Unavailable, error.to_string()).caused_by(error)
}

/// The cases of the stores' suite with these words in their names.
#[track_caller]
fn check_suite(words: &[&str], place: impl Fn() -> Arc<dyn Place>) {
    let concerned = |case: &&conformance::Case| words.iter().any(|word| case.name.contains(word));
    let cases: Vec<_> = conformance::CASES.iter().filter(concerned).collect();
    assert!(cases.len() >= 3, "only {} cases", cases.len());
    for case in cases {
        conformance::check(case.name, JoinedBackend::new(place()));
    }
}

/// What is about the steps in transactions.
const STEPS: &[&str] = &[
    "claim",
    "finish",
    "enqueue",
    "come_back",
    "arrival",
    "lapse",
    "replayed",
    "runs_again",
];
/// What is about how a driver carries values.
const VALUES: &[&str] = &["come_back", "odd_words", "replayed"];

#[track_caller]
fn check_histories(cases: u32, regressions: &'static str, place: impl Fn() -> Arc<dyn Place>) {
    if let Err(failure) = history::run(cases, regressions, || JoinedBackend::new(place())) {
        panic!("{failure}");
    }
}
