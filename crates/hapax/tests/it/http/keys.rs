use super::client;
use super::world::{World, request, route};

#[tokio::test]
async fn a_bad_key_is_refused_with_its_reason_and_nothing_runs() {
    let world = World::counting(route()).await;
    let long = |count: usize| "k".repeat(count);
    for (key, word) in [
        ("", "empty"),
        ("\"\"", "empty"),
        ("a,b", "list"),
        ("\"a\", \"b\"", "list"),
        ("a b", "visible ASCII"),
        ("a;v=1", "semicolon"),
        ("\"a", "quotation mark"),
        ("\"a\\b\"", "quotation mark"),
        ("ключ", "visible ASCII"),
        (&long(256), "longer than 255"),
        (&long(64 << 10), "longer than 255"),
    ] {
        let got = world.post(key, "{}").await;
        assert_eq!((got.status, got.problem().as_str()), (400, "key-invalid"), "{key:.20}");
        assert!(
            got.json()["detail"].as_str().unwrap().contains(word),
            "{key:.20}: {}",
            got.text()
        );
    }
    for byte in [0x00, 0x01, 0x7f] {
        let mut bytes = request("POST /orders", "Idempotency-Key: a?b\r\n", "").into_bytes();
        let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
        bytes[at] = byte;
        // hyper itself refuses control bytes in any header.
        assert_eq!(client::send(world.at, &bytes).await.status, 400, "{byte}");
    }
    assert_eq!(world.runs(), 0);
}

#[tokio::test]
async fn all_forms_of_a_key_are_one_operation() {
    let world = World::counting(route()).await;
    let first = world.post("abc", "{}").await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
    for key in ["\"abc\"", "  abc ", "\"abc\";v=1", "abc\r\nIdempotency-Key: \"abc\""] {
        let again = world.post(key, "{}").await;
        assert_eq!(
            (again.status, again.header("idempotent-replayed")),
            (201, Some("true")),
            "{key}"
        );
        assert_eq!(again.body, first.body);
    }
    let other = world.post("\"a\\\"bc\"", "{}").await;
    assert_eq!(other.text(), "order 2");
    let longest = "k".repeat(255);
    assert_eq!(world.post(&longest, "{}").await.text(), "order 3");
    assert_eq!(world.post(&format!("\"{longest}\""), "{}").await.text(), "order 3");
    assert_eq!(world.runs(), 3);
}

#[tokio::test]
async fn two_different_keys_are_refused() {
    let world = World::counting(route()).await;
    let got = world.post("abc\r\nIdempotency-Key: abd", "{}").await;
    assert_eq!(got.problem(), "key-invalid");
    assert_eq!(world.runs(), 0);
}

#[tokio::test]
async fn a_connection_header_must_not_name_a_protected_one() {
    let world = World::counting(route()).await;
    for name in [
        "Idempotency-Key",
        "authorization",
        "Content-Type",
        "Hapax-Fence",
        "host",
    ] {
        for line in ["POST /orders", "GET /orders"] {
            let text = request(line, "Idempotency-Key: a\r\n", "");
            let text = text.replace("Connection: close", &format!("Connection: close, {name}"));
            let got = client::send(world.at, text.as_bytes()).await;
            assert_eq!(
                (got.status, got.problem().as_str()),
                (400, "key-invalid"),
                "{line} {name}"
            );
        }
    }
    assert_eq!(world.runs(), 0);
}

#[tokio::test]
async fn a_key_in_a_trailer_is_refused() {
    let world = World::counting(route()).await;
    let chunked = |fields: &str| {
        format!(
            "POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{fields}\r\n\
             2\r\n{{}}\r\n0\r\nIdempotency-Key: late\r\n\r\n"
        )
    };
    for fields in ["Trailer: Idempotency-Key\r\n", "Idempotency-Key: early\r\n"] {
        let got = client::send(world.at, chunked(fields).as_bytes()).await;
        assert_eq!((got.status, got.problem().as_str()), (400, "key-invalid"), "{fields}");
        assert!(got.text().contains("trailer"), "{}", got.text());
    }
    assert_eq!(world.runs(), 0);
}

#[tokio::test]
async fn a_key_spelt_with_an_underscore_is_refused() {
    let world = World::counting(route()).await;
    for fields in ["Idempotency_Key: k", "Idempotency-Key: k\r\nIDEMPOTENCY_KEY: k"] {
        let request = format!(
            "POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{fields}\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let got = client::send(world.at, request.as_bytes()).await;
        assert_eq!((got.status, got.problem().as_str()), (400, "key-invalid"), "{fields}");
        assert!(got.text().contains("with a hyphen"), "{}", got.text());
    }
    assert_eq!(world.runs(), 0);
}

#[tokio::test]
async fn without_a_key_a_request_passes_unless_the_route_requires_one() {
    let world = World::counting(route()).await;
    for run in 1..=2 {
        let got = world.send("POST /orders", "", "{}").await;
        assert_eq!((got.status, got.text()), (201, format!("order {run}").as_str()));
    }
    assert_eq!(world.verdicts(), []);
    let world = World::counting(route().require_key(true)).await;
    let got = world.send("POST /orders", "", "{}").await;
    assert_eq!((got.status, got.problem().as_str()), (400, "key-missing"));
    assert_eq!(world.send("GET /orders", "", "").await.status, 201);
    assert_eq!(world.runs(), 1);
}
