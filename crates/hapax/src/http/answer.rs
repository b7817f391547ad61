//! Stored answers: which headers are kept, how a body is captured, and how a stored answer is given again.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hapax_core::Answer;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED, LINK, LOCATION, PROXY_AUTHENTICATE, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

/// Says that an answer is a stored one: `true`.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const KEPT: [HeaderName; 11] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_DISPOSITION,
    CONTENT_LOCATION,
    LOCATION,
    ETAG,
    LAST_MODIFIED,
    LINK,
    CACHE_CONTROL,
    VARY,
];

/// Headers that belong to one message or one caller, and must not come back with a replay.
const NEVER_KEPT: [HeaderName; 12] = [
    SET_COOKIE,
    DATE,
    CONTENT_LENGTH,
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    WWW_AUTHENTICATE,
    PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    IDEMPOTENT_REPLAYED,
];

const NEVER_KEPT_NAMES: [&str; 14] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authentication-info",
    "authentication-info",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-request-id",
    "x-correlation-id",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "uber-trace-id",
    "server-timing",
];

/// Whether a header may be kept if a route asks for it.
pub(super) fn may_be_kept(name: &HeaderName) -> bool {
    let text = name.as_str();
    !NEVER_KEPT.contains(name)
        && !NEVER_KEPT_NAMES.contains(&text)
        && !text.starts_with("hapax-")
        && !text.starts_with("x-b3-")
}

/// The answer as it is stored.
pub(super) fn stored(status: StatusCode, headers: &HeaderMap, also: &[HeaderName], body: Bytes) -> Answer {
    let headers = headers
        .iter()
        .filter(|(name, _)| KEPT.contains(name) || also.contains(name))
        .map(|(name, value)| (Box::from(name.as_str()), Bytes::copy_from_slice(value.as_bytes())))
        .collect();
    Answer {
        status: status.as_u16(),
        headers,
        body,
    }
}

/// A stored answer as a response.
pub(super) fn replayed<B: From<Bytes>>(answer: Answer) -> Response<B> {
    let mut response = Response::new(B::from(answer.body));
    // Only a damaged store gives a status that is none.
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_maybe_shared(value),
        ) {
            headers.append(name, value);
        }
    }
    response
}

/// How much of an answer is captured, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct CaptureLimits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

/// What became of the attempt to capture a body.
pub(super) enum Captured<B: HttpBody> {
    /// It is whole.
    Whole(Bytes, Option<HeaderMap>),
    /// It is too large, too slow, or a stream: what came so far, and the rest.
    Stream([Bytes; 2], B),
    /// It ended with an error.
    Broken(B::Error),
}

/// Captures a body, unless it is too large, takes too long, or is a stream by its type.
pub(super) async fn capture<B>(headers: &HeaderMap, mut body: B, limits: CaptureLimits) -> Captured<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let nothing = || [Bytes::new(), Bytes::new()];
    if is_stream(headers) || body.size_hint().lower() > limits.bytes as u64 {
        return Captured::Stream(nothing(), body);
    }
    let until = Instant::now() + limits.time;
    let mut held = Held::default();
    loop {
        let frame = match timeout_at(until, body.frame()).await {
            Err(_) => return Captured::Stream([held.bytes(), Bytes::new()], body),
            Ok(None) => return Captured::Whole(held.bytes(), None),
            Ok(Some(Err(error))) => return Captured::Broken(error),
            Ok(Some(Ok(frame))) => frame,
        };
        match frame.into_data() {
            Ok(data) if held.len() + data.len() > limits.bytes => {
                return Captured::Stream([held.bytes(), data], body);
            }
            Ok(data) => held.push(data),
            // Trailers are the last frame; a frame of a kind yet unknown has no bytes that could be kept.
            Err(frame) => return Captured::Whole(held.bytes(), frame.into_trailers().ok()),
        }
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    const STREAMS: [&[u8]; 2] = [b"text/event-stream", b"multipart/x-mixed-replace"];
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let essence = value
            .as_bytes()
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        STREAMS.iter().any(|stream| essence.eq_ignore_ascii_case(stream))
    })
}

/// Bytes that came in pieces; one piece is not copied.
#[derive(Default)]
pub(super) struct Held {
    first: Bytes,
    all: BytesMut,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    pub(super) fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if !self.first.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    pub(super) fn bytes(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_headers_are_stored_in_their_order() {
        let response = Response::builder()
            .header("content-type", "text/plain")
            .header("set-cookie", "a=1")
            .header("link", "<1>")
            .header("x-total", "7")
            .header("link", "<2>")
            .header("date", "now")
            .header("www-authenticate", "Basic")
            .header("traceparent", "00-1")
            .body(())
            .unwrap();
        let also = [HeaderName::from_static("x-total")];
        let answer = stored(StatusCode::CREATED, response.headers(), &also, Bytes::from_static(b"b"));
        let headers: Vec<_> = answer.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            headers,
            [
                ("content-type", &b"text/plain"[..]),
                ("link", b"<1>"),
                ("link", b"<2>"),
                ("x-total", b"7")
            ]
        );
        let again: Response<Bytes> = replayed(answer);
        assert_eq!((again.status().as_u16(), &again.body()[..]), (201, &b"b"[..]));
        assert_eq!(again.headers().get_all("link").iter().count(), 2);
    }

    #[test]
    fn what_belongs_to_one_message_may_never_be_kept() {
        for name in [
            "set-cookie",
            "date",
            "connection",
            "keep-alive",
            "transfer-encoding",
            "www-authenticate",
            "proxy-authenticate",
            "traceparent",
            "x-b3-traceid",
            "x-request-id",
            "hapax-state",
            "content-length",
        ] {
            assert!(!may_be_kept(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["x-total", "x-b32", "retry-after", "content-type"] {
            assert!(may_be_kept(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn held_pieces_make_one() {
        for pieces in [&[][..], &["ab"], &["ab", "c"], &["", "ab", "", "c", "d"]] {
            let mut held = Held::default();
            pieces
                .iter()
                .for_each(|piece| held.push(Bytes::from_static(piece.as_bytes())));
            assert_eq!(
                (held.len(), held.bytes()),
                (pieces.concat().len(), pieces.concat().into())
            );
        }
    }
}
