//! `hapax demo`, shortened.

use rustix::process::Signal;

use crate::support::{Process, hapax, program};

#[test]
fn the_demo_shows_the_difference() {
    let ended = hapax(&["demo", "--seconds", "2", "--clients", "32", "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let value = ended.json();
    let (with, without) = (&value["with_hapax"], &value["without"]);
    assert_eq!(value["passed"], true, "{value}");
    assert!(with["operations"].as_u64().unwrap() > 50, "{value}");
    assert_eq!(with["operations"], without["operations"], "the same storm");
    for never in ["doubles", "lost", "differing", "altered_accepted", "gave_up"] {
        assert_eq!(with[never], 0, "{never}: {value}");
    }
    assert!(with["replays"].as_u64().unwrap() > 0, "{value}");
    assert!(without["doubles"].as_u64().unwrap() > 0, "{value}");
    assert!(ended.stderr.contains("kill -9 of hapax"), "{ended:?}");
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = Process::spawn(
        program()
            .args(["demo", "--seconds", "300"])
            .env("TMPDIR", directory.path()),
    );
    demo.wait_for_log("hapax before it on ");
    let log = demo.log();
    let address = log
        .split("hapax before it on ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().code(), Some(3));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let gone = std::net::TcpStream::connect(address.as_str());
    assert!(gone.is_err(), "{address} still listens");
}
