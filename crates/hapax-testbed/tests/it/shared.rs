use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use hapax_testbed::Postgres;

use crate::{Holder, eventually, query};

/// Makes the holder's parent, which is this test, the leader of the run.
pub(crate) fn led_by_parent(command: &mut Command) {
    command
        .env_remove("HAPAX_TEST_POSTGRES")
        .env("NEXTEST_RUN_ID", "a test's own");
}

fn server_of(url: &str) -> &str {
    url.rsplit_once('/').unwrap().0
}

#[test]
fn two_processes_of_a_run_share_a_server_and_have_a_database_each() {
    let one = Holder::start(&["shared"], led_by_parent);
    let two = Holder::start(&["shared"], led_by_parent);
    assert_eq!(server_of(&one.url), server_of(&two.url));
    assert_ne!(one.url, two.url);
    query(&one.url, "CREATE TABLE t ()").unwrap();
    assert!(query(&two.url, "SELECT FROM t").is_err());

    let databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'";
    let server = format!("{}/postgres", server_of(&two.url));
    assert_eq!(query(&server, databases).unwrap(), "2");
    drop(one);
    assert_eq!(
        query(&server, databases).unwrap(),
        "1",
        "the server outlives its first user"
    );
}

#[test]
fn processes_that_ask_at_once_get_one_server() {
    let mut started = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| Holder::start(&["shared"], led_by_parent)))
            .collect();
        started.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
    });
    for holder in &started {
        assert_eq!(server_of(&holder.url), server_of(&started[0].url));
    }
}

#[test]
fn the_server_of_a_run_ends_with_its_leader() {
    // The shell is the leader: it asks twice, says both answers, and waits.
    let program = env!("CARGO_BIN_EXE_hapax-testbed");
    let ask = format!("{program} shared </dev/null");
    let mut leader = Command::new("/bin/sh");
    leader.args(["-c", &format!("{ask}; {ask}; read end; exit 0")]);
    led_by_parent(&mut leader);
    leader.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut leader = leader.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(leader.stdout.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    let second = lines.next().unwrap().unwrap();
    assert_eq!(server_of(&first), server_of(&second));

    let address = server_of(&first).rsplit_once('@').unwrap().1;
    assert!(
        TcpStream::connect(address).is_ok(),
        "the server lives while its leader does"
    );
    leader.kill().unwrap();
    leader.wait().unwrap();
    eventually("the end of the shared server", Duration::from_secs(20), || {
        TcpStream::connect(address).is_err()
    });
}

#[test]
fn a_named_server_is_used_as_it_is() {
    let own = Postgres::start();
    let holder = Holder::start(&["shared"], |command| {
        command.env("HAPAX_TEST_POSTGRES", own.url());
    });
    assert_eq!(server_of(&holder.url), server_of(&own.url()));
}

#[test]
fn a_test_gets_an_empty_database_that_goes_with_it() {
    let server = Postgres::shared();
    let database = server.database();
    let name = database.name().to_owned();
    assert_eq!(database.query("SELECT current_database()"), name);
    let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(query(server.url(), &there).unwrap(), "1");
    drop(database);
    assert_eq!(query(server.url(), &there).unwrap(), "0");
}
