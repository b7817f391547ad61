//! Requests through a running gateway.

use std::thread;

use crate::support::{Answer, Ask, Gateway, HeldBackend, ShopServer};

#[test]
fn a_request_happens_once_and_its_retries_get_its_answer() {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, store.path(), &[]);
    let first = gateway.send(&Ask::order("k-1", 2));
    assert_eq!((first.status, first.is_replay()), (201, false), "{first:?}");
    assert!(first.header("set-cookie").is_some(), "the first caller gets all of it");
    let again = gateway.send(&Ask::order("\"k-1\"", 2));
    assert_eq!((again.status, again.is_replay(), &again.body), (201, true, &first.body));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("set-cookie"), None, "it belongs to the first caller");
    gateway.send(&Ask::order("k-1", 3)).is(422, "key-reused");
    gateway
        .send(&Ask::order("k-1", 2).path("/orders?x=1"))
        .is(422, "key-reused");
    assert_eq!(shop.effects(), 1);
    let effect = &shop.ledger().effects().unwrap()[0];
    assert_eq!(effect.fence.as_deref(), Some("1"));
    assert_eq!(effect.operation.as_ref().map(String::len), Some(32), "{effect:?}");
}

#[test]
fn what_has_no_key_passes_unless_a_key_is_required() {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let keyless = Ask::order("", 1).without("Idempotency-Key");
    let gateway = Gateway::before(shop.addr, store.path(), &[]);
    assert_eq!(gateway.send(&keyless).status, 201);
    assert_eq!(gateway.send(&keyless).status, 201);
    assert_eq!(shop.effects(), 2);
    assert_eq!(gateway.send(&Ask::get("/orders/1")).status, 200);
    drop(gateway);
    let strict = Gateway::before(shop.addr, store.path(), &["--require-key"]);
    strict.send(&keyless).is(400, "key-missing");
    assert_eq!(strict.send(&Ask::get("/orders/1")).status, 200);
    assert_eq!(shop.effects(), 2);
}

#[test]
fn a_duplicate_of_a_run_in_progress_waits_or_is_told_so() {
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(backend.addr, store.path(), &["--wait", "0s"]);
    let mut first = Ask::order("k-1", 1).start(gateway.addr);
    let held = backend.next();
    assert!(held.text.contains("hapax-fence: 1\r\n"), "{}", held.text);
    let told = gateway.send(&Ask::order("k-1", 1));
    told.is(409, "in-progress");
    assert!(told.header("retry-after").is_some(), "{told:?}");
    gateway.send(&Ask::order("k-1", 9)).is(422, "key-reused");
    let mut patient = Ask::order("k-1", 1).header("Prefer", "wait=20").start(gateway.addr);
    gateway.wait_for_metric("hapax_waiting", 1.0);
    held.answer("made");
    let (first, patient) = (Answer::read(&mut first), Answer::read(&mut patient));
    assert_eq!((first.status, &*first.body, first.is_replay()), (201, "made", false));
    assert_eq!(
        (patient.status, &*patient.body, patient.is_replay()),
        (201, "made", true)
    );
}

#[test]
fn each_credential_has_keys_of_its_own() {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, store.path(), &["--scope", "header:Authorization"]);
    let by = |who: &str| Ask::order("k-1", 1).header("Authorization", who);
    let (ann, bob) = (gateway.send(&by("Bearer ann")), gateway.send(&by("Bearer bob")));
    assert_eq!((ann.status, bob.status, shop.effects()), (201, 201, 2));
    assert_ne!(ann.body, bob.body);
    assert_eq!(gateway.send(&by("Bearer ann")).body, ann.body);
    gateway.send(&Ask::order("k-1", 1)).is(401, "scope-missing");
    gateway
        .send(&by("Bearer eyJhbGciOiJub25lIn0.e30."))
        .is(401, "scope-unstable");
    assert_eq!(shop.effects(), 2);
}

