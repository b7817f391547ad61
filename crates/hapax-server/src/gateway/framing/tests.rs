use bytes::Bytes;
use http::Response;

use super::chunked::{ChunkLimits, Chunked, Seen};
use super::head::{Framing, Head, HeadLimits, HeadScan, is_host};
use super::{MARKER, Refusal, is_marker};

const LIMITS: HeadLimits = HeadLimits { bytes: 512, fields: 8 };

/// The verdict of a head that comes in one read; the same must come of every way to split it.
fn check(head: &[u8]) -> Result<Option<Head>, Refusal> {
    let whole = HeadScan::default().advance(head, LIMITS);
    let mut scan = HeadScan::default();
    let split = (1..=head.len())
        .map(|end| scan.advance(&head[..end], LIMITS))
        .find(|verdict| !matches!(verdict, Ok(None)))
        .unwrap_or(Ok(None));
    assert_eq!(whole, split, "{}", head.escape_ascii());
    whole
}

/// Heads that are refused, and why. Also sent over real connections.
pub(crate) fn refused_heads() -> Vec<(Vec<u8>, Refusal)> {
    use Refusal::*;
    let cases: &[(&str, Refusal)] = &[
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            LengthAndEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            LengthAndEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            RepeatedContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n",
            RepeatedContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            BadContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            BadContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            BadContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
            BadContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\n",
            BadContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            BadContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
            BadContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            UnknownTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            UnknownTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            UnknownTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
            UnknownTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            UnknownTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
            UnknownTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            RepeatedTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            RepeatedTransferEncoding,
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            EncodingOnHttp10,
        ),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLf),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", BadFieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", BadFieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", BadFieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", BadFieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", ObsFold),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", ObsFold),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", ObsFold),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\n",
            SpaceBeforeColon,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 1\r\n\r\n",
            SpaceBeforeColon,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nX(: 1\r\n\r\n", BadFieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", BadFieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\0: 1\r\n\r\n", BadFieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", NoColon),
        ("GET / HTTP/1.1\r\n\r\n", MissingHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", RepeatedHost),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BadHost),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", TargetHostMismatch),
        ("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", TargetHostMismatch),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", TargetHostMismatch),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        ("REFUSED * HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", ConnectMethod),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("GET / / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("GET /\r\nHost: a\r\n\r\n", BadRequestLine),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", BadVersion),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", BadVersion),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", EmptyLines),
        (
            "GET / HTTP/1.1\r\nHost: a\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\ng:\r\nh:\r\n\r\n",
            TooManyFields,
        ),
    ];
    let mut cases: Vec<_> = cases
        .iter()
        .map(|(head, why)| (head.as_bytes().to_vec(), *why))
        .collect();
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(LIMITS.bytes));
    cases.push((long.into_bytes(), HeadTooLarge));
    cases
}

#[test]
fn ambiguous_heads_are_refused_however_they_are_split() {
    for (head, why) in refused_heads() {
        assert_eq!(check(&head), Err(why), "{}", head.escape_ascii());
    }
}

#[test]
fn plain_heads_pass_with_their_framing() {
    use Framing::{Chunked, Sized};
    for (head, framing) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Sized(0)),
        ("GET / HTTP/1.0\r\n\r\n", Sized(0)),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Sized(0)),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Sized(0)),
        ("GET http://A:8/x?y HTTP/1.1\r\nHost: a:8\r\n\r\n", Sized(0)),
        ("GET HTTPS://a?y HTTP/1.1\r\nhost: A\r\n\r\n", Sized(0)),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Sized(0)),
        ("GET / HTTP/1.1\r\nHost: a_b-c.example.\r\n\r\n", Sized(0)),
        (
            "POST / HTTP/1.1\r\nHost:\t a \r\nContent-Length: 017 \r\n\r\n",
            Sized(17),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-encoding: Chunked\r\n\r\n",
            Chunked,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\ty\r\nX:\r\n\r\n", Sized(0)),
    ] {
        let expected = Head {
            len: head.len(),
            framing,
        };
        assert_eq!(check(head.as_bytes()), Ok(Some(expected)), "{head:?}");
    }
}

#[test]
fn a_target_that_passes_is_one_that_hyper_takes() {
    for byte in 0x21..0x7f_u8 {
        for place in ["/x", "/?x"] {
            let target = format!("{place}{}", char::from(byte));
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            if check(head.as_bytes()).is_ok() {
                assert!(target.parse::<http::Uri>().is_ok(), "{target}");
            }
        }
    }
}

#[test]
fn hosts() {
    for good in ["a", "127.0.0.1", "a.b:1", "[::1]", "[fe80::1]:65535", "x_y"] {
        assert!(is_host(good.as_bytes()), "{good}");
    }
    for bad in [
        "", ":", ":1", "a:b", "a:1:2", "[]", "[g]", "[::1]x", "::1", "a%41", "a:123456", "a\"",
    ] {
        assert!(!is_host(bad.as_bytes()), "{bad}");
    }
}

