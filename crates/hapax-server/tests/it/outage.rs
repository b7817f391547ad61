//! The backend is down: it is left alone, what is known is still answered, and what comes later runs.

use std::time::Instant;

use crate::support::{Ask, Gateway, PATIENCE, ShopServer};

#[test]
fn a_backend_that_is_down_is_left_alone_until_it_is_back() {
    let (mut shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let file = directory.path().join("hapax.toml");
    let text = r#"
        scope = "none"
        [retry]
        tries = 2
        base = "1ms"
        breaker_minimum_calls = 4
        breaker_open = "300ms"
        breaker_open_at_most = "300ms"
        breaker_ramp = "100ms"
    "#;
    std::fs::write(&file, text).unwrap();
    let gateway = Gateway::before(shop.addr, directory.path(), &["--config", file.to_str().unwrap()]);
    let state = r#"hapax_breaker_state{destination="upstream"}"#;
    assert_eq!(gateway.send(&Ask::order("k-0", 1)).status, 201);
    assert_eq!(gateway.metric(state), 0.0);
    shop.process.kill();

    let until = Instant::now() + PATIENCE;
    let mut number = 0;
    let refused = loop {
        number += 1;
        let answer = gateway.send(&Ask::order(&format!("k-{number}"), 1));
        answer.is(503, "upstream-unavailable");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        if gateway.metric(r#"hapax_requests_total{verdict="breaker-open"}"#) > 0.0 {
            break answer;
        }
        assert!(Instant::now() < until, "it never opened: {}", gateway.metrics());
    };
    assert!(refused.body.contains("left alone"), "{refused:?}");
    assert!(gateway.metric(r#"hapax_retries_total{destination="upstream"}"#) >= 1.0);
    assert!(gateway.metric(state) >= 1.0);
    assert!(
        gateway.send(&Ask::order("k-0", 1)).is_replay(),
        "what is known needs no backend"
    );
    gateway.process.wait_for_log("the breaker opened");

    shop.start_again();
    let until = Instant::now() + PATIENCE;
    for number in 1..=number {
        while gateway.send(&Ask::order(&format!("k-{number}"), 1)).status != 201 {
            assert!(Instant::now() < until, "it never came back: {}", gateway.metrics());
        }
    }
    assert_eq!(shop.effects(), 1 + number, "each once");
    gateway.wait_for_metric(state, 0.0);
    gateway.process.wait_for_log("the breaker closed");
}
