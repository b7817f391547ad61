use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hapax_testbed::Redis;

use crate::brokers::{a_killed_owner_leaves_nothing, a_run_shares_one_server, ask_text, is_up};

#[test]
fn a_killed_server_comes_back_with_what_was_written() {
    let mut redis = Redis::start();
    let port = redis.port();
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{port}"));
    assert_eq!(ask_text(port, "SET key hello\r\n", "\r\n"), "+OK\r\n");
    let has_it = || ask_text(port, "GET key\r\n", "\r\n") == "$5\r\nhello\r\n";
    assert!(ask_text(port, "CONFIG GET appendfsync\r\n", "always").contains("appendfsync"));

    redis.kill();
    assert!(!is_up(port), "a killed server answers");
    redis.restart();
    assert!(has_it());
    redis.stop();
    assert!(!is_up(port), "a stopped server answers");
    redis.stop();
    redis.restart();
    assert_eq!(redis.port(), port);
    assert!(has_it());
}

#[test]
fn a_server_with_a_login_takes_nobody_else() {
    for user in ["alice", "default"] {
        let redis = Redis::start_with_login(user, "secret");
        let port = redis.port();
        assert_eq!(redis.url(), format!("redis://{user}:secret@127.0.0.1:{port}"));
        let answer = |question: &str| ask_text(port, question, "\r\n");
        assert!(answer("SET key 1\r\n").starts_with("-NOAUTH"));
        assert!(answer(&format!("AUTH {user} wrong\r\n")).starts_with("-WRONGPASS"));
        let set = format!("AUTH {user} secret\r\nSET key 1\r\n");
        assert_eq!(ask_text(port, &set, "OK\r\n+OK\r\n"), "+OK\r\n+OK\r\n");
    }
}

#[test]
fn a_paused_server_takes_connections_and_answers_nothing_until_resumed() {
    let mut redis = Redis::start();
    redis.pause();
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0; 7];
    assert_eq!(stream.read(&mut answer).unwrap_err().kind(), ErrorKind::WouldBlock);

    redis.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn a_killed_owner_leaves_no_server_and_no_directory() {
    a_killed_owner_leaves_nothing("redis");
}

#[test]
fn processes_of_a_run_share_a_server_that_ends_with_it() {
    a_run_shares_one_server("redis");
    assert!(is_up(Redis::shared().port()));
}
