//! Ends and restarts.

use std::net::TcpStream;

use rustix::process::Signal;

use crate::support::{Answer, Ask, Gateway, HeldBackend, ShopServer, hapax, sqlite};

#[test]
fn a_request_in_flight_is_answered_before_the_end() {
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::before(backend.addr, store.path(), &[]);
    let mut first = Ask::order("k-1", 1).start(gateway.addr);
    let held = backend.next();
    gateway.process.signal(Signal::TERM);
    gateway.process.wait_for_log("stopping");
    let ready = Ask::get("/readyz").send(gateway.admin);
    assert_eq!(
        (ready.status, ready.body.contains("draining")),
        (503, true),
        "{ready:?}"
    );
    held.answer("made");
    assert_eq!(Answer::read(&mut first).body, "made");
    assert_eq!(gateway.process.wait().code(), Some(0), "{}", gateway.process.log());
    assert!(TcpStream::connect(gateway.addr).is_err());
}

/// What is claimed is run to its end, so that a restart leaves nothing unknown.
#[test]
fn an_operation_whose_client_left_is_finished_before_the_end() {
    let (backend, directory) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::before(backend.addr, directory.path(), &[]);
    let first = Ask::order("k-1", 1).start(gateway.addr);
    let held = backend.next();
    drop(first);
    gateway.process.signal(Signal::TERM);
    gateway.process.wait_for_log("stopping");
    held.answer("made");
    assert_eq!(gateway.process.wait().code(), Some(0), "{}", gateway.process.log());
    let shown = hapax(&["records", "show", "k-1", "--json", "--store", &sqlite(directory.path())]);
    assert_eq!(shown.json()["state"], "done", "{shown:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::before(backend.addr, store.path(), &[]);
    let _first = Ask::order("k-1", 1).start(gateway.addr);
    let _held = backend.next();
    gateway.process.signal(Signal::INT);
    gateway.process.wait_for_log("stopping");
    gateway.process.signal(Signal::INT);
    assert_eq!(gateway.process.wait().code(), Some(1), "{}", gateway.process.log());
}

#[test]
fn what_takes_too_long_to_drain_is_cut_and_said() {
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::before(backend.addr, store.path(), &["--drain-timeout", "50ms"]);
    let _first = Ask::order("k-1", 1).start(gateway.addr);
    let _held = backend.next();
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.wait().code(), Some(1));
    assert!(
        gateway.process.log().contains("1 connections were cut"),
        "{}",
        gateway.process.log()
    );
}

#[test]
fn what_nobody_waits_for_is_missed_too_when_it_is_cut() {
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::before(backend.addr, store.path(), &["--drain-timeout", "50ms"]);
    let first = Ask::order("k-1", 1).start(gateway.addr);
    let _held = backend.next();
    drop(first);
    gateway.wait_for_metric("hapax_requests_in_flight", 0.0);
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.wait().code(), Some(1));
    let log = gateway.process.log();
    assert!(log.contains("1 operations whose clients had left"), "{log}");
}

#[test]
fn a_restart_goes_on_replaying() {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::before(shop.addr, store.path(), &[]);
    let first = gateway.send(&Ask::order("k-1", 1));
    gateway.process.kill();
    let gateway = Gateway::before(shop.addr, store.path(), &[]);
    let again = gateway.send(&Ask::order("k-1", 1));
    assert_eq!((again.is_replay(), &again.body), (true, &first.body));
    gateway.send(&Ask::order("k-1", 2)).is(422, "key-reused");
    assert_eq!(shop.effects(), 1);
}

#[test]
fn a_kill_in_the_middle_is_unknown_once_the_lease_is_over() {
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let short = ["--lease", "200ms", "--wait", "20s"];
    let mut gateway = Gateway::before(backend.addr, store.path(), &short);
    let _first = Ask::order("k-1", 1).start(gateway.addr);
    let _held = backend.next();
    gateway.process.kill();
    let gateway = Gateway::before(backend.addr, store.path(), &short);
    gateway.send(&Ask::order("k-1", 1)).is(409, "outcome-unknown");
}
