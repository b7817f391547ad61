//! Unknown outcomes: the gateway asks the backend, and never guesses.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Ask, Gateway, HeldBackend, PATIENCE, ShopServer, hapax, sqlite};

/// A route that is probed; with a short lease, so that what a kill leaves is found soon.
const ROUTE: &str = r#"
    scope = "none"
    lease = "1s"
    settle = "50ms"
    [[route]]
    path = "/orders"
    name = "create-order"
"#;

fn gateway(upstream: std::net::SocketAddr, directory: &Path, route: &str) -> Gateway {
    let file = directory.join("hapax.toml");
    std::fs::write(&file, format!("{ROUTE}{route}")).unwrap();
    Gateway::before(upstream, directory, &["--config", file.to_str().unwrap()])
}

#[track_caller]
fn wait_for_state(gateway: &Gateway, state: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = gateway.send(&Ask::get("/.hapax/operations/k-1?name=create-order"));
        let json: Value = serde_json::from_str(&answer.body).unwrap();
        if json["state"] == state {
            return json;
        }
        assert!(
            Instant::now() < until,
            "never {state}: {json} {}",
            gateway.process.log()
        );
    }
}

/// The only line of the audit.
#[track_caller]
fn audit(directory: &Path) -> Value {
    hapax(&["audit", "--store", &sqlite(directory), "--json"]).json()
}

#[test]
fn what_a_kill_left_unknown_is_found_done() {
    for (answer, told) in [("probe", 200), ("none", 409)] {
        let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
        let probe = format!(
            "[route.probe]\nrequest = \"GET /orders/by-operation/{{operation}}\"\nnot_found = [404]\nanswer = \"{answer}\"\n"
        );
        let mut first = gateway(shop.addr, directory.path(), &probe);
        let asking = Ask::order("k-1", 1)
            .header("X-Shop-Delay-After", "60s")
            .start(first.addr);
        let until = Instant::now() + PATIENCE;
        while shop.effects() == 0 {
            assert!(Instant::now() < until, "the shop never did it");
        }
        first.process.kill();
        drop(asking);

        let second = gateway(shop.addr, directory.path(), &probe);
        wait_for_state(&second, "done");
        let repeated = second.send(&Ask::order("k-1", 1));
        assert_eq!(repeated.status, told, "{repeated:?}");
        match answer {
            "probe" => assert!(
                repeated.is_replay() && repeated.body.contains("\"tea\""),
                "{repeated:?}"
            ),
            _ => repeated.is(409, "answer-not-kept"),
        }
        assert_eq!(shop.effects(), 1);
        assert_eq!(second.metric(r#"hapax_resolved_total{by="probe",state="done"}"#), 1.0);
        second.process.wait_for_log("an unknown outcome was settled");
        let audit = audit(directory.path());
        assert_eq!(audit["actor"], "probe", "{audit}");
        let saw = audit["reason"].as_str().unwrap();
        assert!(saw.contains("{operation} answered status 200"), "{saw}");
    }
}

#[test]
fn what_is_not_found_runs_again_once_that_is_certain() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let backend = HeldBackend::start();
    let route =
        "respond_async = true\n[route.probe]\nrequest = \"GET /orders/by-operation/{operation}\"\nnot_found = [404]\n";
    let mut first = gateway(backend.addr, directory.path(), route);
    let accepted = first.send(&Ask::order("k-1", 1).header("Prefer", "respond-async"));
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let held = backend.next();
    first.process.kill();
    drop(held);

    let second = gateway(shop.addr, directory.path(), route);
    wait_for_state(&second, "done");
    let repeated = second.send(&Ask::order("k-1", 1));
    assert!(repeated.status == 201 && repeated.is_replay(), "{repeated:?}");
    assert_eq!(shop.effects(), 1);
    assert_eq!(
        second.metric(r#"hapax_resolved_total{by="probe",state="waiting"}"#),
        1.0
    );
    let audit = audit(directory.path());
    assert_eq!(
        (&audit["action"], &audit["actor"]),
        (&"resolve-not-done".into(), &"probe".into()),
        "{audit}"
    );
}

#[test]
fn nonsense_leaves_it_unknown_and_says_what_it_was() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let probe = "[route.probe]\nrequest = \"GET /healthz?{key}\"\npointer = \"/status\"\nfound_values = [\"paid\"]\n";
    let mut gateway = self::gateway(shop.addr, directory.path(), probe);
    let reset = gateway.send(&Ask::order("k-1", 1).header("X-Shop-Fail", "reset-after"));
    assert_eq!(reset.status, 502, "{reset:?}");
    gateway.process.wait_for_log("nobody can tell yet");
    let log = gateway.process.log();
    assert!(
        log.contains("status 200, /status is \\\"ok\\\", which is in neither list"),
        "{log}"
    );
    assert!(!log.contains("k-1"), "a key was logged: {log}");
    gateway.send(&Ask::order("k-1", 1)).is(409, "outcome-unknown");
    assert_eq!(shop.effects(), 1);
    gateway.process.kill();
    // Counted at the start, before anyone asks.
    let gateway = self::gateway(shop.addr, directory.path(), probe);
    let until = Instant::now() + PATIENCE;
    while !gateway.metrics().contains("\nhapax_records_unknown 1\n") {
        assert!(Instant::now() < until, "not counted: {}", gateway.metrics());
    }
    assert!(gateway.metric("hapax_oldest_unknown_seconds") > 0.0);
}
