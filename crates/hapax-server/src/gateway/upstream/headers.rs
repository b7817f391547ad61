//! Headers that belong to one connection only, or to hapax itself.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Whether a header (in lower case) is about one connection or one message's framing, whatever
/// `Connection` says (RFC 9110 §7.6.1).
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}

/// The headers that these `Connection` values name.
pub(super) fn names_in<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Vec<HeaderName> {
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // These are not the names of headers.
        .filter(|name| !matches!(name.as_str(), "keep-alive" | "close"))
        .collect()
}

/// Removes all `Hapax-*` headers.
pub(crate) fn strip_hapax(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| name.as_str().starts_with("hapax-")) {
        let name = name.clone();
        headers.remove(name);
    }
}
