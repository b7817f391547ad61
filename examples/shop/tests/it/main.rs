//! The shop over a real socket, and the ledger on the file that it leaves.

// Helpers of tests fail the test by panicking, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod endings;
mod oracle;
mod program;
mod world;
