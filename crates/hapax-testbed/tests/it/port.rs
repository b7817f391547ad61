use std::collections::HashSet;
use std::net::TcpListener;

use hapax_testbed::FreePort;

#[test]
fn no_port_is_given_twice_while_it_is_held() {
    let held: Vec<FreePort> = (0..50).map(|_| FreePort::take()).collect();
    let numbers: HashSet<u16> = held.iter().map(FreePort::number).collect();
    assert_eq!(numbers.len(), held.len());
    for port in &held {
        TcpListener::bind(port.address()).expect("nobody listens on it");
    }
}
