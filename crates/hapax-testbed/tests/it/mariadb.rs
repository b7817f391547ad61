use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use hapax_testbed::MariaDb;

use crate::Holder;

#[test]
fn a_server_starts_with_flushing_on_and_goes_without_a_trace() {
    let server = MariaDb::start();
    assert_eq!(
        server
            .query("SELECT @@innodb_flush_log_at_trx_commit, @@port")
            .split('\t')
            .next(),
        Some("1")
    );
    let data = server.query("SELECT @@datadir");
    let place = Path::new(&data).parent().unwrap().to_owned();
    assert!(place.exists());

    let port = server.port();
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the server goes on");
    assert!(!place.exists(), "{} is still there", place.display());
}

#[test]
fn a_killed_server_comes_back_with_what_was_committed() {
    let mut server = MariaDb::start();
    let port = server.port();
    server.create_database("shop");
    server.query("CREATE TABLE shop.t (n int) ENGINE=InnoDB; INSERT INTO shop.t VALUES (7)");
    server.kill();
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "a killed server answers"
    );
    server.restart();
    assert_eq!(
        (server.port(), server.query("SELECT n FROM shop.t").as_str()),
        (port, "7")
    );
}

#[test]
fn a_run_shares_one_server_and_each_test_has_a_database() {
    let (one, two) = (MariaDb::shared().database(), MariaDb::shared().database());
    one.query("CREATE TABLE t (n int)");
    assert_eq!(one.query("SHOW TABLES"), "t");
    assert_eq!(two.query("SHOW TABLES"), "");
    let name = two.name().to_owned();
    drop(two);
    assert!(!one.query("SHOW DATABASES").contains(&name));
}

#[test]
fn a_server_by_hand_ends_with_its_input() {
    let holder = Holder::start(&["mariadb"], |_: &mut Command| {});
    let port: u16 = holder
        .url
        .trim_end_matches("/mysql")
        .rsplit_once(':')
        .unwrap()
        .1
        .parse()
        .unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    drop(holder);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}
