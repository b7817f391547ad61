//! Quotas: one tenant's flood is its own trouble.

use serde_json::Value;

use crate::support::{Answer, Ask, Gateway, HeldBackend, ShopServer};

fn order(key: &str, tenant: &str) -> Ask {
    Ask::order(key, 1).header("X-Tenant", tenant)
}

fn before(upstream: std::net::SocketAddr, directory: &std::path::Path, quota: &str) -> Gateway {
    let file = directory.join("hapax.toml");
    std::fs::write(&file, format!("scope = \"header:X-Tenant\"\n[quota]\n{quota}\n")).unwrap();
    let file = file.to_str().unwrap();
    Gateway::before(upstream, directory, &["--scope", "header:X-Tenant", "--config", file])
}

#[track_caller]
fn is_over(answer: &Answer, limit: &str) {
    assert_eq!(answer.status, 429, "{answer:?}");
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["limit"], limit, "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

#[test]
fn a_flood_of_new_operations_leaves_others_alone() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = before(shop.addr, directory.path(), "new_per_second = 0.001");
    assert_eq!(gateway.send(&order("k-1", "loud")).status, 201);
    for number in 2..30 {
        let flooding = gateway.send(&order(&format!("k-{number}"), "loud"));
        is_over(&flooding, "quota.new_per_second");
    }
    assert!(
        gateway.send(&order("k-1", "loud")).is_replay(),
        "a duplicate is not new"
    );
    assert_eq!(gateway.send(&order("k-1", "quiet")).status, 201);
    assert_eq!(
        gateway.metric(r#"hapax_requests_total{verdict="quota.new_per_second"}"#),
        28.0
    );
    assert_eq!(shop.effects(), 2);
}

#[test]
fn what_one_tenant_has_in_flight_is_bounded() {
    let (backend, directory) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let gateway = before(backend.addr, directory.path(), "in_flight = 1");
    let mut loud = order("k-1", "loud").start(gateway.addr);
    let first = backend.next();
    is_over(&gateway.send(&order("k-2", "loud")), "quota.in_flight");
    let mut quiet = order("k-1", "quiet").start(gateway.addr);
    backend.next().answer("quiet");
    assert_eq!(Answer::read(&mut quiet).body, "quiet");
    first.answer("loud");
    assert_eq!(Answer::read(&mut loud).body, "loud");
}

#[test]
fn records_are_bounded() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = before(shop.addr, directory.path(), "records = 3");
    for key in ["k-1", "k-2"] {
        assert_eq!(gateway.send(&order(key, "loud")).status, 201);
    }
    // One that was in flight while records were counted may count twice.
    gateway.send(&order("k-3", "loud"));
    is_over(&gateway.send(&order("k-4", "loud")), "quota.records");
    assert_eq!(gateway.send(&order("k-4", "quiet")).status, 201);
}
