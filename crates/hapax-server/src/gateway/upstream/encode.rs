//! The head of a request on its way out.

use std::io::Write as _;

use http::header::{CONNECTION, HeaderMap};
use http::request::Parts;

use super::Target;
use super::headers::{is_hop_by_hop, names_in};
use crate::gateway::limits::{HostPolicy, UpstreamLimits};

/// How the end of the request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// Nothing is said, since the client said nothing and sent nothing.
    Nothing,
    /// By a length.
    Sized(u64),
    /// By chunks.
    Chunked,
}

/// Writes the head: origin form, HTTP/1.1, framing made from the body (`exact` is its length if
/// that is known), no hop-by-hop header.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    request: &Parts,
    exact: Option<u64>,
    target: &Target,
    limits: &UpstreamLimits,
) -> Outgoing {
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    if path.starts_with('?') {
        out.push(b'/');
    }
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let (has_host, had_length) = write_fields(out, &request.headers, limits);
    if !has_host {
        write_field(out, "host", target.host_header().as_bytes());
    }
    if limits.via {
        write_field(out, "via", b"1.1 hapax");
    }
    let outgoing = match exact {
        Some(0) if !had_length => Outgoing::Nothing,
        Some(len) => Outgoing::Sized(len),
        None => Outgoing::Chunked,
    };
    match outgoing {
        Outgoing::Nothing => {}
        // Writing to memory cannot fail.
        Outgoing::Sized(len) => drop(write!(out, "content-length: {len}\r\n")),
        Outgoing::Chunked => write_field(out, "transfer-encoding", b"chunked"),
    }
    out.extend_from_slice(b"\r\n");
    outgoing
}

/// Writes the fields that may pass; says whether a Host and a Content-Length were among them.
fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap, limits: &UpstreamLimits) -> (bool, bool) {
    let dropped = names_in(headers.get_all(CONNECTION).iter());
    let (mut has_host, mut had_length) = (false, false);
    for (name, value) in headers {
        match name.as_str() {
            "content-length" => {
                had_length = true;
                continue;
            }
            "host" if limits.host == HostPolicy::Upstream => continue,
            "host" => has_host = true,
            // Answered here.
            "expect" => continue,
            name if is_hop_by_hop(name) => continue,
            _ if dropped.contains(name) => continue,
            _ => {}
        }
        write_field(out, name.as_str(), value.as_bytes());
    }
    (has_host, had_length)
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
