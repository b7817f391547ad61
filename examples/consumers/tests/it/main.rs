//! The consumers as a user runs them.

// Helpers of tests fail the test by panicking, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod plan;
mod stage;
mod storm;
mod verdict;
