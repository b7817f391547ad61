//! What the guard, the service and the time-outs of one inbound connection know of each other.
//!
//! All of one connection runs on one thread; the atomics are there so that futures stay `Send`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

use super::framing::Refusal;

/// What the client is expected to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reading {
    /// A request head, of which nothing has come yet.
    Idle = 0,
    /// The rest of a request head.
    Head = 1,
    /// The rest of a request body.
    Body = 2,
}

/// The state of one inbound connection.
#[derive(Debug, Default)]
pub(crate) struct ConnState {
    reading: AtomicU8,
    in_flight: AtomicU32,
    requests: AtomicU32,
    write_blocked: AtomicBool,
    writes: AtomicU32,
    refusal: OnceLock<Refusal>,
}

impl ConnState {
    pub(crate) fn reading(&self) -> Reading {
        match self.reading.load(Relaxed) {
            0 => Reading::Idle,
            1 => Reading::Head,
            _ => Reading::Body,
        }
    }

    pub(crate) fn set_reading(&self, reading: Reading) {
        self.reading.store(reading as u8, Relaxed);
    }

    /// Requests whose answer is not wholly handed over yet.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Requests that ever came in; wraps.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Relaxed)
    }

    pub(crate) fn begin_request(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn end_request(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Whether the client takes no more bytes, and how often it took some (wraps).
    pub(crate) fn writing(&self) -> (bool, u32) {
        (self.write_blocked.load(Relaxed), self.writes.load(Relaxed))
    }

    pub(crate) fn set_write_blocked(&self, blocked: bool) {
        if blocked || self.write_blocked.load(Relaxed) {
            self.write_blocked.store(blocked, Relaxed);
            self.writes.fetch_add(u32::from(!blocked), Relaxed);
        }
    }

    /// Why this connection takes no more requests, if it was refused one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    /// Refuses the request being read. The first reason stays.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        let _ = self.refusal.set(refusal);
    }
}
