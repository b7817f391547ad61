//! What transactions on PostgreSQL have in common, whichever driver carries them.

use std::fmt::Write;

use hapax_store::joined::{Fault, JointError};

use super::bounds::Bounds;
use super::database::NotClosed;

/// Where a rejected run goes back to.
pub(super) const UNDO: &str = "ROLLBACK TO SAVEPOINT hapax";

/// Begins with its bounds. `claim`: the claim comes next, and waits no longer for a lock than it may.
pub(super) fn begin(bounds: &Bounds, claim: bool) -> String {
    let lock = if claim { bounds.claim } else { bounds.lock };
    let mut text = String::with_capacity(320);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; \
         SET LOCAL statement_timeout = {}; ",
        lock.as_millis(),
        bounds.idle.as_millis(),
        bounds.longest.as_millis(),
    );
    // Only raised: a session may ask for more than `on`.
    text.push_str(
        "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
    );
    text
}

/// Ends the claim and begins what may be undone.
pub(super) fn after_claim(bounds: &Bounds) -> String {
    format!("SET LOCAL lock_timeout = {}; SAVEPOINT hapax", bounds.lock.as_millis())
}

/// What a commit that answered with an error comes to. Only an answer that says why it was rolled back proves that it
/// was: a constraint, or a conflict.
pub(super) fn not_committed(error: JointError, sqlstate: Option<&str>) -> NotClosed {
    let proof = sqlstate.is_some_and(|code| code.starts_with("23") || code.starts_with("40"));
    if proof && sqlstate != Some("40003") {
        NotClosed::RolledBack(error)
    } else {
        NotClosed::Unknown(error)
    }
}

/// Whether another transaction has the operation.
pub(super) fn is_taken(error: &JointError) -> bool {
    error.fault() == Fault::Busy
}
