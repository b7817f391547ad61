//! A client of NATS that does no more than these tests ask for, in the protocol's own words.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::PATIENCE;

pub(super) struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    /// Where answers come to.
    inbox: String,
}

impl Client {
    pub(super) fn connect(address: &str) -> Self {
        let writer = TcpStream::connect(address).unwrap();
        writer.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(writer.try_clone().unwrap());
        let inbox = format!("answers.{}", writer.local_addr().unwrap().port());
        let hello = format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB {inbox} 1\r\n");
        let mut client = Self { reader, writer, inbox };
        client.send(hello.as_bytes());
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
    }

    /// A stream in files that takes these subjects, with these settings beside.
    pub(super) fn stream(&mut self, name: &str, subjects: &[&str], more: &[(&str, Value)]) {
        let mut config = json!({"name": name, "subjects": subjects, "storage": "file"});
        for (key, value) in more {
            config[key] = value.clone();
        }
        self.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &config);
    }

    /// Returns when the stream has it.
    pub(super) fn publish(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) {
        let mut head = "NATS/1.0\r\n".to_owned();
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let (head_bytes, all) = (head.len(), head.len() + payload.len());
        let command = format!("HPUB {subject} {} {head_bytes} {all}\r\n{head}", self.inbox);
        self.send(&[command.as_bytes(), payload, b"\r\n"].concat());
        let answer = self.answer();
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// What the server says of a stream's durable consumer, such as `num_pending`.
    pub(super) fn consumer(&mut self, stream: &str, name: &str) -> Value {
        self.ask(&format!("$JS.API.CONSUMER.INFO.{stream}.{name}"), &json!({}))
    }

    pub(super) fn ask(&mut self, subject: &str, question: &Value) -> Value {
        let question = question.to_string();
        let command = format!("PUB {subject} {} {}\r\n{question}\r\n", self.inbox, question.len());
        self.send(command.as_bytes());
        let answer = self.answer();
        assert!(answer.get("error").is_none(), "{subject}: {answer}");
        answer
    }

    fn answer(&mut self) -> Value {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["MSG", .., size] => {
                    let mut payload = vec![0; size.parse::<usize>().unwrap() + 2];
                    self.reader.read_exact(&mut payload).unwrap();
                    return serde_json::from_slice(&payload).unwrap();
                }
                ["PING"] => self.send(b"PONG\r\n"),
                ["-ERR", ..] | [] => panic!("NATS said {line:?}"),
                _ => {}
            }
        }
    }
}
