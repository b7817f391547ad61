//! Who runs beside whom: a suspect runs with nothing else young in its process.
//!
//! A run is young until its first heartbeat or its end, whichever comes first; a claim that is being asked for counts
//! as one. While the gate is closed nobody begins; whoever closes it waits until nothing is young.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Set while the gate is closed or about to be.
const CLOSED: u64 = 1 << 63;

/// Who begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A caller's arrival.
    Caller,
    /// A runner.
    Runner,
}

impl Side {
    /// Both counts share one number, so that one instruction counts and sees whether the gate is closed.
    fn one(self) -> u64 {
        match self {
            Self::Caller => 1,
            Self::Runner => 1 << 32,
        }
    }
}

pub(crate) struct Gate {
    /// Young runs of both sides, and whether the gate is closed.
    state: AtomicU64,
    opened: Notify,
    aged: Notify,
    closer: Arc<Semaphore>,
}

/// Lets a run be counted as young; dropped when it no longer is.
pub(crate) struct Young {
    gate: Arc<Gate>,
    side: Side,
}

/// Keeps the gate closed; it opens when this is dropped.
pub(crate) struct Closed {
    gate: Arc<Gate>,
    /// One suspect at a time.
    _closer: Option<OwnedSemaphorePermit>,
}

/// What a run holds while it is young.
pub(crate) enum Youth {
    /// One of many.
    Among {
        /// Held until then.
        _young: Young,
    },
    /// Nothing else begins meanwhile.
    Alone {
        /// Held until then.
        _closed: Closed,
    },
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU64::new(0),
            opened: Notify::new(),
            aged: Notify::new(),
            closer: Arc::new(Semaphore::new(1)),
        })
    }

    /// Begins; waits while the gate is closed.
    pub(crate) async fn enter(self: &Arc<Self>, side: Side) -> Young {
        loop {
            // Ordered against `close`: either it sees this run, or this run sees the closed gate.
            let before = self.state.fetch_add(side.one(), Ordering::SeqCst);
            let young = Young {
                gate: Arc::clone(self),
                side,
            };
            if before & CLOSED == 0 {
                return young;
            }
            drop(young);
            self.opened().await;
        }
    }

    /// Returns when the gate is open.
    pub(crate) async fn opened(&self) {
        let opened = self.opened.notified();
        tokio::pin!(opened);
        opened.as_mut().enable();
        if self.state.load(Ordering::SeqCst) & CLOSED != 0 {
            opened.await;
        }
    }

    /// Waits for the runners' young runs, then closes the gate, and waits for the callers'.
    pub(crate) async fn close(self: &Arc<Self>) -> Closed {
        // The semaphore is never closed.
        let closer = Arc::clone(&self.closer).acquire_owned().await.ok();
        self.aged(|state| state >> 32 == 0).await;
        self.state.fetch_or(CLOSED, Ordering::SeqCst);
        // From here on it opens again, even if this future is dropped.
        let closed = Closed {
            gate: Arc::clone(self),
            _closer: closer,
        };
        self.aged(|state| state & !CLOSED == 0).await;
        closed
    }

    /// Returns when the counts are as wanted.
    async fn aged(&self, wanted: impl Fn(u64) -> bool) {
        loop {
            let aged = self.aged.notified();
            tokio::pin!(aged);
            aged.as_mut().enable();
            if wanted(self.state.load(Ordering::SeqCst)) {
                return;
            }
            aged.await;
        }
    }
}

impl Young {
    /// One more of the same side, whether or not the gate was closed meanwhile: who closes it waits for both.
    pub(crate) fn another(&self) -> Self {
        self.gate.state.fetch_add(self.side.one(), Ordering::SeqCst);
        Self {
            gate: Arc::clone(&self.gate),
            side: self.side,
        }
    }
}

impl Drop for Young {
    fn drop(&mut self) {
        let one = self.side.one();
        let after = self.gate.state.fetch_sub(one, Ordering::SeqCst) - one;
        // A closer waits either for the runners' side or for both: few wake-ups are for nothing.
        if after & CLOSED != 0 || (self.side == Side::Runner && after >> 32 == 0) {
            self.gate.aged.notify_waiters();
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.gate.state.fetch_and(!CLOSED, Ordering::SeqCst);
        self.gate.opened.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn nobody_begins_while_it_is_closed_and_it_closes_when_nothing_is_young() {
        let gate = Gate::new();
        let caller = gate.enter(Side::Caller).await;
        let runner = gate.enter(Side::Runner).await;
        let mut closing = Box::pin(gate.close());
        assert!(closing.as_mut().now_or_never().is_none());
        let second = gate.enter(Side::Caller).await;
        let another = runner.another();
        drop(runner);
        assert!(
            closing.as_mut().now_or_never().is_none(),
            "callers go on while the runner ends"
        );
        drop(another);
        assert!(closing.as_mut().now_or_never().is_none());
        let mut late = Box::pin(gate.enter(Side::Caller));
        assert!(late.as_mut().now_or_never().is_none());
        drop((caller, second));
        let closed = closing.as_mut().now_or_never().unwrap();
        assert!(late.as_mut().now_or_never().is_none());
        assert!(Box::pin(gate.enter(Side::Runner)).now_or_never().is_none());
        drop(closed);
        assert!(late.as_mut().now_or_never().is_some());
        assert!(gate.opened().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_closer_that_gives_up_leaves_it_open() {
        let gate = Gate::new();
        let young = gate.enter(Side::Caller).await;
        let mut closing = Box::pin(gate.close());
        assert!(closing.as_mut().now_or_never().is_none());
        assert!(Box::pin(gate.enter(Side::Caller)).now_or_never().is_none());
        drop(closing);
        assert!(Box::pin(gate.enter(Side::Caller)).now_or_never().is_some());
        drop(young);
        assert!(Box::pin(gate.close()).now_or_never().is_some());
    }
}
