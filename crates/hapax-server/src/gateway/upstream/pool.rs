//! Unused connections, the last used on top.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::wire::Wire;

/// The unused connections of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    // Only one thread uses it in practice, so the lock is never waited for; it makes the pool
    // `Sync`, which lets answers be `Send`.
    idle: Mutex<Vec<Idle>>,
    max: usize,
    timeout: Duration,
}

#[derive(Debug)]
struct Idle {
    wire: Box<Wire>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(max: usize, timeout: Duration) -> Self {
        Pool {
            idle: Mutex::new(Vec::new()),
            max,
            timeout,
        }
    }

    /// The connection used last. It may have died since; the exchange finds out.
    pub(super) fn take(&self, now: Instant) -> Option<Box<Wire>> {
        let mut idle = self.lock();
        let Idle { wire, since } = idle.pop()?;
        if now.saturating_duration_since(since) < self.timeout {
            return Some(wire);
        }
        // All below are older.
        idle.clear();
        None
    }

    /// Keeps a connection whose exchange is over.
    pub(super) fn put(&self, wire: Box<Wire>) {
        let since = Instant::now();
        let mut idle = self.lock();
        // The oldest are at the bottom; one look a time keeps up with what comes in.
        if idle.first().is_some_and(|oldest| since - oldest.since >= self.timeout) {
            idle.remove(0);
        }
        if idle.len() < self.max {
            idle.push(Idle { wire, since });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
