use std::collections::HashSet;

use super::*;

struct Call {
    method: &'static str,
    uri: &'static str,
    content_type: Option<&'static str>,
    encoding: Option<&'static str>,
    body: Vec<u8>,
}

fn json(body: impl Into<Vec<u8>>) -> Call {
    Call {
        method: "POST",
        uri: "/orders?dry=1",
        content_type: Some("application/json"),
        encoding: None,
        body: body.into(),
    }
}

fn typed(content_type: &'static str, body: impl Into<Vec<u8>>) -> Call {
    Call {
        content_type: Some(content_type),
        ..json(body)
    }
}

fn digest_under(recipe: &Recipe, call: Call) -> [u8; 32] {
    let mut request = http::Request::builder().method(call.method).uri(call.uri);
    if let Some(value) = call.content_type {
        request = request.header(CONTENT_TYPE, value);
    }
    if let Some(value) = call.encoding {
        request = request.header(CONTENT_ENCODING, value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let asked = Asked::new(&parts, call.body.into());
    *Fingerprinter::new(&[7; 32])
        .fingerprint(recipe, RecipeId::new(1), &asked)
        .digest()
}

fn digest(call: Call) -> [u8; 32] {
    digest_under(&Recipe::all(), call)
}

fn all_same(calls: Vec<Call>) {
    let digests: HashSet<_> = calls.into_iter().map(digest).collect();
    assert_eq!(digests.len(), 1);
}

fn all_differ(calls: Vec<Call>) {
    let count = calls.len();
    let digests: HashSet<_> = calls.into_iter().map(digest).collect();
    assert_eq!(digests.len(), count);
}

#[test]
fn key_order_white_space_and_notation_do_not_count() {
    all_same(vec![
        json(r#"{"amount":1,"to":["a","b"]}"#),
        json("{\n \"to\": [\"a\", \"b\"],\n \"amount\": 1.0 }"),
        json(r#"{"amount":1e0,"to":["\u0061","b"]}"#),
    ]);
    all_same(vec![
        typed("application/vnd.api+json; charset=utf-8", "{ }"),
        typed("application/VND.api+JSON; charset=UTF-8", "{}"),
    ]);
}

#[test]
fn everything_else_counts() {
    let base = || json(r#"{"amount":1}"#);
    all_differ(vec![
        base(),
        json(r#"{"amount":2}"#),
        json(r#"{"amount":"1"}"#),
        json(r#"{"amount":1,"x":null}"#),
        json("{}"),
        json(""),
        Call {
            method: "PATCH",
            ..base()
        },
        Call {
            uri: "/orders",
            ..base()
        },
        Call {
            uri: "/orders?",
            ..base()
        },
        Call {
            uri: "/orders?dry=2",
            ..base()
        },
        Call {
            uri: "/order?sdry=1",
            ..base()
        },
        typed("text/plain", r#"{"amount":1}"#),
        Call {
            content_type: None,
            ..base()
        },
        Call {
            encoding: Some("gzip"),
            ..base()
        },
    ]);
}

#[test]
fn what_the_canonical_form_would_lose_counts_byte_by_byte() {
    let deep = |space: &str| format!("{}{space}{}", "[".repeat(1000), "]".repeat(1000));
    all_differ(vec![
        json(r#"{"a":1,"a":2}"#),
        json(r#"{"a":2,"a":1}"#),
        json(r#"{"a":2}"#),
        json(r#"{"n":9007199254740992}"#),
        json(r#"{"n":9007199254740993}"#),
        json(r#"{"n":0.1}"#),
        json(r#"{"n":0.10000000000000001}"#),
        json(r#"{"broken":1"#),
        json(r#"{"broken": 1"#),
        json(deep("")),
        json(deep(" ")),
    ]);
}

#[test]
fn a_body_that_is_not_json_counts_byte_by_byte() {
    let gzip = |body: &[u8]| Call {
        encoding: Some("gzip"),
        ..json(body)
    };
    all_differ(vec![gzip(b"\x1f\x8b1"), gzip(b"\x1f\x8b2"), gzip(b"{}"), gzip(b"{ }")]);
    let multipart = |body: &str| typed("multipart/form-data; boundary=x", body);
    all_differ(vec![
        multipart("--x\r\n\r\na\r\n--x--"),
        multipart("--x\r\n\r\na \r\n--x--"),
    ]);
    all_differ(vec![typed("text/json", "{}"), typed("text/json", "{ }")]);
    all_same(vec![
        Call {
            encoding: Some("identity"),
            ..json("{}")
        },
        Call {
            encoding: Some("Identity"),
            ..json("{ }")
        },
    ]);
}

#[test]
fn a_canonical_body_is_no_raw_one() {
    // The raw bytes of one request equal the canonical form of another.
    all_differ(vec![json("[1 ,2]"), typed("text/plain", "[1,2]"), json("[1,2,3]")]);
    let recipe = Recipe::selecting([Pointer::new("/a").unwrap()]);
    assert_ne!(
        digest_under(&recipe, json(r#"{"a":1}"#)),
        digest_under(&recipe, json(r#"["/a",1]"#))
    );
}

#[test]
fn fields_can_be_ignored_or_selected() {
    let pointers = || ["/sent_at", "/meta/trace"].map(|text| Pointer::new(text).unwrap());
    let a = r#"{"sent_at":1,"amount":5,"meta":{"trace":"x","k":1}}"#;
    let b = r#"{"amount":5,"meta":{"k":1,"trace":"y"},"sent_at":2}"#;
    let other_amount = r#"{"sent_at":1,"amount":6,"meta":{"trace":"x","k":1}}"#;
    let ignoring = |body: &str| digest_under(&Recipe::ignoring(pointers()), json(body));
    assert_eq!(ignoring(a), ignoring(b));
    assert_ne!(ignoring(a), ignoring(other_amount));
    let selecting = |body: &str| digest_under(&Recipe::selecting([Pointer::new("/amount").unwrap()]), json(body));
    assert_eq!(selecting(a), selecting(b));
    assert_ne!(selecting(a), selecting(other_amount));
    assert_ne!(selecting(r#"{"amount":null}"#), selecting("{}"));
    assert_ne!(digest(json(a)), digest(json(b)));
}

#[test]
fn another_secret_makes_another_digest() {
    let (parts, ()) = http::Request::new(()).into_parts();
    let asked = Asked::new(&parts, Bytes::new());
    let under = |secret| Fingerprinter::new(&[secret; 32]).fingerprint(&Recipe::all(), RecipeId::new(1), &asked);
    assert_ne!(under(1), under(2));
}

#[test]
fn a_recipe_survives_as_text() {
    let pointers = || ["/b", "/a,b", "/ü %", "/a"].map(|text| Pointer::new(text).unwrap());
    for (recipe, text) in [
        (Recipe::all(), "v1 json"),
        (Recipe::ignoring([]), "v1 json"),
        (
            Recipe::ignoring(pointers()),
            "v1 json ignore=/a,/a%2Cb,/b,/%C3%BC%20%25",
        ),
        (
            Recipe::selecting(pointers().into_iter().rev()),
            "v1 json select=/a,/a%2Cb,/b,/%C3%BC%20%25",
        ),
    ] {
        assert_eq!(recipe.text(), text);
        assert_eq!(Recipe::parse(text), Some(recipe));
    }
    for text in [
        "",
        "v2 json",
        "v1 jsonx",
        "v1 json ",
        "v1 json drop=/a",
        "v1 json ignore=a",
        "v1 json ignore=/%zz",
    ] {
        assert_eq!(Recipe::parse(text), None, "{text}");
    }
}
