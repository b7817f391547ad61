//! An endpoint that keeps what is posted to it, and answers as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::until;

/// A message as it came.
#[derive(Debug, Clone)]
pub(super) struct Post {
    path: String,
    headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Post {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value of a header; names are lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn key(&self) -> &str {
        self.header("idempotency-key").unwrap_or_default()
    }
}

pub(super) struct Endpoint {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Endpoint {
    /// Answers with the status line and headers that `say` gives, which is told the message and how often its key has
    /// come, this time included.
    pub(super) fn start(say: impl Fn(&Post, usize) -> &'static str + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let posts = Arc::<Mutex<Vec<Post>>>::default();
        let (theirs, say) = (Arc::clone(&posts), Arc::new(say));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (posts, say) = (Arc::clone(&theirs), Arc::clone(&say));
                thread::spawn(move || serve(stream, &posts, &*say));
            }
        });
        Self { address, posts }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/points?v=1", self.address)
    }

    pub(super) fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.posts.lock().unwrap().len()
    }

    /// Waits until so many have come.
    #[track_caller]
    pub(super) fn wait_for(&self, posts: usize) -> Vec<Post> {
        until(&format!("{posts} posts"), || self.count() >= posts);
        self.posts()
    }
}

fn serve(
    stream: TcpStream,
    posts: &Mutex<Vec<Post>>,
    say: &(impl Fn(&Post, usize) -> &'static str + Send + Sync),
) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let headers: BTreeMap<_, _> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let path = lines[0].split(' ').nth(1)?.to_owned();
        let length = headers.get("content-length")?.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let post = Post { path, headers, body };
        let times = {
            let mut posts = posts.lock().unwrap();
            posts.push(post.clone());
            posts.iter().filter(|known| known.key() == post.key()).count()
        };
        let answer = format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", say(&post, times));
        writer.write_all(answer.as_bytes()).ok()?;
    }
}
