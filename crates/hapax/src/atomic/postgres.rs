//! What transactions on PostgreSQL have in common, whichever driver carries them.

use std::time::Duration;

use hapax_store::joined::{Fault, JointError};

use super::bounds::Bounds;
use super::database::NotClosed;

/// Where a rejected run goes back to.
pub(super) const UNDO: &str = "ROLLBACK TO SAVEPOINT hapax";

/// Begins with its bounds.
pub(super) fn begin(bounds: &Bounds, lock: Duration) -> String {
    format!("BEGIN; {}", settings(bounds, lock))
}

/// What bounds the transaction, in one statement, which costs the server less than one for each. `synchronous_commit`
/// is only raised: a session may ask for more than `on`.
pub(super) fn settings(bounds: &Bounds, lock: Duration) -> String {
    format!(
        "SELECT set_config('lock_timeout', '{}', true), \
         set_config('idle_in_transaction_session_timeout', '{}', true), \
         set_config('statement_timeout', '{}', true), \
         CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END",
        lock.as_millis(),
        bounds.idle.as_millis(),
        bounds.longest.as_millis(),
    )
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
