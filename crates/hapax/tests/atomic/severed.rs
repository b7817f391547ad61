//! A connection that is severed around the commit: the record says what became of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hapax::atomic::{AtomicError, AtomicOptions, Database, Decision};
use hapax::core::Refusal;
use hapax::{Reply, Run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{BoxError, World, answer, arrival};

const LONG: Duration = Duration::from_secs(20);

/// Where a connection is severed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never hears of the commit.
    Before,
    /// The commit is durable; its answer never comes.
    After,
}

/// Stands between a program and its server.
struct Wire {
    url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The next commit is cut here.
    next: Mutex<Option<Cut>>,
    /// Nobody gets through.
    down: AtomicBool,
}

impl Wire {
    async fn to(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], config.get_ports()[0]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !accepting.down.load(Ordering::Relaxed) {
                    tokio::spawn(carry(client, server, Arc::clone(&accepting)));
                }
            }
        });
        let url = url.replace(&server.port().to_string(), &port.to_string());
        assert!(url.contains(&format!(":{port}/")), "{url}");
        Self { url, state }
    }

    fn has_cut(&self) -> bool {
        self.state.next.lock().unwrap().is_none()
    }
}

/// Carries bytes both ways, until an end is reached or it is cut.
async fn carry(mut client: TcpStream, server: SocketAddr, state: Arc<State>) {
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut there, mut back) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut there) => {
                let Ok(1..) = read else { return };
                let bytes = &there[..read.unwrap()];
                let cut = match contains(bytes, b"COMMIT") {
                    true => state.next.lock().unwrap().take(),
                    false => None,
                };
                if cut == Some(Cut::Before) {
                    return;
                }
                server.write_all(bytes).await.unwrap();
                if cut == Some(Cut::After) {
                    let mut answer = Vec::new();
                    while !contains(&answer, b"COMMIT\0") {
                        let read = server.read_buf(&mut answer).await.unwrap();
                        assert!(read > 0, "the server has answered");
                    }
                    return;
                }
            }
            read = server.read(&mut back) => {
                let Ok(1..) = read else { return };
                if client.write_all(&back[..read.unwrap()]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn ordering<'t, W: World>(
    connection: &'t mut <W::Database as Database>::Connection,
    run: &'t Run,
    runs: &AtomicUsize,
) -> BoxFuture<'t, Result<Decision<usize>, BoxError>> {
    let runs = runs.fetch_add(1, Ordering::Relaxed) + 1;
    Box::pin(async move {
        W::order(connection, run.operation.key().as_str()).await?;
        Ok(Decision::done(answer(201), runs))
    })
}

pub(crate) async fn a_lost_commit_is_looked_up<W: World>(cut: Cut) {
    let world = W::start().await;
    let wire = Wire::to(world.at()).await;
    let atomic = W::join(&wire.url).await.atomic(AtomicOptions::default());
    *wire.state.next.lock().unwrap() = Some(cut);
    let runs = AtomicUsize::new(0);
    let reply = atomic
        .run(arrival("k", LONG), move |connection, run| {
            ordering::<W>(connection, run, &runs)
        })
        .await
        .unwrap();
    assert!(wire.has_cut());
    // Not run again if it happened; run again if not.
    let expected = if cut == Cut::After { 1 } else { 2 };
    assert!(matches!(reply, Reply::Ran(runs) if runs == expected), "{reply:?}");
    assert_eq!(world.orders("k").await, 1);
}

pub(crate) async fn a_lost_commit_is_unknown_while_nobody_can_be_asked<W: World>() {
    let world = W::start().await;
    let wire = Wire::to(world.at()).await;
    let atomic = W::join(&wire.url).await.atomic(AtomicOptions {
        commit_patience: Duration::from_millis(300),
        ..AtomicOptions::default()
    });
    *wire.state.next.lock().unwrap() = Some(Cut::After);
    let state = Arc::clone(&wire.state);
    let runs = AtomicUsize::new(0);
    let told = atomic.run(arrival("k", LONG), move |connection, run| {
        state.down.store(true, Ordering::Relaxed);
        ordering::<W>(connection, run, &runs)
    });
    let error = told.await.unwrap_err();
    assert!(matches!(error, AtomicError::Unknown(_)), "{error}");
    assert!(!error.is_rolled_back());
    wire.state.down.store(false, Ordering::Relaxed);
    let again = atomic.run(arrival("k", LONG), |connection, run| {
        ordering::<W>(connection, run, &AtomicUsize::new(0))
    });
    let reply = again.await.unwrap();
    assert!(matches!(reply, Reply::Refused(Refusal::Done { .. })), "{reply:?}");
    assert_eq!(world.orders("k").await, 1);
}
