//! A request as it is stored: all that the inner service needs to be asked without its caller.
//!
//! `version, method, target, count of headers, (name, value)…, body`; a length of four bytes before each text. What is
//! of one connection is left out: hop-by-hop headers, the length, `Expect`. `Authorization` and its like stay, since
//! the inner service needs them: that is what [`InputSeal`](super::InputSeal) is for.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use super::key::tokens;
use super::prefer;

const VERSION: u8 = 1;

const OF_ONE_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    CONTENT_LENGTH,
    EXPECT,
];

const OF_ONE_CONNECTION_NAMES: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// A request in the form that is stored.
pub(super) fn encode(parts: &Parts, body: &Bytes) -> Bytes {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut headers: Vec<(&[u8], Bytes)> = kept(&parts.headers).collect();
    // HTTP/2 names the host in the target.
    if let Some(authority) = parts.uri.authority()
        && !parts.headers.contains_key(HOST)
    {
        headers.push((
            HOST.as_str().as_bytes(),
            Bytes::copy_from_slice(authority.as_str().as_bytes()),
        ));
    }
    let mut out = BytesMut::with_capacity(256 + body.len());
    out.put_u8(VERSION);
    put(&mut out, parts.method.as_str().as_bytes());
    put(&mut out, target.as_bytes());
    out.put_u32(length(headers.len()));
    for (name, value) in headers {
        put(&mut out, name);
        put(&mut out, &value);
    }
    put(&mut out, body);
    out.freeze()
}

/// The headers that are stored. The preference that was followed is not the inner service's.
fn kept(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], Bytes)> {
    let named: Vec<&[u8]> = tokens(headers, &CONNECTION).collect();
    headers.iter().filter_map(move |(name, value)| {
        let text = name.as_str();
        let left_out = OF_ONE_CONNECTION.contains(name)
            || OF_ONE_CONNECTION_NAMES.contains(&text)
            || named.iter().any(|token| token.eq_ignore_ascii_case(text.as_bytes()));
        if left_out {
            return None;
        }
        let value = match *name == prefer::PREFER {
            true => prefer::without_async(value)?,
            false => Bytes::copy_from_slice(value.as_bytes()),
        };
        Some((text.as_bytes(), value))
    })
}

/// Limits keep all of it far below this.
fn length(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

fn put(out: &mut BytesMut, text: &[u8]) {
    out.put_u32(length(text.len()));
    out.extend_from_slice(text);
}

/// The request again, with a length.
///
/// # Errors
/// Says what makes no sense.
pub(super) fn decode(mut from: Bytes) -> Result<(Parts, Bytes), &'static str> {
    if from.try_get_u8() != Ok(VERSION) {
        return Err("its version is not known");
    }
    let method = Method::from_bytes(&take(&mut from)?).map_err(|_| "its method is none")?;
    let target = Uri::from_maybe_shared(take(&mut from)?).map_err(|_| "its target is none")?;
    if target.authority().is_some() || !target.path().starts_with('/') {
        return Err("its target is no path");
    }
    let count = from.try_get_u32().map_err(|_| "it ends early")?;
    let mut request = Request::new(());
    let headers = request.headers_mut();
    for _ in 0..count {
        let name = HeaderName::from_bytes(&take(&mut from)?).map_err(|_| "a header has no name")?;
        let value = HeaderValue::from_maybe_shared(take(&mut from)?).map_err(|_| "a header has no value")?;
        headers.try_append(name, value).map_err(|_| "it has too many headers")?;
    }
    let body = take(&mut from)?;
    if !from.is_empty() {
        return Err("it goes on after its end");
    }
    headers.insert(CONTENT_LENGTH, body.len().into());
    *request.method_mut() = method;
    *request.uri_mut() = target;
    Ok((request.into_parts().0, body))
}

fn take(from: &mut Bytes) -> Result<Bytes, &'static str> {
    let length = from.try_get_u32().map_err(|_| "it ends early")? as usize;
    if length > from.len() {
        return Err("it ends early");
    }
    Ok(from.split_to(length))
}

#[cfg(test)]
mod tests;
