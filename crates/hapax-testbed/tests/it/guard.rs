use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hapax_testbed::{Guard, Postgres, Signal};

use crate::{Holder, eventually, query};

pub(crate) fn alive(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

#[test]
fn a_killed_owner_leaves_no_server_and_no_directory() {
    let mut holder = Holder::start(&["postgres"], |_| {});
    let data = query(&holder.url, "SHOW data_directory").unwrap();
    let place = Path::new(&data).parent().unwrap().to_owned();
    let server: u32 = fs::read_to_string(format!("{data}/postmaster.pid"))
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(alive(server) && place.exists());

    holder.process.kill().unwrap();
    eventually("the end of the server", Duration::from_secs(20), || !alive(server));
    eventually("the end of its directory", Duration::from_secs(20), || !place.exists());
}

#[test]
fn a_guard_passes_environment_and_directory_and_says_how_the_command_ended() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "echo \"$WORD in $PWD\"; exit 7"])
        .env("WORD", "hapax");
    command.current_dir("/usr");
    let mut guard = Guard::spawn(&command, Signal::Terminate, &log).unwrap();
    let status = guard.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(7));
    assert_eq!(fs::read_to_string(log).unwrap(), "hapax in /usr\n");
}

#[test]
fn a_tree_is_killed_with_its_children() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "sleep 1000 & echo $!; wait"]);
    let mut guard = Guard::spawn(&command, Signal::Terminate, &log).unwrap();
    let mut child = 0;
    eventually("the child's id in the log", Duration::from_secs(10), || {
        child = fs::read_to_string(&log).unwrap_or_default().trim().parse().unwrap_or(0);
        child != 0
    });
    assert!(alive(child));

    guard.signal_tree(Signal::Kill);
    assert_eq!(guard.wait(Duration::from_secs(10)).unwrap().code(), Some(128 + 9));
    assert!(!alive(child) && !alive(guard.id()));
}

#[test]
fn a_dropped_guard_ends_a_frozen_server() {
    let mut postgres = Postgres::start();
    let port = postgres.port();
    postgres.pause();
    let start = Instant::now();
    drop(postgres);
    assert!(start.elapsed() < Duration::from_secs(10), "it had to be killed");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}
