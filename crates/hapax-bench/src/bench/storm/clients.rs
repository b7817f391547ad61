//! Clients that each offer one request a second, whatever became of the last one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::client::{ask, post, status};
use crate::error::Result;
use crate::work;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at the metrics.
const LOOK: Duration = Duration::from_millis(50);

/// One request.
pub(super) struct Offered {
    pub(super) at: Instant,
    /// When it was answered, if it was answered well.
    pub(super) well: Option<Instant>,
}

/// The clients begin spread over a second.
pub(super) async fn offer(gateway: SocketAddr, clients: u32, start: Instant, time: Duration) -> Result<Vec<Offered>> {
    let pause = Duration::from_secs(1) / clients;
    let mut requests = JoinSet::new();
    let mut next = start;
    while next < start + time {
        tokio::time::sleep_until(next.into()).await;
        requests.spawn(request(gateway));
        next += pause;
    }
    Ok(requests.join_all().await)
}

async fn request(gateway: SocketAddr) -> Offered {
    let at = Instant::now();
    let status = timeout(PATIENCE, status_of(gateway)).await;
    let well = matches!(status, Ok(Ok(status)) if (200..300).contains(&status));
    Offered {
        at,
        well: well.then(Instant::now),
    }
}

async fn status_of(gateway: SocketAddr) -> Result<u16> {
    status(&ask(gateway, &post(&work::fresh_key(), "")).await?)
}

/// A watch over connections that the upstream refused the gateway.
pub(super) struct Refusals {
    stop: tokio::sync::oneshot::Sender<()>,
    seen: JoinHandle<Result<Vec<Instant>>>,
}

/// Looks at the gateway's metrics again and again; what came between two looks is spread evenly over that time.
pub(super) fn watch_refusals(admin: SocketAddr) -> Refusals {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let seen = tokio::spawn(async move {
        let (mut before, mut looked, mut seen) = (refusals(admin).await?, Instant::now(), Vec::new());
        while let Err(_still) = timeout(LOOK, &mut stopped).await {
            let count = refusals(admin).await?;
            let new = u32::try_from(count.saturating_sub(before))?;
            let each = looked.elapsed() / new.max(1);
            seen.extend((0..new).map(|number| looked + each * number));
            (before, looked) = (count, Instant::now());
        }
        Ok(seen)
    });
    Refusals { stop, seen }
}

impl Refusals {
    pub(super) async fn end(self) -> Result<Vec<Instant>> {
        // An error: the watch has ended, and says why.
        let _ = self.stop.send(());
        self.seen.await?
    }
}

/// How many requests the upstream refused so far.
async fn refusals(admin: SocketAddr) -> Result<u64> {
    const METRIC: &str = "hapax_upstream_failures_total{proof=\"unsent\"} ";
    let text = ask(
        admin,
        "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n",
    )
    .await?;
    let value = text.lines().find_map(|line| line.strip_prefix(METRIC));
    let value = value.ok_or_else(|| format!("the metrics do not say {METRIC}"))?;
    Ok(value.trim().parse()?)
}
