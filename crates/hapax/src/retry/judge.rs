//! What an answer to an outgoing request proves.

use std::time::Duration;

use hapax_core::policy::{FailureClass, Health};
use hapax_store::Clock;
use http::header::DATE;
use http::{HeaderMap, Method, StatusCode};

use crate::http::failure::{date_of, retry_after};

/// What an answer proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// What it proves; [`FailureClass::Final`] for all that no retry can change, successes included.
    pub class: FailureClass,
    /// The time that it names.
    pub retry_after: Option<Duration>,
    /// What it says about whoever gave it.
    pub health: Health,
}

/// Judges an answer.
///
/// 429, and 503 with `Retry-After`, are throttled; 408 and 425 say that nothing was done; every other 2xx, 3xx and 4xx
/// is final; the rest may have happened. Whoever answers 4xx is alive. A method that is safe leaves no doubt, since it
/// changes nothing.
///
/// ```
/// use hapax::core::policy::FailureClass;
/// use hapax::retry::judge;
/// use http::{HeaderMap, Method, StatusCode};
///
/// let class = |method, status| judge(&method, status, &HeaderMap::new()).class;
/// assert_eq!(class(Method::POST, StatusCode::BAD_GATEWAY), FailureClass::Ambiguous);
/// assert_eq!(class(Method::GET, StatusCode::BAD_GATEWAY), FailureClass::Unsent);
/// assert_eq!(class(Method::POST, StatusCode::TOO_MANY_REQUESTS), FailureClass::Throttled);
/// ```
#[must_use]
pub fn judge(method: &Method, status: StatusCode, headers: &HeaderMap) -> Judgement {
    let retry_after = named_pause(headers);
    let class = match status {
        StatusCode::TOO_MANY_REQUESTS => FailureClass::Throttled,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => FailureClass::Unsent,
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => FailureClass::Throttled,
        _ if (200..500).contains(&status.as_u16()) => FailureClass::Final,
        _ => doubt(method),
    };
    Judgement {
        class,
        retry_after,
        health: match status.as_u16() {
            200..500 => Health::Success,
            _ => Health::Failure,
        },
    }
}

/// What a failure proves that leaves open whether it happened.
pub(super) fn doubt(method: &Method) -> FailureClass {
    match method.is_safe() {
        true => FailureClass::Unsent,
        false => FailureClass::Ambiguous,
    }
}

/// A date counts from the answer's own, so that a clock that differs from ours does no harm.
fn named_pause(headers: &HeaderMap) -> Option<Duration> {
    let sent = headers.get(DATE).and_then(|date| date_of(date.to_str().ok()?));
    retry_after(headers, sent.unwrap_or_else(|| Clock::default().reading().0))
}

#[cfg(test)]
mod tests;
