//! `Prefer: respond-async`: accepted now, run later, once, whatever happens in between.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Answer, Ask, Gateway, HeldBackend, PATIENCE, ShopServer, hapax, sqlite};

/// An order to be run later.
fn order(key: &str) -> Ask {
    Ask::order(key, 1).header("Prefer", "respond-async")
}

#[track_caller]
fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.header("preference-applied"), Some("respond-async"), "{answer:?}");
    answer.header("location").unwrap().to_owned()
}

/// Asks for the status until the operation is in this state.
#[track_caller]
fn wait_for(gateway: &Gateway, location: &str, state: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = gateway.send(&Ask::get(location));
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

/// An address that nobody listens on.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn an_accepted_request_runs_once_and_is_replayed() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, directory.path(), &["--respond-async"]);
    gateway.process.wait_for_log("stored in clear text");
    let location = accepted(&gateway.send(&order("k-1")));
    assert_eq!(location, "/.hapax/operations/k-1");
    let status = wait_for(&gateway, &location, "done");
    assert_eq!(
        (&status["answer"]["status"], &status["needs_help"]),
        (&201.into(), &false.into())
    );
    let replayed = gateway.send(&order("k-1"));
    assert!(replayed.status == 201 && replayed.is_replay(), "{replayed:?}");
    assert!(
        gateway.send(&Ask::order("k-1", 1)).is_replay(),
        "without the preference too"
    );
    assert_eq!(shop.effects(), 1);
    for (metric, value) in [
        ("hapax_async_accepted_total", 1.0),
        (r#"hapax_runner_taken_total{to="run"}"#, 1.0),
        (r#"hapax_requests_total{verdict="accepted"}"#, 1.0),
        ("hapax_duplicates_absorbed_total", 2.0),
    ] {
        assert_eq!(gateway.metric(metric), value, "{metric}");
    }
}

#[test]
fn without_leave_the_preference_is_ignored() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, directory.path(), &[]);
    assert_eq!(gateway.send(&order("k-1")).status, 201);
}

#[test]
fn an_accepted_request_survives_a_kill() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    // The kill may hit a try, which cannot have reached anybody: but only we know.
    let options = ["--respond-async", "--lease", "1s", "--after-failure", "retry"];
    let mut gateway = Gateway::before(nobody(), directory.path(), &options);
    let location = accepted(&gateway.send(&order("k-1")));
    assert_eq!(accepted(&gateway.send(&order("k-1"))), location, "the same as before");
    gateway.process.kill();
    assert_eq!(shop.effects(), 0);
    let gateway = Gateway::before(shop.addr, directory.path(), &options);
    wait_for(&gateway, &location, "done");
    assert!(gateway.send(&order("k-1")).is_replay());
    assert_eq!(shop.effects(), 1);
}

#[test]
fn a_run_in_progress_is_ended_before_the_process_is() {
    let (backend, directory) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::before(backend.addr, directory.path(), &["--respond-async"]);
    let location = accepted(&gateway.send(&order("k-1")));
    let held = backend.next();
    assert!(
        held.text.to_ascii_lowercase().contains("idempotency-key: k-1"),
        "{}",
        held.text
    );
    gateway.process.signal(Signal::TERM);
    gateway.process.wait_for_log("waiting for what the runner runs");
    held.answer("made");
    assert!(gateway.process.wait().success(), "{}", gateway.process.log());
    let gateway = Gateway::before(backend.addr, directory.path(), &["--respond-async"]);
    wait_for(&gateway, &location, "done");
    assert_eq!(gateway.send(&order("k-1")).body, "made");
}

