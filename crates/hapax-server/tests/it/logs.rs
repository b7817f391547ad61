//! What is logged: one line a request, and nothing that belongs to the user.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Ask, Gateway, ShopServer};

fn log(format: &str) -> String {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let more = ["--log-format", format, "--log", "trace", "--scope", "header:X-Secret"];
    let mut gateway = Gateway::before(shop.addr, store.path(), &more);
    let ask = Ask::order("secret-key", 1)
        .header("X-Secret", "secret-tenant")
        .path("/orders?secret=query");
    gateway.send(&ask);
    gateway.send(&ask);
    gateway.send(&ask.body(r#"{"secret":"body"}"#));
    gateway.send(&Ask::order("secret-key", 1));
    gateway.send(&Ask::get("/.hapax/operations/secret-key").header("X-Secret", "secret-tenant"));
    gateway.send(&Ask::get("/orders/1?secret=query"));
    gateway.process.signal(Signal::TERM);
    gateway.process.wait();
    gateway.process.log()
}

#[test]
fn text_lines_say_what_became_of_each_request() {
    let log = log("text");
    assert!(!log.to_lowercase().contains("secret"), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" request ")).collect();
    let verdicts: Vec<&str> = lines
        .iter()
        .map(|line| line.split_once("verdict=").unwrap().1.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        verdicts,
        ["done", "replayed", "key-reused", "scope-missing", "status", "passed"],
        "{log}"
    );
    assert!(
        lines[0].contains("method=POST route=default path=/orders status=201 "),
        "{log}"
    );
    assert!(lines[0].contains(" ms="), "{log}");
}

#[test]
fn json_lines_are_json() {
    let log = log("json");
    assert!(!log.to_lowercase().contains("secret"), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    assert_eq!(requests.len(), 6, "{log}");
    assert_eq!(
        (&requests[1]["verdict"], &requests[1]["status"]),
        (&"replayed".into(), &201.into())
    );
    assert!(requests[1]["ms"].is_f64(), "{log}");
    assert!(
        lines
            .iter()
            .all(|line| line["timestamp"].is_string() && line["level"].is_string()),
        "{log}"
    );
}
