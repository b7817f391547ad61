//! Ctrl-C: ends a command between two records, never within one.

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

/// Somebody asked for it.
pub(super) struct Stopped;

impl Stop {
    /// From here on a signal no longer ends the process at once.
    ///
    /// # Errors
    /// If the system refuses it.
    pub(super) fn new() -> Result<Self, Failure> {
        let fault = |error: io::Error| Failure::new(Exit::Internal, format!("cannot listen for signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(fault)?,
            terminate: signal(SignalKind::terminate()).map_err(fault)?,
        })
    }

    /// Waits for something that can be given up at any time.
    pub(super) async fn or<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Err(Stopped),
            _ = self.terminate.recv() => Err(Stopped),
            value = wait => Ok(value),
        }
    }
}
