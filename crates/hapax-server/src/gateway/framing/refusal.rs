//! Why a request is refused, and the answer that says so.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

/// Why a request was refused before anything was done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BareLf,
    BadRequestLine,
    ConnectMethod,
    BadVersion,
    BadTarget,
    TargetHostMismatch,
    EmptyLines,
    ObsFold,
    NoColon,
    SpaceBeforeColon,
    BadFieldName,
    BadFieldValue,
    HeadTooLarge,
    TooManyFields,
    MissingHost,
    RepeatedHost,
    BadHost,
    RepeatedContentLength,
    BadContentLength,
    LengthAndEncoding,
    RepeatedTransferEncoding,
    UnknownTransferEncoding,
    EncodingOnHttp10,
    BadChunk,
    ChunkExtensionTooLong,
    TrailerTooLong,
    HeadTimeout,
}

impl Refusal {
    /// What was wrong and what to do about it, for people.
    pub(crate) fn detail(self) -> &'static str {
        use Refusal::*;
        match self {
            BareLf => "A line of the request head ends in a bare LF. End every line with CR LF.",
            BadRequestLine => {
                "The request line is not METHOD SP TARGET SP VERSION. Send exactly these three, with single spaces."
            }
            ConnectMethod => "CONNECT is not served here: this is a gateway to one upstream, not a forward proxy.",
            BadVersion => {
                "The version in the request line is neither HTTP/1.1 nor HTTP/1.0. Send one of these, or use HTTP/2 from the first byte."
            }
            BadTarget => {
                "The request target is not a path that starts with a slash, nor an absolute http or https URL of visible ASCII without a fragment. Percent-encode what is not allowed."
            }
            TargetHostMismatch => "The host in the request target is not the one in Host. Send the same in both.",
            EmptyLines => "There is more than one empty line before the request line. Send the request line first.",
            ObsFold => {
                "A header field continues on a second line, which is obsolete and read differently by different servers. Send it on one line."
            }
            NoColon => "A header line has no colon. Send NAME, colon, value.",
            SpaceBeforeColon => "There is white space between a header's name and its colon. Remove it.",
            BadFieldName => {
                "A header name is empty or holds a character that is not allowed in one. Use letters, digits and hyphens."
            }
            BadFieldValue => "A header value holds a control character (such as NUL or a bare CR). Remove it.",
            HeadTooLarge => {
                "The request head is longer than this gateway's limit (max_head_bytes). Send fewer or shorter headers."
            }
            TooManyFields => "The request has more header fields than this gateway's limit (max_headers). Send fewer.",
            MissingHost => "The request has no Host. Send exactly one.",
            RepeatedHost => "The request has more than one Host. Send exactly one.",
            BadHost => "Host is not a host name or address with an optional port. Send only that.",
            RepeatedContentLength => {
                "The request has more than one Content-Length. Send it once, even if the values are equal."
            }
            BadContentLength => "Content-Length is not a plain decimal number. Send digits only.",
            LengthAndEncoding => {
                "The request has both Transfer-Encoding and Content-Length, so its end is ambiguous. Send one of them."
            }
            RepeatedTransferEncoding => "The request has more than one Transfer-Encoding. Send it once.",
            UnknownTransferEncoding => {
                "Transfer-Encoding is not exactly 'chunked'. Send 'chunked', or a Content-Length."
            }
            EncodingOnHttp10 => "Transfer-Encoding does not exist in HTTP/1.0. Send a Content-Length, or use HTTP/1.1.",
            BadChunk => {
                "The chunked body is malformed: a size line, chunk end or trailer is not as RFC 9112 section 7.1 says."
            }
            ChunkExtensionTooLong => {
                "The chunk extensions are longer than this gateway's limit (max_chunk_extension_bytes). Leave them out."
            }
            TrailerTooLong => "The trailers are longer than this gateway's limit (max_head_bytes). Send less.",
            HeadTimeout => "The request head did not arrive in time (head_timeout). Send it again, faster.",
        }
    }

    /// 400, except where HTTP has a status for exactly this.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Refusal::HeadTooLarge | Refusal::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// `type` and `title` of the problem.
    fn problem(self) -> (&'static str, &'static str) {
        match self {
            Refusal::HeadTooLarge | Refusal::TooManyFields => ("request-head-too-large", "Request head too large"),
            Refusal::HeadTimeout => ("request-timeout", "Request timed out"),
            _ => ("request-ambiguous", "Ambiguous request"),
        }
    }

    /// The answer: `application/problem+json`, and the connection closes after it.
    pub(crate) fn response<B: From<Bytes>>(self) -> Response<B> {
        let (name, title) = self.problem();
        // No text above needs escaping in JSON; a test holds it to that.
        let body = format!(
            r#"{{"type":"urn:hapax:problem:{name}","title":"{title}","status":{},"detail":"{}"}}"#,
            self.status().as_u16(),
            self.detail()
        );
        let mut response = Response::new(B::from(Bytes::from(body)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.detail())
    }
}

impl std::error::Error for Refusal {}
