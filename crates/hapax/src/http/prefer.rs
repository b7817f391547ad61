//! `Prefer: wait=N` and `Prefer: respond-async` (RFC 7240): how long a caller would wait, if at all.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::key::tokens;

pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long a duplicate waits: `default`, or what the caller prefers within `longest`. The first preference counts.
pub(super) fn wait(headers: &HeaderMap, default: Duration, longest: Duration) -> Duration {
    let preferred = tokens(headers, &PREFER).find_map(seconds);
    preferred.map_or(default, |seconds| Duration::from_secs(seconds).min(longest))
}

/// The seconds of a `wait` preference, parameters aside.
fn seconds(token: &[u8]) -> Option<u64> {
    let preference = std::str::from_utf8(token).ok()?.split(';').next()?;
    let (name, value) = preference.split_once('=')?;
    let value = value.trim().trim_matches('"');
    name.trim()
        .eq_ignore_ascii_case("wait")
        .then(|| value.parse().ok())
        .flatten()
}

/// Whether the caller would rather have its answer later.
pub(super) fn respond_async(headers: &HeaderMap) -> bool {
    tokens(headers, &PREFER).any(|token| name(token).eq_ignore_ascii_case(b"respond-async"))
}

/// A field's preferences but for those that speak of how long to wait; `None` if nothing is left.
pub(super) fn without_async(value: &HeaderValue) -> Option<Bytes> {
    let ours = [&b"respond-async"[..], b"wait"];
    let others: Vec<_> = value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty() && !ours.iter().any(|one| name(token).eq_ignore_ascii_case(one)))
        .collect();
    (!others.is_empty()).then(|| others.join(&b", "[..]).into())
}

/// The preference's name, its value and parameters aside.
fn name(token: &[u8]) -> &[u8] {
    let end = token.iter().position(|byte| matches!(byte, b'=' | b';'));
    token[..end.unwrap_or(token.len())].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_can_ask_for_its_answer_later() {
        for (field, later, rest) in [
            ("respond-async", true, None),
            ("Respond-Async; a=b , wait=5", true, None),
            ("return=minimal, respond-async=\"\"", true, Some("return=minimal")),
            (
                "handling=lenient, respond-asynchronously",
                false,
                Some("handling=lenient, respond-asynchronously"),
            ),
            ("return=respond-async", false, Some("return=respond-async")),
            (", ,", false, None),
        ] {
            let value: HeaderValue = field.parse().unwrap();
            let headers = [(PREFER, value.clone())].into_iter().collect();
            assert_eq!(respond_async(&headers), later, "{field}");
            assert_eq!(without_async(&value).as_deref(), rest.map(str::as_bytes), "{field}");
        }
    }

    #[test]
    fn a_caller_can_wait_shorter_or_longer_within_the_limit() {
        for (fields, waits) in [
            (&[][..], 5),
            (&["wait=0"], 0),
            (&["wait=7"], 7),
            (&["respond-async, Wait = \"8\"; x=y"], 8),
            (&["return=minimal", "wait=9, wait=10"], 9),
            (&["wait=31"], 30),
            (&["wait=18446744073709551615"], 30),
            (&["wait=18446744073709551616"], 5),
            (&["wait=-1"], 5),
            (&["wait=1.5"], 5),
            (&["wait"], 5),
            (&["waits=1"], 5),
        ] {
            let headers = fields.iter().map(|field| (PREFER, field.parse().unwrap())).collect();
            let wait = wait(&headers, Duration::from_secs(5), Duration::from_secs(30));
            assert_eq!(wait.as_secs(), waits, "{fields:?}");
        }
    }
}
