//! A receiver of webhooks that keeps what it is sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<(String, String)>>,
    more: Condvar,
    down: AtomicBool,
    asked: AtomicUsize,
    fails_every: AtomicUsize,
    unwanted: Mutex<String>,
    refused: AtomicUsize,
}

pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&theirs);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Keys and bodies, as they came.
    pub(crate) fn heard(&self) -> Vec<(String, String)> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard more than so many, or for as long.
    pub(super) fn heard_more_than(&self, known: usize, patience: Duration) -> Vec<(String, String)> {
        let heard = self.shared.heard.lock().unwrap();
        let none_new = |heard: &mut Vec<_>| heard.len() <= known;
        let (heard, _) = self.shared.more.wait_timeout_while(heard, patience, none_new).unwrap();
        heard.clone()
    }

    /// While it is down, it answers 503.
    pub(crate) fn down(&self, down: bool) {
        self.shared.down.store(down, SeqCst);
    }

    /// From now on, each so many-th request is answered 500.
    pub(super) fn fails_every(&self, requests: usize) {
        self.shared.fails_every.store(requests, SeqCst);
    }

    /// From now on, requests with this body are answered 422.
    pub(super) fn unwanted(&self, body: &str) {
        body.clone_into(&mut self.shared.unwanted.lock().unwrap());
    }

    /// Waits until it has answered so often that it is down.
    pub(crate) fn refused(&self, times: usize) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.shared.refused.load(SeqCst) < times {
            assert!(Instant::now() < until, "nobody comes");
            thread::yield_now();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut key, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                return;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "webhook-id" => key = value.to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let answer = shared.answer(key, String::from_utf8(body).unwrap());
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl Shared {
    fn answer(&self, key: String, body: String) -> &'static str {
        if self.down.load(SeqCst) {
            self.refused.fetch_add(1, SeqCst);
            return "HTTP/1.1 503 Down\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
        }
        let (asked, every) = (self.asked.fetch_add(1, SeqCst) + 1, self.fails_every.load(SeqCst));
        if every > 0 && asked.is_multiple_of(every) {
            return "HTTP/1.1 500 Failed\r\nContent-Length: 0\r\n\r\n";
        }
        if *self.unwanted.lock().unwrap() == body {
            return "HTTP/1.1 422 Unwanted\r\nContent-Length: 0\r\n\r\n";
        }
        self.heard.lock().unwrap().push((key, body));
        self.more.notify_all();
        "HTTP/1.1 204 Taken\r\n\r\n"
    }
}
