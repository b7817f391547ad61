//! The head of an answer on its way in.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, VIA};
use http::{Response, StatusCode};
use httparse::{ParserConfig, Status};

use super::headers::{is_hop_by_hop, names_in};
use crate::gateway::framing::chunked::Chunked;
use crate::gateway::framing::head::{decimal, trimmed};
use crate::gateway::limits::UpstreamLimits;

/// Most header fields of an answer.
const MAX_FIELDS: usize = 100;

/// How the end of an answer's body is found.
#[derive(Debug)]
pub(super) enum Incoming {
    Sized(u64),
    Chunked(Chunked),
    UntilClose,
}

/// The head of a final answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) incoming: Incoming,
    /// Whether the connection may serve another request.
    pub(super) is_kept: bool,
}

/// Where name and value of a field are in the head.
type Field = [u32; 4];

/// The positions of a head, found while the buffer was only looked at.
struct Parsed {
    len: usize,
    is_http11: bool,
    status: u16,
    count: usize,
}

/// Takes the head of a final answer off `read`; `None` if it is not all there yet. Interim answers
/// are dropped.
///
/// # Errors
/// What is wrong with it.
pub(super) fn take_head(
    read: &mut BytesMut,
    is_to_head: bool,
    limits: &UpstreamLimits,
) -> Result<Option<Head>, &'static str> {
    // Asked before there is anything, so before the space for fields is made.
    if read.is_empty() {
        return Ok(None);
    }
    let mut fields = [[0; 4]; MAX_FIELDS];
    loop {
        let Some(parsed) = parse(read, &mut fields)? else {
            return if read.len() > limits.max_head_bytes {
                Err("its head is longer than max_head_bytes")
            } else {
                Ok(None)
            };
        };
        let head = read.split_to(parsed.len).freeze();
        match parsed.status {
            101 => return Err("101 without an Upgrade in the request"),
            100..200 => {}
            _ => return build(&head, &parsed, &fields[..parsed.count], is_to_head, limits).map(Some),
        }
    }
}

fn parse(read: &[u8], fields: &mut [Field; MAX_FIELDS]) -> Result<Option<Parsed>, &'static str> {
    let mut space = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let status = ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, read, &mut space)
        .map_err(|error| match error {
            httparse::Error::HeaderName => "a header's name is invalid",
            httparse::Error::HeaderValue => "a header's value is invalid",
            httparse::Error::TooManyHeaders => "it has more than 100 headers",
            _ => "its head is not HTTP/1.1",
        })?;
    let Status::Complete(len) = status else {
        return Ok(None);
    };
    for (field, header) in fields.iter_mut().zip(response.headers.iter()) {
        // Within a head of at most some megabytes.
        let position = |part: &[u8]| (part.as_ptr() as usize - read.as_ptr() as usize) as u32;
        let (name, value) = (header.name.as_bytes(), header.value);
        let (name_at, value_at) = (position(name), position(value));
        *field = [
            name_at,
            name_at + name.len() as u32,
            value_at,
            value_at + value.len() as u32,
        ];
    }
    Ok(Some(Parsed {
        len,
        is_http11: response.version == Some(1),
        status: response.code.unwrap_or(0),
        count: response.headers.len(),
    }))
}

fn build(
    head: &Bytes,
    parsed: &Parsed,
    fields: &[Field],
    is_to_head: bool,
    limits: &UpstreamLimits,
) -> Result<Head, &'static str> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(parsed.status).map_err(|_| "its status is not one")?;
    let mut length = None;
    let mut is_chunked = false;
    let mut connection: Vec<HeaderValue> = Vec::new();
    let headers = response.headers_mut();
    headers.reserve(fields.len());
    for [name_from, name_to, value_from, value_to] in fields.iter().map(|f| f.map(|at| at as usize)) {
        let name = HeaderName::from_bytes(&head[name_from..name_to]).map_err(|_| "a header's name is invalid")?;
        let value = HeaderValue::from_maybe_shared(head.slice(value_from..value_to))
            .map_err(|_| "a header's value is invalid")?;
        match name.as_str() {
            "content-length" => {
                let new = decimal(trimmed(value.as_bytes())).ok_or("its Content-Length is not a number")?;
                if length.replace(new).is_some() {
                    return Err("it has more than one Content-Length");
                }
            }
            "transfer-encoding" => {
                if is_chunked || !trimmed(value.as_bytes()).eq_ignore_ascii_case(b"chunked") {
                    return Err("its Transfer-Encoding is not exactly 'chunked'");
                }
                is_chunked = true;
                continue;
            }
            "connection" => {
                connection.push(value);
                continue;
            }
            name if is_hop_by_hop(name) || name.starts_with("hapax-") => continue,
            _ => {}
        }
        headers.append(name, value);
    }
    let is_kept = parsed.is_http11 && !drop_named(headers, &connection);
    if limits.via {
        headers.append(VIA, HeaderValue::from_static("1.1 hapax"));
    }
    if is_chunked && (length.is_some() || !parsed.is_http11) {
        return Err("its Transfer-Encoding stands beside a Content-Length, or in HTTP/1.0");
    }
    let has_no_body = is_to_head || matches!(parsed.status, 204 | 304);
    let incoming = match length {
        _ if has_no_body => Incoming::Sized(0),
        _ if is_chunked => Incoming::Chunked(Chunked::new()),
        Some(length) => Incoming::Sized(length),
        None => Incoming::UntilClose,
    };
    Ok(Head {
        response,
        incoming,
        is_kept,
    })
}

/// Removes what `Connection` names; says whether it says `close`.
fn drop_named(headers: &mut HeaderMap, connection: &[HeaderValue]) -> bool {
    if connection.is_empty() {
        return false;
    }
    for name in names_in(connection.iter()) {
        if name != CONNECTION {
            headers.remove(name);
        }
    }
    connection.iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}
