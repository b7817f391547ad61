//! What clients and disks get wrong, as the client of the real binary sees it.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{Answer, Ask, Gateway, PATIENCE, ShopServer};

/// Sends bytes and reads the answer.
#[track_caller]
fn raw(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    if request.ends_with('}') {
        // The body is not whole, and no more comes.
        stream.shutdown(Shutdown::Write).unwrap();
    }
    Answer::read(&mut stream)
}

fn chunked(fields: &str, body: &str) -> String {
    format!(
        "POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n{fields}\r\n{body}"
    )
}

const ORDER: &str = "2e\r\n{\"customer\":\"ann\",\"item\":\"tea\",\"quantity\":1}  \r\n0\r\n";

#[test]
fn a_key_where_it_cannot_count_is_refused_and_nothing_runs() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, directory.path(), &[]);
    for fields in ["", "Idempotency-Key: early\r\n", "Trailer: Idempotency-Key\r\n"] {
        let request = chunked(fields, &format!("{ORDER}Idempotency-Key: late\r\n\r\n"));
        let refused = raw(gateway.addr, &request);
        refused.is(400, "key-invalid");
        assert!(refused.body.contains("in a trailer"), "{fields}: {refused:?}");
    }
    let refused = gateway.send(&Ask::order("k", 1).header("Idempotency_Key", "k"));
    refused.is(400, "key-invalid");
    assert_eq!(shop.effects(), 0);
    let other = raw(gateway.addr, &chunked("", &format!("{ORDER}X-Checksum: 1\r\n\r\n")));
    assert_eq!((other.status, shop.effects()), (201, 1), "{other:?}");
}

#[test]
fn keys_of_every_size_get_an_answer() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, directory.path(), &[]);
    let ask = |size: usize| gateway.send(&Ask::order(&"k".repeat(size), 1));
    assert_eq!(ask(255).status, 201);
    ask(256).is(400, "key-invalid");
    ask(60 << 10).is(400, "key-invalid");
    ask(64 << 10).is(431, "request-head-too-large");
    assert_eq!(shop.effects(), 1);
}

#[test]
fn a_body_that_fails_is_the_clients_fault_with_a_key_and_without() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, directory.path(), &[]);
    for fields in ["", "Idempotency-Key: k\r\n"] {
        raw(gateway.addr, &chunked(fields, "zz\r\n")).is(400, "request-ambiguous");
        raw(gateway.addr, &chunked(fields, "2\r\n{}\r\nzz\r\n")).is(400, "request-ambiguous");
        raw(gateway.addr, &chunked(fields, "5\r\n{}")).is(400, "body-incomplete");
    }
    let unsent = "hapax_upstream_failures_total{proof=\"unsent\"}";
    let reset = "hapax_upstream_failures_total{proof=\"reset\"}";
    assert_eq!((gateway.metric(unsent), gateway.metric(reset)), (0.0, 0.0));
    assert_eq!(shop.effects(), 0);
}

#[test]
fn a_backend_that_fails_without_a_key_is_not_said_to_be_remembered() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, directory.path(), &[]);
    let broken = gateway.send(
        &Ask::order("k", 1)
            .without("Idempotency-Key")
            .header("X-Shop-Fail", "reset-after"),
    );
    broken.is(502, "upstream-reset");
    assert!(broken.body.contains("had no key"), "{broken:?}");
}

/// No file of this process may grow beyond so many bytes; none: as large as they like.
fn limit_files(gateway: &Gateway, bytes: Option<u64>) {
    let pid = Pid::from_child(&gateway.process.child);
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_store_without_room_refuses_and_goes_on_when_there_is_some() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let file = directory.path().join("hapax.toml");
    std::fs::write(&file, "timeouts.store = \"200ms\"").unwrap();
    let gateway = Gateway::before(shop.addr, directory.path(), &["--config", file.to_str().unwrap()]);
    assert_eq!(gateway.send(&Ask::order("before", 1)).status, 201);
    limit_files(&gateway, Some(512 << 10));
    let mut refused = Vec::new();
    for n in 0..400 {
        let key = format!("k-{n}");
        let answer = gateway.send(&Ask::order(&key, 1).header("X-Shop-Fail", "big:20KiB"));
        if answer.status != 201 {
            answer.is(503, "store-unavailable");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            refused.push(key);
        }
        if refused.len() == 3 {
            break;
        }
    }
    assert_eq!(refused.len(), 3, "the limit was never met");
    gateway.process.wait_for_log("make room on its disk");
    // Not even the little that a claim needs.
    limit_files(&gateway, Some(1 << 10));
    gateway.send(&Ask::order("none", 1)).is(503, "store-unavailable");
    let unready = Ask::get("/readyz").send(gateway.admin);
    assert!(
        unready.status == 503 && unready.body.contains("disk is full or read-only"),
        "{unready:?}"
    );
    assert_eq!(gateway.metric("hapax_store_up"), 0.0);
    assert!(
        gateway.send(&Ask::order("before", 1)).is_replay(),
        "what is stored can be read"
    );
    limit_files(&gateway, None);
    // Without any traffic: a gateway that is not ready gets none.
    let ready = Ask::get("/readyz").send(gateway.admin);
    assert_eq!(ready.status, 200, "{ready:?}");
    for key in &refused {
        let answer = gateway.send(&Ask::order(key, 1).header("X-Shop-Fail", "big:20KiB"));
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let by_key = shop.ledger().effects_by_key().unwrap();
    assert!(by_key.values().all(|effects| *effects == 1), "{by_key:?}");
    assert!(refused.iter().all(|key| by_key.contains_key(key)), "{by_key:?}");
}
