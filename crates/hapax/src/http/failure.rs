//! What a failure proves.
//!
//! | the inner service… | proves |
//! |---|---|
//! | answered 2xx, 3xx, 4xx, or a status that the route calls final | it happened |
//! | answered a status without effect; 503 with `Retry-After`; or failed before anything was sent | it did not |
//! | answered anything else, timed out, or broke off | nothing |

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use hapax_core::Timestamp;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::problem::{Details, Problem};

/// What an error of the inner service proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Nothing of the request left: it had no effect.
    Unsent,
    /// It may have had its effect; no answer came in time.
    TimedOut,
    /// It may have had its effect; the answer broke off, or never came.
    Reset,
}

/// An error of an inner service.
pub trait Failure {
    /// What it proves. If in doubt, [`Proof::Reset`].
    fn proof(&self) -> Proof;

    /// What the record keeps of it, for people: short, and the same for all failures of one kind, such as
    /// `connection refused: 10.0.0.7:9000`. Callers never see it.
    fn last_error(&self) -> String {
        match self.proof() {
            Proof::Unsent => "nothing could be sent",
            Proof::TimedOut => "timed out",
            Proof::Reset => "connection reset",
        }
        .to_owned()
    }
}

impl Failure for Infallible {
    fn proof(&self) -> Proof {
        match *self {}
    }
}

/// Nothing is known of it.
impl Failure for Box<dyn Error + Send + Sync> {
    fn proof(&self) -> Proof {
        Proof::Reset
    }
}

impl Proof {
    /// What the caller of the failed run is told.
    #[must_use]
    pub fn details(self) -> Details {
        match self {
            Self::Unsent => Details::new(
                Problem::UpstreamUnavailable,
                "The service behind could not be reached and nothing ran. Send the same request again later, with the \
                 same key.",
            )
            .retry_after(UNAVAILABLE),
            Self::TimedOut => Details::new(
                Problem::UpstreamTimeout,
                "The service behind did not answer in time; whether it did what was asked is not known. Ask again with \
                 the same key to learn what became of it; do not send it with a new key.",
            ),
            Self::Reset => Details::new(
                Problem::UpstreamReset,
                "The service behind ended without a whole answer; whether it did what was asked is not known. Ask again \
                 with the same key to learn what became of it; do not send it with a new key.",
            ),
        }
    }
}

const UNAVAILABLE: Duration = Duration::from_secs(1);

/// The longest `Retry-After` that is believed (1 h): a wrong one would close the key for as long.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What an answer proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It happened.
    Final,
    /// It did not happen; it may be asked for again after this time.
    NoEffect { after: Duration },
    /// It may have happened.
    Ambiguous { after: Duration },
}

/// What statuses mean on a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statuses {
    /// Had no effect.
    pub(super) no_effect: Vec<StatusCode>,
    /// Are final beside 2xx, 3xx and 4xx, and before `no_effect`.
    pub(super) finals: Vec<StatusCode>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self {
            no_effect: vec![
                StatusCode::UNAUTHORIZED,
                StatusCode::FORBIDDEN,
                StatusCode::REQUEST_TIMEOUT,
                StatusCode::TOO_EARLY,
                StatusCode::TOO_MANY_REQUESTS,
            ],
            finals: Vec::new(),
        }
    }
}

impl Statuses {
    pub(super) fn meaning(&self, status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Meaning {
        if self.finals.contains(&status) {
            return Meaning::Final;
        }
        let named = retry_after(headers, now);
        let after = named.unwrap_or_default();
        if self.no_effect.contains(&status) || (status == StatusCode::SERVICE_UNAVAILABLE && named.is_some()) {
            return Meaning::NoEffect { after };
        }
        match status.as_u16() {
            200..=499 => Meaning::Final,
            _ => Meaning::Ambiguous { after },
        }
    }
}

/// The time that a `Retry-After` names, as seconds or as a date; bounded. `None` if there is none or it is malformed.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        date_of(text)?.since(now)
    };
    Some(after.min(MAX_RETRY_AFTER))
}

/// An HTTP date.
pub(crate) fn date_of(text: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(text).ok()?;
    let since_epoch = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(hapax_core::time::millis(since_epoch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(784_111_777_000);

    fn headers(retry_after: Option<&'static str>) -> HeaderMap {
        retry_after
            .map(|value| (RETRY_AFTER, value.parse().unwrap()))
            .into_iter()
            .collect()
    }

    fn meaning(statuses: &Statuses, status: u16, retry_after: Option<&'static str>) -> Meaning {
        statuses.meaning(StatusCode::from_u16(status).unwrap(), &headers(retry_after), NOW)
    }

    #[test]
    fn a_status_proves_what_it_proves() {
        let statuses = Statuses::default();
        for status in [200, 201, 204, 301, 304, 400, 404, 409, 422, 499] {
            assert_eq!(meaning(&statuses, status, None), Meaning::Final, "{status}");
        }
        let after = Duration::ZERO;
        for status in [401, 403, 408, 425, 429] {
            assert_eq!(
                meaning(&statuses, status, None),
                Meaning::NoEffect { after },
                "{status}"
            );
        }
        for status in [101, 103, 500, 501, 502, 503, 504, 599, 600, 999] {
            assert_eq!(
                meaning(&statuses, status, None),
                Meaning::Ambiguous { after },
                "{status}"
            );
        }
        let after = Duration::from_secs(7);
        assert_eq!(meaning(&statuses, 503, Some("7")), Meaning::NoEffect { after });
        assert_eq!(meaning(&statuses, 500, Some("7")), Meaning::Ambiguous { after });
        assert_eq!(meaning(&statuses, 429, Some("7")), Meaning::NoEffect { after });
        assert_eq!(meaning(&statuses, 404, Some("7")), Meaning::Final);
    }

    #[test]
    fn a_route_can_say_otherwise() {
        let statuses = Statuses {
            no_effect: vec![StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY],
            finals: vec![StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_GATEWAY],
        };
        let after = Duration::ZERO;
        assert_eq!(meaning(&statuses, 503, None), Meaning::NoEffect { after });
        assert_eq!(meaning(&statuses, 500, Some("1")), Meaning::Final);
        assert_eq!(meaning(&statuses, 502, None), Meaning::Final, "final goes first");
        assert_eq!(
            meaning(&statuses, 429, None),
            Meaning::Final,
            "the list replaces the default"
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("7200", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:30 GMT", Some(3600)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(
                retry_after(&headers(Some(text)), NOW),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
        assert_eq!(retry_after(&headers(None), NOW), None);
    }
}
