use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use hapax_testbed::Nginx;

#[test]
fn nginx_passes_a_request_to_its_upstream() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = upstream.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });

    let nginx = Nginx::start(address);
    let mut client = TcpStream::connect(nginx.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
        .write_all(b"GET /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();

    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(
        served
            .join()
            .unwrap()
            .starts_with("GET /orders HTTP/1.1\r\nHost: shop\r\n")
    );
    let place = nginx.address();
    drop(nginx);
    assert!(TcpStream::connect(place).is_err(), "nginx outlived its value");
}
