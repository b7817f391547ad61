//! Random histories: a store must answer each step as the reference model does.
//!
//! Numbers that may differ between stores (fences, recipes) are compared by the order in which they were given out.
//! A failing history is shrunk, printed, and its seed kept in the caller's file of regressions.

mod side;
mod steps;

use std::sync::Arc;

use hapax_core::Timestamp;
use hapax_store::MemoryStore;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

pub use steps::{Change, Ending, Step, Ways, steps};

use crate::conformance::{Backend, Failure, block_on};
use crate::time::MadeTime;
use side::Side;

/// Runs a history on the model and on a store, through two handles of it in turn.
///
/// # Errors
/// The first step that the store answered otherwise than the model.
pub async fn compare(backend: &dyn Backend, steps: &[Step]) -> Result<(), Failure> {
    let time = MadeTime::new(Timestamp::from_millis(1_800_000_000_000));
    let model = Arc::new(MemoryStore::new(time.clock(), [1; 32]));
    let mut model = Side::new(vec![model]).await?;
    let handles = vec![backend.open(time.clock()).await?, backend.open(time.clock()).await?];
    let mut store = Side::new(handles).await?;
    for (number, step) in steps.iter().enumerate() {
        if let Step::Pass(duration) = step {
            time.pass(*duration);
            continue;
        }
        let expected = model.step(step).await?;
        let got = store.step(step).await?;
        if got != expected {
            let text = format!("step {number}, {step:?}:\n  the model says {expected:?}\n  the store says {got:?}");
            return Err(Failure(text));
        }
    }
    Ok(())
}

/// Runs `cases` random histories, each on an empty backend from `make`. `regressions` is the file of failing seeds,
/// which are tried first.
///
/// # Errors
/// The smallest failing history found.
pub fn run<B: Backend>(cases: u32, regressions: &'static str, make: impl Fn() -> B) -> Result<(), Failure> {
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_iters: 5_000,
        ..Config::default()
    };
    search(config, make)
}

/// The same with one seed and without a file: for canaries, which fail on purpose.
///
/// # Errors
/// The smallest failing history found.
pub fn run_seeded<B: Backend>(cases: u32, seed: u64, make: impl Fn() -> B) -> Result<(), Failure> {
    let config = Config {
        cases,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(seed),
        max_shrink_iters: 500,
        ..Config::default()
    };
    search(config, make)
}

fn search<B: Backend>(config: Config, make: impl Fn() -> B) -> Result<(), Failure> {
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        let backend = make();
        block_on(compare(&backend, &steps)).map_err(|failure| TestCaseError::fail(failure.0))
    });
    outcome.map_err(|error| Failure(error.to_string()))
}
