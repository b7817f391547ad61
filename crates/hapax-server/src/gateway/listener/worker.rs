//! A worker: one thread, one runtime, one service.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};

use super::connection::{self, Context};
use super::{Answer, Count, Drained, Stop};
use crate::gateway::limits::ListenerLimits;

/// What all workers share.
pub(super) struct Shared {
    pub(super) limits: Arc<ListenerLimits>,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) stop: Stop,
    pub(super) count: Arc<Count>,
}

/// The accept loop's end of a worker.
pub(super) struct Worker {
    connections: mpsc::UnboundedSender<(StdStream, SocketAddr)>,
    open: Arc<Open>,
    done: oneshot::Receiver<Drained>,
    thread: JoinHandle<()>,
}

/// The open connections of one worker.
#[derive(Debug)]
struct Open {
    here: AtomicUsize,
    none_left: Notify,
    everywhere: Arc<Count>,
}

impl Worker {
    pub(super) fn start<F, S>(number: usize, factory: Arc<F>, shared: Shared) -> io::Result<Self>
    where
        F: Fn(usize) -> S + Send + Sync + 'static,
        S: Answer,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, incoming) = mpsc::unbounded_channel();
        let (done_tx, done) = oneshot::channel();
        let open = Arc::new(Open {
            here: AtomicUsize::new(0),
            none_left: Notify::new(),
            everywhere: shared.count.clone(),
        });
        let opened = open.clone();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let cut = runtime.block_on(async {
                    let service = factory(number);
                    tokio::select! {
                        drained = run(service, incoming, opened, shared) => drained,
                        never = tick() => match never {},
                    }
                });
                // Dropping the runtime cuts what is left.
                drop(runtime);
                let _ = done_tx.send(cut);
            })?;
        Ok(Worker {
            connections,
            open,
            done,
            thread,
        })
    }

    /// Connections that this worker has.
    pub(super) fn open(&self) -> usize {
        self.open.here.load(Relaxed)
    }

    /// Gives a connection to this worker. False if the worker is gone.
    pub(super) fn take(&self, stream: StdStream, peer: SocketAddr) -> bool {
        self.open.here.fetch_add(1, Relaxed);
        let taken = self.connections.send((stream, peer)).is_ok();
        if !taken {
            self.open.here.fetch_sub(1, Relaxed);
        }
        taken
    }

    /// Makes the worker drain, at once; the future waits for its end and says what was cut.
    pub(super) fn finish(self) -> impl Future<Output = Drained> {
        drop(self.connections);
        let (done, thread) = (self.done, self.thread);
        async move {
            let cut = done.await;
            if thread.join().is_err() || cut.is_err() {
                tracing::error!("a worker panicked; its connections are gone");
            }
            cut.unwrap_or_default()
        }
    }
}

/// Counts one connection down, however it ends.
struct Closing(Arc<Open>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.everywhere.open.fetch_sub(1, Relaxed);
        self.0.everywhere.closed.notify_waiters();
        if self.0.here.fetch_sub(1, Relaxed) == 1 {
            self.0.none_left.notify_one();
        }
    }
}

/// Keeps a timer that is nearer than those of requests. For each timer that comes before all others the runtime wakes
/// its driver by a system call, in vain where that is the thread that sets the timer; and each run of an operation sets
/// one for its heartbeat.
async fn tick() -> Infallible {
    loop {
        tokio::time::sleep(TICK).await;
    }
}

/// Shorter than a request's usual time-outs, longer than what an idle worker should wake for.
const TICK: Duration = Duration::from_secs(1);

/// How often a draining worker looks whether its tasks have ended, which nothing tells.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

async fn run<S: Answer>(
    service: S,
    mut incoming: mpsc::UnboundedReceiver<(StdStream, SocketAddr)>,
    open: Arc<Open>,
    shared: Shared,
) -> Drained {
    let drain_timeout = shared.limits.drain_timeout;
    let context = Arc::new(Context {
        service,
        limits: shared.limits,
        tls: shared.tls.map(tokio_rustls::TlsAcceptor::from),
        stop: shared.stop,
    });
    // The channel ends when the accept loop does.
    while let Some((stream, peer)) = incoming.recv().await {
        let closing = Closing(open.clone());
        let context = context.clone();
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                tokio::spawn(async move {
                    let _closing = closing;
                    connection::serve(stream, peer, context).await;
                });
            }
            Err(error) => tracing::warn!(%error, "a connection was dropped"),
        }
    }
    let tasks = tokio::runtime::Handle::current().metrics();
    let drained = async {
        while open.here.load(Relaxed) > 0 {
            open.none_left.notified().await;
        }
        // What a client asked for goes on after it left, in a task without a connection.
        while tasks.num_alive_tasks() > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let _ = tokio::time::timeout(drain_timeout, drained).await;
    let cut = open.here.load(Relaxed);
    Drained {
        cut,
        left: tasks.num_alive_tasks().saturating_sub(cut),
    }
}
