use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hapax_testbed::Postgres;

use crate::{eventually, query};

#[test]
fn a_server_starts_with_flushing_on_and_goes_without_a_trace() {
    let postgres = Postgres::start();
    assert_eq!(postgres.query("SHOW fsync"), "on");
    let data = postgres.query("SHOW data_directory");
    let place = Path::new(&data).parent().unwrap().to_owned();
    assert!(place.exists());

    let port = postgres.port();
    drop(postgres);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the server goes on");
    assert!(!place.exists(), "{} is still there", place.display());
}

#[test]
fn options_reach_the_server() {
    let postgres = Postgres::options().fsync(false).set("max_connections", "17").start();
    assert_eq!(postgres.query("SHOW fsync"), "off");
    assert_eq!(postgres.query("SHOW max_connections"), "17");
}

#[test]
fn two_databases_of_one_server_are_apart() {
    let postgres = Postgres::start();
    let one = postgres.create_database("one");
    let odd = postgres.create_database("two\"s");
    query(&one, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(query(&one, "SELECT n FROM t").unwrap(), "1");
    assert!(query(&odd, "SELECT n FROM t").unwrap_err().contains("does not exist"));
}

#[test]
fn a_restart_keeps_port_and_data() {
    let mut postgres = Postgres::start();
    let url = postgres.url();
    postgres.query("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");

    postgres.stop();
    assert!(query(&url, "SELECT 1").is_err(), "a stopped server answers");
    postgres.stop();
    postgres.restart();
    assert_eq!(query(&url, "SELECT n FROM t").unwrap(), "1");
    postgres.restart();
    assert_eq!(query(&url, "SELECT n FROM t").unwrap(), "1");
}

#[test]
fn a_kill_ends_every_session_and_loses_nothing_committed() {
    let mut postgres = Postgres::start();
    let url = postgres.url();
    postgres.query("CREATE TABLE t (n int)");
    let mut session = Command::new("psql")
        .args(["-X", "-q", "-d", &url, "-c", "BEGIN; INSERT INTO t VALUES (2)"])
        .args(["-c", "SELECT pg_sleep(1000)"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let sleeping = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let mut backend = String::new();
    eventually("the open transaction", Duration::from_secs(10), || {
        backend = postgres.query(sleeping);
        !backend.is_empty()
    });
    postgres.query("INSERT INTO t VALUES (1)");

    postgres.kill();
    let stat = fs::read_to_string(format!("/proc/{backend}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the session survived: {stat}");
    assert!(!session.wait().unwrap().success());
    assert!(query(&url, "SELECT 1").is_err(), "a killed server answers");

    postgres.restart();
    assert_eq!(postgres.query("SELECT n FROM t"), "1");
}

#[test]
fn a_killed_server_leaves_no_shared_memory() {
    let mut postgres = Postgres::start();
    let data = postgres.query("SHOW data_directory");
    let lock = fs::read_to_string(format!("{data}/postmaster.pid")).unwrap();
    let segment = lock.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap();
    let exists = || {
        let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        segments
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some(segment))
    };
    assert!(exists());
    postgres.kill();
    assert!(exists(), "the kernel keeps the segment of a killed server");
    drop(postgres);
    assert!(!exists());
}

#[test]
fn a_paused_server_takes_connections_and_answers_nothing_until_resumed() {
    let mut postgres = Postgres::start();
    postgres.pause();
    let mut stream = TcpStream::connect(("127.0.0.1", postgres.port())).unwrap();
    // "Do you speak TLS?", which every server answers with one byte.
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0];
    let error = stream.read(&mut answer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);

    postgres.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"N");
}
