//! The admin listener.

use crate::support::{Ask, Gateway, HeldBackend, ShopServer};

#[test]
fn health_readiness_and_metrics() {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, store.path(), &[]);
    let ask = |path: &str| Ask::get(path).send(gateway.admin);
    assert_eq!((ask("/healthz").status, &*ask("/healthz").body), (200, "ok\n"));
    let ready = ask("/readyz");
    assert!(
        ready.status == 200 && ready.body.contains(r#""ready":true"#),
        "{ready:?}"
    );
    assert_eq!(ask("/nothing").status, 404);
    assert_eq!(gateway.send(&Ask::get("/metrics")).status, 404, "not where clients are");
    for _ in 0..3 {
        gateway.send(&Ask::order("k-1", 1));
    }
    gateway.send(&Ask::order("k-1", 2));
    for (metric, value) in [
        (r#"hapax_requests_total{verdict="done"}"#, 1.0),
        (r#"hapax_requests_total{verdict="replayed"}"#, 2.0),
        (r#"hapax_requests_total{verdict="key-reused"}"#, 1.0),
        (r#"hapax_requests_total{verdict="passed"}"#, 1.0),
        (r#"hapax_responses_total{class="2xx"}"#, 3.0),
        (r#"hapax_runs_finished_total{state="done"}"#, 1.0),
        (r#"hapax_duplicates_total{told="replay"}"#, 2.0),
        (r#"hapax_run_seconds_bucket{le="+Inf"}"#, 1.0),
        ("hapax_request_seconds_count", 5.0),
        ("hapax_requests_in_flight", 0.0),
        ("hapax_store_up", 1.0),
        ("hapax_clock_jump_seconds", 0.0),
    ] {
        assert_eq!(gateway.metric(metric), value, "{metric}");
    }
}

/// Prometheus refuses a page with one malformed line.
#[test]
fn every_line_of_the_metrics_is_one() {
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(backend.addr, store.path(), &[]);
    let page = gateway.metrics();
    let described = include_str!("../../../../docs/metrics.md");
    let mut types = 0;
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next()) {
            types += 1;
            assert!(described.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("hapax_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(types > 20, "{page}");
}

#[test]
fn a_jump_of_the_clock_is_accepted_by_a_person_not_by_a_page() {
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(backend.addr, store.path(), &[]);
    let accept = Ask::new("POST", "/clock/accept");
    let accepted = accept.send(gateway.admin);
    assert_eq!(
        (accepted.status, &*accepted.body),
        (200, "{\"accepted_jump_seconds\":null}\n")
    );
    assert_eq!(
        accept
            .clone()
            .header("Origin", "http://evil.example")
            .send(gateway.admin)
            .status,
        403
    );
    let wrong = Ask::get("/clock/accept").send(gateway.admin);
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
}