/// Paused in the middle of a run, given up by a person, run again by another process; then it wakes up.
#[test]
fn a_stale_attempt_that_wakes_up_after_a_redrive_cannot_finish_it() {
    let (backend, directory) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let options = ["--respond-async", "--lease", "1s"];
    let paused = Gateway::before(backend.addr, directory.path(), &options);
    let location = accepted(&paused.send(&order("k-1")));
    let stale = backend.next();
    paused.process.signal(Signal::STOP);

    let other = Gateway::before(backend.addr, directory.path(), &options);
    wait_for(&other, &location, "unknown");
    let store = sqlite(directory.path());
    for command in [
        &["records", "resolve", "k-1", "--dead"][..],
        &["dead", "redrive", "k-1"],
    ] {
        let more = ["--store", &store, "--reason", "its gateway hangs", "--actor", "ann"];
        let ended = hapax(&[command, &more].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    backend.next().answer("fresh");
    wait_for(&other, &location, "done");

    paused.process.signal(Signal::CONT);
    stale.answer("stale");
    paused.wait_for_metric("hapax_fenced_total", 1.0);
    for gateway in [&paused, &other] {
        let replayed = gateway.send(&order("k-1"));
        assert!(replayed.is_replay() && replayed.body == "fresh", "{replayed:?}");
    }
    assert_eq!(paused.metric(r#"hapax_runs_finished_total{state="done"}"#), 0.0);
    assert_eq!(other.metric(r#"hapax_runs_finished_total{state="done"}"#), 1.0);
    assert_eq!(backend.held(), 0, "a third run");
}

#[test]
fn what_no_retry_mends_is_a_dead_letter_that_says_so() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, directory.path(), &["--respond-async"]);
    let refused = order("k-secret").header("X-Shop-Fail", "403-before");
    let location = accepted(&gateway.send(&refused));
    let status = wait_for(&gateway, &location, "dead");
    assert_eq!(
        (&status["reason"], &status["needs_help"]),
        (&"refused".into(), &true.into())
    );
    gateway.process.wait_for_log("a dead letter");
    let log = gateway.process.log();
    assert!(log.contains("reason=\"refused\"") && !log.contains("k-secret"), "{log}");
    assert_eq!(gateway.metric(r#"hapax_died_total{reason="refused"}"#), 1.0);
    assert_eq!(shop.effects(), 0);
}

/// Whether a text is anywhere in the files of a database.
fn is_at_rest(directory: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let mut databases = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("hapax.db"));
    databases.any(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn a_stored_request_is_not_readable_at_rest() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let key_file = |name: &str, digit: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, digit.repeat(64)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, new) = (key_file("old.key", "1"), key_file("new.key", "2"));
    let secret = |key: &str| order(key).body(r#"{"customer":"zanzibar","item":"tea","quantity":1}"#);
    let start = |upstream, key_files: &[&str]| {
        let file = directory.path().join("hapax.toml");
        let text = format!(
            "respond_async = true\nafter_failure = \"retry\"\nscope = \"none\"\nlease = \"1s\"\n[input]\nkey_files = {key_files:?}\n"
        );
        std::fs::write(&file, text).unwrap();
        Gateway::before(upstream, directory.path(), &["--config", file.to_str().unwrap()])
    };

    let mut gateway = start(nobody(), &[&old]);
    let location = accepted(&gateway.send(&secret("k-1")));
    gateway.process.kill();
    assert!(!is_at_rest(directory.path(), "zanzibar"), "encrypted");
    assert!(is_at_rest(directory.path(), "k-1"), "the files are the right ones");

    let mut gateway = start(shop.addr, &[&new, &old]);
    wait_for(&gateway, &location, "done");
    assert!(
        !gateway.process.log().contains("clear text"),
        "{}",
        gateway.process.log()
    );
    gateway.process.kill();
    assert_eq!(shop.effects(), 1, "what the old key sealed is run after a rotation");

    let mut gateway = start(nobody(), &[]);
    let location = accepted(&gateway.send(&secret("k-2")));
    gateway.process.kill();
    assert!(is_at_rest(directory.path(), "zanzibar"), "without a key, as it came");
    let gateway = start(shop.addr, &[&new]);
    wait_for(&gateway, &location, "done");
    assert_eq!(shop.effects(), 2, "what is plain is run with a key too");
}
