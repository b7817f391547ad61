//! Asking everything to stop, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::sync::Notify;

/// A stop that anyone may ask for and everyone can wait for. Clones are the same stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    asked: AtomicBool,
    notify: Notify,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Stop::default()
    }

    /// Asks for the stop. Asking again does nothing.
    pub(crate) fn ask(&self) {
        self.0.asked.store(true, SeqCst);
        self.0.notify.notify_waiters();
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.asked.load(SeqCst)
    }

    /// Returns once the stop was asked for.
    pub(crate) async fn wait(&self) {
        let notified = self.0.notify.notified();
        tokio::pin!(notified);
        // Registered first: a stop between the look and the wait is not missed.
        notified.as_mut().enable();
        if !self.is_asked() {
            notified.await;
        }
    }
}