#[test]
fn routes_are_as_the_file_says() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let file = directory.path().join("hapax.toml");
    let text = r#"
        scope = "none"
        profile = "stripe"
        [[route]]
        path = "/orders"
        name = "create-order"
        require_key = true
        ignore = ["/client_order_id"]
        scope = "header:X-Shop"
        [[route]]
        path = "/points"
        methods = ["PUT"]
        name = "put-points"
    "#;
    std::fs::write(&file, text).unwrap();
    let gateway = Gateway::before(shop.addr, directory.path(), &["--config", file.to_str().unwrap()]);
    let order = |quantity, id| {
        let body = format!(r#"{{"customer":"ann","item":"tea","quantity":{quantity},"client_order_id":"{id}"}}"#);
        Ask::order("k-1", 1).header("X-Shop", "north").body(&body)
    };
    assert_eq!(gateway.send(&order(1, "a")).status, 201);
    assert!(gateway.send(&order(1, "b")).is_replay(), "the id is ignored");
    let mismatch = gateway.send(&order(2, "a"));
    assert_eq!(mismatch.status, 400, "the stripe profile: {mismatch:?}");
    assert!(mismatch.body.contains("idempotency_error"), "{mismatch:?}");
    let missing = gateway.send(&order(1, "a").without("X-Shop"));
    assert_eq!(missing.status, 401, "the route's own scope: {missing:?}");
    let hidden = gateway.send(&order(1, "a").header("Connection", "x-shop"));
    assert_eq!(
        hidden.status, 401,
        "Connection must not take the scope away from the backend: {hidden:?}"
    );
    let other = Ask::order("k-1", 1)
        .path("/payments")
        .body(r#"{"intent":"pi","amount_cents":5}"#);
    assert_eq!(
        gateway.send(&other).status,
        201,
        "what no route fits is protected under another name"
    );
    assert!(gateway.send(&other).is_replay());
    let status = Ask::get("/.hapax/operations/k-1?name=create-order").header("X-Shop", "north");
    let status = gateway.send(&status);
    assert!(status.body.contains(r#""state":"done""#), "{status:?}");
    assert_eq!(shop.effects(), 2);
}

#[test]
fn a_hundred_duplicates_at_once_are_one() {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, store.path(), &[]);
    let ask = Ask::order("k-1", 1).header("X-Shop-Delay", "50ms");
    let bodies: Vec<String> = thread::scope(|scope| {
        let sent: Vec<_> = (0..100).map(|_| scope.spawn(|| gateway.send(&ask))).collect();
        sent.into_iter()
            .map(|answer| answer.join().unwrap())
            .map(|answer| answer.body)
            .collect()
    });
    assert_eq!((bodies.len(), shop.effects()), (100, 1));
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[test]
fn a_backend_that_is_down_had_no_effect() {
    let (mut shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, store.path(), &[]);
    shop.process.kill();
    let down = gateway.send(&Ask::order("k-1", 1));
    down.is(503, "upstream-unavailable");
    gateway.send(&Ask::order("k-1", 1)).is(503, "upstream-unavailable");
    gateway.send(&Ask::get("/orders/1")).is(503, "upstream-unavailable");
    // Protected ones have three tries each.
    assert_eq!(gateway.metric(r#"hapax_upstream_failures_total{proof="unsent"}"#), 7.0);
    assert_eq!(gateway.metric(r#"hapax_retries_total{destination="upstream"}"#), 4.0);
}

#[test]
fn a_failure_that_proves_nothing_is_unknown_and_never_run_again() {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, store.path(), &[]);
    let reset = gateway.send(&Ask::order("k-1", 1).header("X-Shop-Fail", "reset-after"));
    reset.is(502, "upstream-reset");
    gateway.send(&Ask::order("k-1", 1)).is(409, "outcome-unknown");
    assert_eq!(shop.effects(), 1);
    drop(gateway);
    let retrying = Gateway::before(shop.addr, store.path(), &["--after-failure", "retry"]);
    let lost = retrying.send(&Ask::order("k-2", 1).header("X-Shop-Fail", "500-after"));
    assert_eq!(lost.status, 500);
    assert_eq!(
        retrying.send(&Ask::order("k-2", 1)).status,
        201,
        "at least once was chosen"
    );
    assert_eq!(shop.effects(), 3);
}
