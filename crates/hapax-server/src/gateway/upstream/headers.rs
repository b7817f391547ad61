//! The headers of requests on their way out and of answers on their way in.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, Request, Response, Uri, Version};
use http_body::Body as _;

use super::Target;
use crate::gateway::body::Body;
use crate::gateway::limits::{HostPolicy, UpstreamLimits};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const VIA_HAPAX: HeaderValue = HeaderValue::from_static("1.1 hapax");

/// Makes a request fit to be sent: origin form, HTTP/1.1, own framing, no hop-by-hop headers.
pub(super) fn prepare(request: &mut Request<Body>, target: &Target, limits: &UpstreamLimits) {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_some() {
        *request.uri_mut() = origin_form(request.uri());
    }
    let had_length = request.headers().contains_key(CONTENT_LENGTH);
    let exact = request.body().size_hint().exact();
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    // Expect was answered here; the length is hyper's to write, from the body.
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
    match exact {
        // hyper writes no length for an empty body, and absent is not the same as empty.
        Some(0) if had_length => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        // hyper would drop the body of a GET without a length.
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(_) => {}
    }
    if limits.host == HostPolicy::Upstream || !headers.contains_key(HOST) {
        headers.insert(HOST, target.host_header().clone());
    }
    if limits.via {
        headers.append(VIA, VIA_HAPAX);
    }
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query()
        .cloned()
        .map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// Cleans an answer.
///
/// # Errors
/// What makes its framing ambiguous, or an answer to something that was not asked.
pub(super) fn clean<B>(response: &mut Response<B>, limits: &UpstreamLimits) -> Result<(), &'static str> {
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err("101 without an Upgrade in the request");
    }
    // The listener speaks its own version to the client.
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err("both Transfer-Encoding and Content-Length");
    }
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err("more than one Content-Length");
    }
    strip_hop_by_hop(headers);
    strip_hapax(headers);
    if limits.via {
        headers.append(VIA, VIA_HAPAX);
    }
    Ok(())
}

/// Removes all `Hapax-*` headers.
pub(crate) fn strip_hapax(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| name.as_str().starts_with("hapax-")) {
        let name = name.clone();
        headers.remove(name);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        // Taken out first, so that the loop ends even if Connection names itself.
        for value in take_all(headers, CONNECTION) {
            for name in value.as_bytes().split(|byte| *byte == b',') {
                if let Ok(name) = HeaderName::from_bytes(name.trim_ascii()) {
                    headers.remove(name);
                }
            }
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

fn take_all(headers: &mut HeaderMap, name: HeaderName) -> Vec<HeaderValue> {
    let values = headers.get_all(&name).iter().cloned().collect();
    headers.remove(name);
    values
}
