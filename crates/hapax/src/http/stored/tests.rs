use super::*;

fn request() -> (Parts, Bytes) {
    let request = Request::post("https://shop.example/orders?a=1")
        .header("idempotency-key", "k")
        .header("authorization", "Bearer s3cret")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap())
        .header("prefer", "respond-async, return=minimal, wait=5")
        .header("connection", "close, X-Hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("keep-alive", "5")
        .header("transfer-encoding", "chunked")
        .header("content-length", "999")
        .header("expect", "100-continue")
        .body(())
        .unwrap();
    (request.into_parts().0, Bytes::from_static(b"\0body"))
}

#[test]
fn a_request_comes_back_without_what_was_of_its_connection() {
    let (parts, body) = request();
    let (again, bytes) = decode(encode(&parts, &body)).unwrap();
    assert_eq!((&again.method, bytes), (&Method::POST, body));
    assert_eq!(again.uri, "/orders?a=1");
    let headers: Vec<_> = again
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    assert_eq!(
        headers,
        [
            ("idempotency-key", &b"k"[..]),
            ("authorization", b"Bearer s3cret"),
            ("cookie", b"a=1"),
            ("cookie", b"b=2"),
            ("x-latin", b"caf\xe9"),
            ("prefer", b"return=minimal"),
            ("host", b"shop.example"),
            ("content-length", b"5"),
        ]
    );
}

#[test]
fn the_form_is_fixed() {
    let parts = Request::put("/a").header("b", "c").body(()).unwrap().into_parts().0;
    let bytes = encode(&parts, &Bytes::from_static(b"d"));
    assert_eq!(
        &bytes[..],
        b"\x01\0\0\0\x03PUT\0\0\0\x02/a\0\0\0\x01\0\0\0\x01b\0\0\0\x01c\0\0\0\x01d"
    );
}

#[test]
fn nonsense_is_refused() {
    let (parts, body) = request();
    let whole = encode(&parts, &body);
    for end in 0..whole.len() {
        assert!(decode(whole.slice(..end)).is_err(), "{end} bytes");
    }
    for (bytes, error) in [
        (&b"\x02"[..], "its version is not known"),
        (b"\x01\0\0\0\x01 \0\0\0\x01/\0\0\0\0\0\0\0\0", "its method is none"),
        (b"\x01\0\0\0\x01A\0\0\0\x01 \0\0\0\0\0\0\0\0", "its target is none"),
        (
            b"\x01\0\0\0\x01A\0\0\0\x08http://a\0\0\0\0\0\0\0\0",
            "its target is no path",
        ),
        (b"\x01\0\0\0\x01A\0\0\0\x01*\0\0\0\0\0\0\0\0", "its target is no path"),
        (
            b"\x01\0\0\0\x01A\0\0\0\x01/\0\0\0\x01\0\0\0\x01 \0\0\0\0\0\0\0\0",
            "a header has no name",
        ),
        (
            b"\x01\0\0\0\x01A\0\0\0\x01/\0\0\0\x01\0\0\0\x01a\0\0\0\x01\n\0\0\0\0",
            "a header has no value",
        ),
        (
            b"\x01\0\0\0\x01A\0\0\0\x01/\xff\xff\xff\xff\0\0\0\x01a\0\0\0\0",
            "it ends early",
        ),
        (b"\x01\0\0\0\x01A\0\0\0\x01/\0\0\0\0\xff\xff\xff\xff", "it ends early"),
        (
            b"\x01\0\0\0\x01A\0\0\0\x01/\0\0\0\0\0\0\0\0!",
            "it goes on after its end",
        ),
    ] {
        assert_eq!(decode(Bytes::from_static(bytes)).unwrap_err(), error, "{bytes:?}");
    }
}