fn chunks(body: &[u8]) -> Seen {
    let limits = ChunkLimits {
        extension_bytes: 8,
        trailer_bytes: 16,
        may_pad: false,
    };
    let whole = Chunked::new().advance(body, limits);
    let mut chunked = Chunked::new();
    let mut split = Seen::All;
    for at in 0..body.len() {
        split = match chunked.advance(&body[at..=at], limits) {
            Seen::All => continue,
            Seen::End(len) => Seen::End(at + len),
            Seen::Bad(len, why) => Seen::Bad(at + len, why),
        };
        break;
    }
    assert_eq!(whole, split, "{}", body.escape_ascii());
    whole
}

#[test]
fn chunked_bodies_end_where_they_end() {
    for body in [
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "00a;x=y\r\n0123456789\r\n0\r\n\r\n",
        "1\r\n\n\r\n0\r\nT: x\r\n\r\n",
    ] {
        let longer = format!("{body}GET /");
        assert_eq!(chunks(longer.as_bytes()), Seen::End(body.len()), "{body:?}");
    }
    assert_eq!(chunks(b"5\r\nab"), Seen::All);
}

/// Bodies that are refused, how much of each is good, and why. Also sent over real connections.
pub(crate) const REFUSED_CHUNKS: &[(&str, usize, Refusal)] = &[
    ("x", 0, Refusal::BadChunk),
    ("\r\n", 0, Refusal::BadChunk),
    (";a\r\n", 0, Refusal::BadChunk),
    ("-1\r\n", 0, Refusal::BadChunk),
    ("0x1\r\n", 1, Refusal::BadChunk),
    (" 1\r\n", 0, Refusal::BadChunk),
    ("1 \r\n", 1, Refusal::BadChunk),
    ("1\na", 1, Refusal::BadChunk),
    ("1\rx", 2, Refusal::BadChunk),
    ("1;a\nb", 3, Refusal::BadChunk),
    ("1\r\nab", 4, Refusal::BadChunk),
    ("1\r\na\n", 4, Refusal::BadChunk),
    ("1\r\na\rx", 5, Refusal::BadChunk),
    ("10000000000000000\r\n", 16, Refusal::BadChunk),
    ("0\r\n\n", 3, Refusal::BadChunk),
    ("0\r\n T: x\r\n", 3, Refusal::BadChunk),
    ("0\r\nT x\r\n", 4, Refusal::BadChunk),
    ("0\r\nT: \0\r\n", 6, Refusal::BadChunk),
    ("0\r\nT: x\n\r\n", 7, Refusal::BadChunk),
];

#[test]
fn malformed_chunks_are_refused_where_they_break() {
    for (body, good, why) in REFUSED_CHUNKS {
        assert_eq!(chunks(body.as_bytes()), Seen::Bad(*good, *why), "{body:?}");
    }
    assert_eq!(chunks(b"1;123456789\r\n"), Seen::Bad(9, Refusal::ChunkExtensionTooLong));
    assert_eq!(
        chunks(b"1;1234567\r\na\r\n1;2\r\n"),
        Seen::Bad(15, Refusal::ChunkExtensionTooLong)
    );
    assert_eq!(
        chunks(b"0\r\nT: 3456789012345678\r\n"),
        Seen::Bad(19, Refusal::TrailerTooLong)
    );
}

#[test]
fn the_marker_is_a_request_that_no_client_can_send() {
    assert_eq!(HeadScan::default().advance(MARKER, LIMITS), Err(Refusal::BadTarget));
    let marker = http::Request::builder().method("REFUSED").uri("*").body(()).unwrap();
    assert!(is_marker(&marker));
    let options = http::Request::options("*").body(()).unwrap();
    assert!(!is_marker(&options));
}

#[test]
fn each_refusal_is_a_problem_in_valid_json() {
    let all = refused_heads()
        .into_iter()
        .map(|(_, why)| why)
        .chain(REFUSED_CHUNKS.iter().map(|(_, _, why)| *why))
        .chain([
            Refusal::ChunkExtensionTooLong,
            Refusal::TrailerTooLong,
            Refusal::HeadTimeout,
        ]);
    for refusal in all {
        let detail = refusal.detail();
        assert!(
            detail
                .bytes()
                .all(|byte| (b' '..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\')),
            "{detail} needs escaping"
        );
        assert!(detail.ends_with('.'), "{detail}");
        let response: Response<Bytes> = refusal.response();
        assert!(response.status().is_client_error());
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(
            response
                .body()
                .ends_with(format!(r#""detail":"{detail}"}}"#).as_bytes())
        );
    }
}
