//! What a peer can make the gateway keep, and how long anything may take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Period, Size};

/// Bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// The largest body of a protected request.
    pub(crate) request_body: Size,
    /// The largest answer that is kept; a larger one is passed on, and its duplicates are told `answer-not-kept`.
    pub(crate) answer: Size,
    /// Protected requests at a time, those included whose client left.
    pub(crate) in_flight: u32,
    /// Memory for the bodies of all protected requests together; those of up to 16 KiB do not count.
    pub(crate) request_bytes: Size,
    /// Open connections of clients.
    pub(crate) connections: u32,
    /// The longest head of a request.
    pub(crate) head: Size,
    /// Concurrent requests on one HTTP/2 connection.
    pub(crate) http2_streams: u32,
    /// Duplicates that wait for one operation.
    pub(crate) waiters_per_key: u32,
    /// Duplicates that wait in all.
    pub(crate) waiters: u32,
    /// Memory for answers that are replayed without asking the store.
    pub(crate) cache: Size,
    /// Worker threads; 0 for one a core.
    pub(crate) workers: u32,
}

/// Time-outs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// From accept to the first byte of a request.
    pub(crate) first_byte: Period,
    /// From the first byte of a request's head to its end.
    pub(crate) head: Period,
    /// Between two pieces of a request's body.
    pub(crate) body: Period,
    /// How long a connection without a request is kept.
    pub(crate) idle: Period,
    /// How long a client may take nothing of an answer.
    pub(crate) write: Period,
    /// To connect to the backend.
    pub(crate) upstream_connect: Period,
    /// From sending a request to the head of the backend's answer.
    pub(crate) upstream: Period,
    /// Between two pieces of the backend's answer.
    pub(crate) upstream_body: Period,
    /// How long an answer that is kept may take to come whole, from its head; a slower one is passed on and not kept.
    pub(crate) answer: Period,
    /// How long an idle connection to the backend is kept: shorter than the backend keeps it.
    pub(crate) upstream_idle: Period,
    /// How long a step of the store is repeated before its caller is refused.
    pub(crate) store: Period,
    /// How long requests in flight may take after SIGTERM.
    pub(crate) drain: Period,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body: Size(8 << 20),
            answer: Size(1 << 20),
            in_flight: 32 * 1024,
            request_bytes: Size(256 << 20),
            connections: 10_000,
            head: Size(64 << 10),
            http2_streams: 128,
            waiters_per_key: 1024,
            waiters: 16 * 1024,
            cache: Size(32 << 20),
            workers: 0,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Period::seconds(10),
            head: Period::seconds(10),
            body: Period::seconds(30),
            idle: Period::seconds(75),
            write: Period::seconds(30),
            upstream_connect: Period::seconds(5),
            upstream: Period::seconds(30),
            upstream_body: Period::seconds(30),
            answer: Period::seconds(10),
            upstream_idle: Period::seconds(15),
            store: Period::seconds(5),
            drain: Period::seconds(30),
        }
    }
}
