//! An upstream that can be down in several ways, and notes when it is called.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use hapax_testbed::FreePort;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Nobody listens.
    Refuses,
    /// Accepts connections and closes them at once.
    Closes,
    /// Answers 500.
    Fails,
    /// Answers 503 and asks to come again in a second.
    Busy,
}

impl Mood {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Refuses => "refuses",
            Self::Closes => "closes",
            Self::Fails => "fails",
            Self::Busy => "busy",
        }
    }
}

#[derive(Clone)]
struct Shared {
    mood: watch::Receiver<Mood>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
}

impl Shared {
    fn note(&self) {
        self.arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Instant::now());
    }
}

pub(super) struct Upstream {
    port: FreePort,
    mood: watch::Sender<Mood>,
    shared: Shared,
    listening: JoinHandle<()>,
}

impl Upstream {
    pub(super) async fn start(port: FreePort) -> Result<Self> {
        let (mood, watched) = watch::channel(Mood::Well);
        let shared = Shared {
            mood: watched,
            arrivals: Arc::default(),
        };
        let listening = listen(port.address(), shared.clone()).await?;
        Ok(Self {
            port,
            mood,
            shared,
            listening,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub(super) async fn change(&mut self, to: Mood) -> Result<()> {
        let from = self.mood.send_replace(to);
        if to == Mood::Refuses {
            self.listening.abort();
            // Ends with an error, since it was broken off: its listener and connections are closed then.
            let _ = (&mut self.listening).await;
        } else if from == Mood::Refuses {
            self.listening = listen(self.port.address(), self.shared.clone()).await?;
        }
        Ok(())
    }

    /// When it was called so far.
    pub(super) fn arrivals(&self) -> Vec<Instant> {
        self.shared
            .arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(address: SocketAddr, shared: Shared) -> Result<JoinHandle<()>> {
    let listener = TcpListener::bind(address).await?;
    Ok(tokio::spawn(async move {
        // Dropped with this task.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    if *shared.mood.borrow() == Mood::Closes {
                        shared.note();
                    } else {
                        connections.spawn(serve(stream, shared.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }))
}

async fn serve(stream: TcpStream, shared: Shared) {
    let mut mood = shared.mood.clone();
    let service = service_fn(move |request| respond(request, shared.clone()));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Kept-alive connections go down too.
    tokio::select! {
        _ = connection => {}
        _ = mood.wait_for(|mood| *mood == Mood::Closes) => {}
    }
}

async fn respond(request: Request<Incoming>, shared: Shared) -> hyper::Result<Response<Full<Bytes>>> {
    shared.note();
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"created\"}")));
    *response.status_mut() = match *shared.mood.borrow() {
        Mood::Fails => StatusCode::INTERNAL_SERVER_ERROR,
        Mood::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Mood::Well | Mood::Refuses | Mood::Closes => StatusCode::CREATED,
    };
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, 1.into());
    }
    Ok(response)
}
