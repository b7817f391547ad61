//! A receiver of webhooks that keeps what it is sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<(String, String)>>,
    down: AtomicBool,
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

    /// While it is down, it answers 503.
    pub(crate) fn down(&self, down: bool) {
        self.shared.down.store(down, SeqCst);
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
        let answer = if shared.down.load(SeqCst) {
            shared.refused.fetch_add(1, SeqCst);
            "HTTP/1.1 503 Down\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
        } else {
            shared
                .heard
                .lock()
                .unwrap()
                .push((key, String::from_utf8(body).unwrap()));
            "HTTP/1.1 204 Taken\r\n\r\n"
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
