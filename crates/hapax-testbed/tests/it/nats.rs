use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use hapax_testbed::Nats;

use crate::brokers::{a_killed_owner_leaves_nothing, a_run_shares_one_server, ask_text, is_up};

/// Asks JetStream for something and gives its answer.
fn jetstream(port: u16, subject: &str, body: &str) -> String {
    let length = body.len();
    let publish = format!("PUB {subject} up {length}\r\n{body}\r\n");
    let question = format!("CONNECT {{\"verbose\":false}}\r\nSUB up 1\r\n{publish}");
    // The server's greeting ends otherwise.
    ask_text(port, &question, "}\r\n")
}

#[test]
fn a_killed_server_comes_back_with_its_streams_and_messages() {
    let mut nats = Nats::start();
    let port = nats.port();
    assert_eq!(nats.url(), format!("nats://127.0.0.1:{port}"));
    let created = jetstream(port, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    assert!(created.contains(r#""storage":"file""#), "{created}");
    let kept = jetstream(port, "s", "hello");
    assert!(kept.contains(r#""seq":1"#), "{kept}");

    let holds_one = |when: &str| {
        let info = jetstream(port, "$JS.API.STREAM.INFO.S", "");
        assert!(info.contains(r#""messages":1,"#), "{when}: {info}");
    };
    nats.kill();
    assert!(!is_up(port), "a killed server answers");
    nats.restart();
    holds_one("after a kill");
    nats.stop();
    assert!(!is_up(port), "a stopped server answers");
    nats.stop();
    nats.restart();
    assert_eq!(nats.port(), port);
    holds_one("after a stop");
}

#[test]
fn a_server_with_a_login_takes_nobody_else() {
    let nats = Nats::start_with_login("alice", "secret");
    let port = nats.port();
    assert_eq!(nats.url(), format!("nats://alice:secret@127.0.0.1:{port}"));
    let answer = |login: &str| {
        let question = format!("CONNECT {{\"verbose\":false{login}}}\r\nPING\r\n");
        let end = if login.contains("secret") { "PONG" } else { "-ERR" };
        ask_text(port, &question, end)
    };
    answer(r#","user":"alice","pass":"secret""#);
    assert!(answer(r#","user":"alice","pass":"wrong""#).contains("Authorization Violation"));
    assert!(answer("").contains("Authorization Violation"));
}

#[test]
fn a_paused_server_takes_connections_and_greets_nobody_until_resumed() {
    let mut nats = Nats::start();
    nats.pause();
    let mut stream = TcpStream::connect(("127.0.0.1", nats.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0; 4];
    assert_eq!(stream.read(&mut answer).unwrap_err().kind(), ErrorKind::WouldBlock);

    nats.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"INFO");
}

#[test]
fn a_killed_owner_leaves_no_server_and_no_directory() {
    a_killed_owner_leaves_nothing("nats");
}

#[test]
fn processes_of_a_run_share_a_server_that_ends_with_it() {
    a_run_shares_one_server("nats");
    assert!(is_up(Nats::shared().port()));
    assert_eq!(Nats::shared().url(), format!("nats://{}", Nats::shared().address()));
}
