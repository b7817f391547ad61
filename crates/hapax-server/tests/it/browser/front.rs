//! A server between the gateway and the shop: it takes the page's report, and misbehaves under `/stub/`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The server; it ends with the test's process.
pub(super) struct Front {
    pub(super) addr: SocketAddr,
    reports: Receiver<String>,
}

struct Shared {
    shop: SocketAddr,
    reports: Sender<String>,
    /// How often each path was asked for.
    asked: Mutex<HashMap<String, u32>>,
}

impl Front {
    pub(super) fn start(shop: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, reports) = channel();
        let shared = Arc::new(Shared {
            shop,
            reports: sender,
            asked: Mutex::default(),
        });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || {
                    if let Some(request) = Request::read(&stream) {
                        // Who has gone hears nothing.
                        let _ = shared.answer(&request, stream);
                    }
                });
            }
        });
        Self { addr, reports }
    }

    /// What the page reports, if it does within `limit`.
    pub(super) fn report(&self, limit: Duration) -> Option<String> {
        self.reports.recv_timeout(limit).ok()
    }
}

impl Shared {
    fn answer(&self, request: &Request, mut to: TcpStream) -> std::io::Result<()> {
        let status = request.path.strip_prefix("/.hapax/operations/");
        let count = self.count(&request.path);
        let key = request.header("idempotency-key");
        let told = format!(r#"{{"key":"{key}","tries":{count}}}"#);
        match request.path.as_str() {
            "/report" => {
                let _ = self.reports.send(request.body.clone());
                reply(&mut to, "204 No Content", "", "")
            }
            "/stub/drop" if count < 3 => to.shutdown(Shutdown::Both),
            "/stub/cut" if count < 2 => {
                to.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{\"half\":")
            }
            "/stub/async" if count < 2 => {
                let location = format!("Location: /.hapax/operations/{key}\r\nRetry-After: 0\r\n");
                assert!(request.header("prefer").contains("respond-async"), "{request:?}");
                reply(&mut to, "202 Accepted", &location, "{}")
            }
            "/stub/async" => reply(&mut to, "201 Created", "Idempotent-Replayed: true\r\n", &told),
            path if path.starts_with("/stub/") => reply(&mut to, "201 Created", "", &told),
            _ if status.is_some() => {
                let state = ["waiting", "running", "done"][(count as usize - 1).min(2)];
                let body = format!(r#"{{"state":"{state}","tries":{count},"since":"2001-01-01T00:00:00.000Z"}}"#);
                reply(&mut to, "200 OK", "Retry-After: 0\r\n", &body)
            }
            _ => self.relay(request, &mut to),
        }
    }

    fn count(&self, path: &str) -> u32 {
        let mut asked = self.asked.lock().unwrap();
        let count = asked.entry(path.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// The shop's own answer; without one, the connection ends as the shop's did.
    fn relay(&self, request: &Request, to: &mut TcpStream) -> std::io::Result<()> {
        let mut shop = TcpStream::connect(self.shop)?;
        let lines = request.head.lines();
        let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let head: String = kept.map(|line| format!("{line}\r\n")).collect();
        write!(shop, "{head}Connection: close\r\n\r\n{}", request.body)?;
        std::io::copy(&mut shop, to)?;
        Ok(())
    }
}

fn reply(to: &mut TcpStream, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    write!(
        to,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// A request that has arrived whole. Bodies have a length here: the gateway and the browser give it.
#[derive(Debug)]
struct Request {
    path: String,
    head: String,
    body: String,
}

impl Request {
    fn read(mut stream: &TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&buffer[..read]);
            let text = std::str::from_utf8(&bytes).ok();
            let Some((head, body)) = text.and_then(|text| text.split_once("\r\n\r\n")) else {
                continue;
            };
            let request = Self {
                path: head.split([' ', '?']).nth(1)?.to_owned(),
                head: head.to_owned(),
                body: body.to_owned(),
            };
            if request.body.len() >= request.header("content-length").parse().unwrap_or(0) {
                return Some(request);
            }
        }
    }

    /// A header's value; empty if it is not there.
    fn header(&self, name: &str) -> &str {
        let named = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values = named.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.next().map_or("", |(_, value)| value.trim())
    }
}
