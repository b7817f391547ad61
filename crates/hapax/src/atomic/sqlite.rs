//! What transactions on SQLite have in common, whichever driver carries them.

use hapax_store::joined::JointError;

use super::database::NotClosed;

/// What a commit that answered with an error comes to. A constraint or a lock that was not to be had leaves the
/// transaction as it was; a disk that failed leaves nobody the wiser.
pub(super) fn not_committed(error: JointError, code: Option<i32>) -> NotClosed {
    const BUSY: i32 = 5;
    const CONSTRAINT: i32 = 19;
    match code {
        Some(code) if code & 0xff == CONSTRAINT || code & 0xff == BUSY => NotClosed::RolledBack(error),
        _ => NotClosed::Unknown(error),
    }
}
