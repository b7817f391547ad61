//! A backend that does as the test says.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::PATIENCE;

/// A backend that holds each request until the test says what to do with it.
pub(crate) struct HeldBackend {
    pub(crate) addr: SocketAddr,
    arrived: Arc<(Mutex<VecDeque<Held>>, Condvar)>,
}

/// A request that has arrived whole.
pub(crate) struct Held {
    stream: TcpStream,
    pub(crate) text: String,
}

impl HeldBackend {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let arrived: Arc<(Mutex<VecDeque<Held>>, Condvar)> = Arc::default();
        let queue = arrived.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let queue = queue.clone();
                thread::spawn(move || {
                    if let Some(held) = Held::read(stream) {
                        queue.0.lock().unwrap().push_back(held);
                        queue.1.notify_all();
                    }
                });
            }
        });
        Self { addr, arrived }
    }

    /// Handles each request as it comes, one at a time, for ever.
    pub(crate) fn serve(self, mut handle: impl FnMut(Held)) {
        loop {
            let queue = self.arrived.0.lock().unwrap();
            let mut queue = self.arrived.1.wait_while(queue, |queue| queue.is_empty()).unwrap();
            let held = queue.pop_front();
            drop(queue);
            held.map(&mut handle);
        }
    }

    /// Requests that are here and held.
    pub(crate) fn held(&self) -> usize {
        self.arrived.0.lock().unwrap().len()
    }

    /// The next request, once it is here.
    #[track_caller]
    pub(crate) fn next(&self) -> Held {
        let queue = self.arrived.0.lock().unwrap();
        let (mut queue, late) = self
            .arrived
            .1
            .wait_timeout_while(queue, PATIENCE, |queue| queue.is_empty())
            .unwrap();
        assert!(!late.timed_out(), "no request arrived");
        queue.pop_front().unwrap()
    }
}

impl Held {
    fn read(mut stream: TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                })
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                let text = text.into_owned();
                return Some(Self { stream, text });
            }
        }
    }

    /// Answers it with 201 and this body, and closes.
    pub(crate) fn answer(self, body: &str) {
        self.say("201 Created", body);
    }

    /// Says that it failed, which proves nothing.
    pub(crate) fn fail(self) {
        self.say("500 Internal Server Error", "");
    }

    /// Answers it with this status and body, and closes.
    pub(crate) fn say(mut self, status: &str, body: &str) {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        self.stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    }
}
