//! A shop on a free port with a database of its own, and a client that hides nothing: it shows
//! the bytes that came and how the connection ended.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hapax_shop::{Ledger, Options, Shop, listen, serve};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub(crate) const ORDER: &str = r#"{"customer":"ann","item":"tea","quantity":2}"#;

/// Only a shop that hangs takes this long.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) db: PathBuf,
    pub(crate) shop: Shop,
    server: JoinHandle<()>,
    _dir: TempDir,
}

impl World {
    pub(crate) async fn naive() -> World {
        World::with(Options::default()).await
    }

    pub(crate) async fn with_knobs() -> World {
        World::with(Options {
            test_knobs: true,
            ..Options::default()
        })
        .await
    }

    pub(crate) async fn with(options: Options) -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("shop.db");
        let shop = Shop::open(&db, options).unwrap();
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, shop.clone()));
        World {
            address,
            db,
            shop,
            server,
            _dir: dir,
        }
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        exchange(self.address, "POST", path, headers, body).await.answer()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        exchange(self.address, "GET", path, &[], "").await.answer()
    }

    /// An order with a failure ordered for it.
    pub(crate) async fn failing_order(&self, fail: &str) -> Exchange {
        exchange(self.address, "POST", "/orders", &[("X-Shop-Fail", fail)], ORDER).await
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::open(&self.db).unwrap()
    }

    pub(crate) fn effects(&self) -> u64 {
        self.ledger().total_effects().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What came back on a connection until it ended.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: io::Result<()>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// As sent: chunk sizes included where the answer is chunked.
    pub(crate) body: Vec<u8>,
}

impl Exchange {
    pub(crate) fn answer(self) -> Answer {
        self.end.unwrap();
        parse(&self.bytes)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn id(&self) -> i64 {
        self.json()["id"].as_i64().unwrap()
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    /// The body of a chunked answer, whose last chunk must be there.
    pub(crate) fn dechunked(&self) -> Vec<u8> {
        let mut rest = self.body.as_slice();
        let mut body = Vec::new();
        loop {
            let line = rest.windows(2).position(|w| w == b"\r\n").unwrap();
            let size = std::str::from_utf8(&rest[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            rest = &rest[line + 2..];
            if size == 0 {
                assert_eq!(rest, b"\r\n");
                return body;
            }
            body.extend_from_slice(&rest[..size]);
            rest = &rest[size + 2..];
        }
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n");
    if method == "POST" {
        text += &format!("Content-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Content-Type") {
            text += "Content-Type: application/json\r\n";
        }
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n" + body
}

pub(crate) async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Exchange {
    let mut bytes = Vec::new();
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(request(method, path, headers, body).as_bytes())
            .await?;
        stream.read_to_end(&mut bytes).await.map(|_| ())
    };
    let end = talk.await;
    Exchange { bytes, end }
}

/// Asks until the row is there; each question is a round trip, so this needs no sleep.
pub(crate) async fn appears(address: SocketAddr, path: &str) {
    let ask = async { while exchange(address, "GET", path, &[], "").await.answer().status != 200 {} };
    tokio::time::timeout(LONG, ask).await.expect("the row appears");
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let head = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a complete head");
    let mut lines = std::str::from_utf8(&bytes[..head]).unwrap().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Answer {
        status,
        headers,
        body: bytes[head + 4..].to_vec(),
    }
}
