//! The request headers by which a test orders a delay or a failure. They are headers and not
//! parameters, so that a retry without the failure is still the same request to a fingerprint.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::input::Problem;

const MAX_BODY_BYTES: usize = 1 << 30;

/// What one request asks to go wrong; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Knobs {
    pub(crate) delay_before: Duration,
    pub(crate) delay_after: Duration,
    pub(crate) fail: Option<Fail>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fail {
    /// Nothing is committed.
    Before(Ending),
    /// The effect is committed, and this is all that its client sees.
    After(Ending),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Status(StatusCode),
    /// 503 with `Retry-After: 1`.
    RetryAfter,
    /// A TCP reset without a byte of an answer.
    Reset,
    /// A complete head, half of the announced body, then the end of the connection.
    Cut,
    /// The usual answer, padded to this many bytes, with a `Content-Length`.
    Big(usize),
    /// The usual answer in chunks, without a `Content-Length`: this many bytes, or endless.
    Stream(Option<usize>),
}

impl Knobs {
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Knobs, Problem> {
        Ok(Knobs {
            delay_before: delay(headers, "x-shop-delay")?,
            delay_after: delay(headers, "x-shop-delay-after")?,
            fail: match headers.get("x-shop-fail") {
                None => None,
                Some(value) => {
                    let fail = value.to_str().ok().and_then(fail);
                    Some(fail.ok_or_else(|| bad("x-shop-fail", "see the README of the shop"))?)
                }
            },
        })
    }
}

fn delay(headers: &HeaderMap, name: &str) -> Result<Duration, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(Duration::ZERO);
    };
    let parsed = value.to_str().ok().and_then(|value| match value.strip_suffix("ms") {
        Some(ms) => ms.parse().ok().map(Duration::from_millis),
        None => value.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    });
    parsed.ok_or_else(|| bad(name, "write it like 200ms or 5s"))
}

fn fail(value: &str) -> Option<Fail> {
    match value.split_once(':').unwrap_or((value, "")) {
        ("503-retry-after", "") => Some(Fail::Before(Ending::RetryAfter)),
        ("cut", "") => Some(Fail::After(Ending::Cut)),
        ("big", size) => Some(Fail::After(Ending::Big(bytes(size)?))),
        ("stream", "") => Some(Fail::After(Ending::Stream(None))),
        ("stream", size) => Some(Fail::After(Ending::Stream(Some(bytes(size)?)))),
        (ending, "") => {
            let (ending, when) = ending.split_once('-')?;
            let ending = match ending {
                "reset" => Ending::Reset,
                status => Ending::Status(final_status(status)?),
            };
            match when {
                "before" => Some(Fail::Before(ending)),
                "after" => Some(Fail::After(ending)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn final_status(status: &str) -> Option<StatusCode> {
    let status: StatusCode = status.parse().ok()?;
    (200..600).contains(&status.as_u16()).then_some(status)
}

fn bytes(size: &str) -> Option<usize> {
    let (number, unit) = match size.split_once(|c: char| !c.is_ascii_digit()) {
        None => (size, 1),
        Some((number, "iB")) if size.contains('K') => (number, 1 << 10),
        Some((number, "iB")) if size.contains('M') => (number, 1 << 20),
        Some(_) => return None,
    };
    let bytes = number.parse::<usize>().ok()?.checked_mul(unit)?;
    (bytes <= MAX_BODY_BYTES).then_some(bytes)
}

fn bad(header: &str, advice: &str) -> Problem {
    Problem::new(400, "bad-knob", format!("{header} is not understood; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_fail_is_read() {
        let status = |code| Ending::Status(StatusCode::from_u16(code).unwrap());
        let table = [
            ("500-before", Some(Fail::Before(status(500)))),
            ("500-after", Some(Fail::After(status(500)))),
            ("204-after", Some(Fail::After(status(204)))),
            ("503-retry-after", Some(Fail::Before(Ending::RetryAfter))),
            ("reset-before", Some(Fail::Before(Ending::Reset))),
            ("reset-after", Some(Fail::After(Ending::Reset))),
            ("cut", Some(Fail::After(Ending::Cut))),
            ("big:1048577", Some(Fail::After(Ending::Big(1_048_577)))),
            ("big:2MiB", Some(Fail::After(Ending::Big(2 << 20)))),
            ("stream", Some(Fail::After(Ending::Stream(None)))),
            ("stream:64KiB", Some(Fail::After(Ending::Stream(Some(64 << 10))))),
            ("", None),
            ("500", None),
            ("500-sometimes", None),
            ("100-after", None),
            ("600-after", None),
            ("big", None),
            ("big:", None),
            ("big:-1", None),
            ("big:1GiB", None),
            ("big:2000000000", None),
            ("cut:5", None),
            ("reset-after:5", None),
        ];
        for (value, expected) in table {
            assert_eq!(fail(value), expected, "{value}");
        }
    }
}
