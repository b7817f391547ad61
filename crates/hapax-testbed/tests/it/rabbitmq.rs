use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hapax_testbed::RabbitMq;

use crate::brokers::{a_killed_owner_leaves_nothing, a_run_shares_one_server, is_up};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// A connection with one channel, and as much of AMQP as these tests need.
struct Amqp {
    stream: TcpStream,
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

impl Amqp {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut amqp = Self { stream };
        amqp.stream.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
        amqp.expect(METHOD, [10, 10]);
        let login = [long(b""), short("PLAIN"), long(b"\0guest\0guest"), short("en_US")].concat();
        amqp.call(0, [10, 11], &login, [10, 30]);
        // As many channels and as large frames as the server offers, and no heartbeats.
        amqp.method(0, [10, 31], &[7, 255, 0, 2, 0, 0, 0, 0]);
        amqp.call(0, [10, 40], &[short("/"), short(""), vec![0]].concat(), [10, 41]);
        amqp.call(1, [20, 10], &short(""), [20, 11]);
        amqp
    }

    fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        let frame = [&[kind, 0, channel], &*long(payload), &[0xce]].concat();
        self.stream.write_all(&frame).unwrap();
    }

    fn method(&mut self, channel: u8, [class, method]: [u8; 2], arguments: &[u8]) {
        self.frame(METHOD, channel, &[&[0, class, 0, method], arguments].concat());
    }

    fn call(&mut self, channel: u8, method: [u8; 2], arguments: &[u8], answer: [u8; 2]) -> Vec<u8> {
        self.method(channel, method, arguments);
        self.expect(METHOD, answer)
    }

    /// The next frame, which is of this kind and, if a method, that one: what follows the method.
    #[track_caller]
    fn expect(&mut self, kind: u8, [class, method]: [u8; 2]) -> Vec<u8> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes(head[3..].try_into().unwrap());
        let mut payload = vec![0; usize::try_from(length).unwrap() + 1];
        self.stream.read_exact(&mut payload).unwrap();
        payload.pop();
        let text = String::from_utf8_lossy(&payload).into_owned();
        assert_eq!(head[0], kind, "{text}");
        if kind == METHOD {
            assert_eq!(payload[..4], [0, class, 0, method], "{text}");
            payload.drain(..4);
        }
        payload
    }

    fn declare_quorum_queue(&mut self, name: &str) {
        const DURABLE: u8 = 2;
        let table = [short("x-queue-type"), vec![b'S'], long(b"quorum")].concat();
        let arguments = [vec![0, 0], short(name), vec![DURABLE], long(&table)].concat();
        self.call(1, [50, 10], &arguments, [50, 11]);
    }

    /// Returns when the server has taken the message over.
    fn publish(&mut self, queue: &str, body: &str) {
        self.call(1, [85, 10], &[0], [85, 11]);
        self.method(1, [60, 40], &[vec![0, 0], short(""), short(queue), vec![0]].concat());
        let length = u64::try_from(body.len()).unwrap().to_be_bytes();
        // It has a delivery mode, which is "persistent".
        self.frame(HEADER, 1, &[&[0, 60, 0, 0], &length[..], &[0x10, 0, 2]].concat());
        self.frame(BODY, 1, body.as_bytes());
        self.expect(METHOD, [60, 80]);
    }

    /// Looks at the next message; it goes back when the connection ends.
    fn peek(&mut self, queue: &str) -> String {
        self.call(1, [60, 70], &[vec![0, 0], short(queue), vec![0]].concat(), [60, 71]);
        self.expect(HEADER, [0, 0]);
        String::from_utf8(self.expect(BODY, [0, 0])).unwrap()
    }
}

#[test]
fn a_killed_server_comes_back_with_its_quorum_queues_and_messages() {
    let mut rabbit = RabbitMq::start();
    let port = rabbit.port();
    assert_eq!(rabbit.url(), format!("amqp://guest:guest@127.0.0.1:{port}/%2f"));
    let mut amqp = Amqp::connect(port);
    amqp.declare_quorum_queue("q");
    rabbit.flush();
    amqp.publish("q", "hello");

    rabbit.kill();
    assert!(!is_up(port), "a killed server answers");
    rabbit.restart();
    assert_eq!(Amqp::connect(port).peek("q"), "hello");
    rabbit.stop();
    assert!(!is_up(port), "a stopped server answers");
    rabbit.stop();
    rabbit.restart();
    assert_eq!(rabbit.port(), port);
    assert_eq!(Amqp::connect(port).peek("q"), "hello");
    assert_eq!(
        rabbit.ctl(&["list_queues", "--no-table-headers", "name", "type"]),
        "q\tquorum"
    );
}

#[test]
fn a_paused_server_takes_connections_and_answers_nothing_until_resumed() {
    let mut rabbit = RabbitMq::start();
    rabbit.pause();
    let mut stream = TcpStream::connect(("127.0.0.1", rabbit.port())).unwrap();
    stream.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0];
    let error = stream.read(&mut answer).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);

    rabbit.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [METHOD]);
}

#[test]
fn a_killed_owner_leaves_no_server_no_helper_and_no_directory() {
    a_killed_owner_leaves_nothing("rabbitmq");
}

#[test]
fn processes_of_a_run_share_a_server_that_ends_with_it() {
    a_run_shares_one_server("rabbitmq");
    assert!(is_up(RabbitMq::shared().port()));
}
