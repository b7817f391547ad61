//! What became of a request, for the access log.

use std::time::Duration;

use hapax_core::{Name, OperationId};

use super::problem::Problem;
use super::quota::QuotaLimit;

/// What became of a request: found in the extensions of every answer that did not merely pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The route.
    pub route: Option<Name>,
    /// The operation, once it is known which.
    pub operation: Option<OperationId>,
    /// What became of it.
    pub verdict: Verdict,
    /// Time between the arrival (with its whole body) and the start of the run or the refusal: the claim, and the wait
    /// for a run in progress.
    pub waited: Duration,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It ran and is done.
    Done,
    /// It ran and had no effect.
    Released,
    /// It ran and may have had its effect.
    Ambiguous,
    /// A duplicate got the first answer.
    Replayed,
    /// A duplicate got the answer of a failure: the operation is dead, or (`stripe`) its outcome unknown.
    Repeated,
    /// It ran without protection, since the store was down.
    Unprotected,
    /// It is stored, and a runner runs it.
    Accepted,
    /// It would have run, but the breaker leaves the inner service alone.
    BreakerOpen,
    /// It would have run, but its scope has taken all that it may.
    OverQuota(QuotaLimit),
    /// A question about an operation was answered.
    Status,
    /// It was refused.
    Refused(Problem),
}

impl Verdict {
    /// The word for it: the problem's name where it was refused, the limit's where that is known.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Released => "released",
            Self::Ambiguous => "ambiguous",
            Self::Replayed => "replayed",
            Self::Repeated => "repeated",
            Self::Unprotected => "unprotected",
            Self::Accepted => "accepted",
            Self::BreakerOpen => "breaker-open",
            Self::OverQuota(limit) => limit.as_str(),
            Self::Status => "status",
            Self::Refused(problem) => problem.name(),
        }
    }
}
