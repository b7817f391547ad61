//! `Prefer: wait=N` (RFC 7240): how long a caller would wait.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::key::tokens;

const PREFER: HeaderName = HeaderName::from_static("prefer");

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

#[cfg(test)]
mod tests {
    use super::*;

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
