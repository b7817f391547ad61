//! Every limit and time-out of the transport, with its default. Plain values: where they come
//! from (file, flags) is not known here.

use std::time::Duration;

/// What a client may do to the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerLimits {
    /// Worker threads. Default: one for each core.
    pub(crate) workers: usize,
    /// Open connections, all workers together. At the limit no more are accepted; new ones wait
    /// in the kernel's backlog. Default 10,000.
    pub(crate) max_connections: usize,
    /// Length of the kernel's backlog of connections not yet accepted. Default 1,024.
    pub(crate) backlog: u32,
    /// Time for the TLS handshake. Default 10 s.
    pub(crate) tls_handshake_timeout: Duration,
    /// Time from accept to the first byte. Default 10 s.
    pub(crate) first_byte_timeout: Duration,
    /// Time from the first byte of a request head to its end. Default 10 s.
    pub(crate) head_timeout: Duration,
    /// How long a connection without a request stays open. Default 75 s.
    pub(crate) idle_timeout: Duration,
    /// Longest wait for the next bytes of a request body. Default 30 s.
    pub(crate) body_idle_timeout: Duration,
    /// Slowest request body, in bytes a second, beyond a grace of `body_idle_timeout`; only time
    /// spent waiting for the client counts. 0 switches it off. Default 256.
    pub(crate) body_min_rate: u64,
    /// Longest wait for the client to take bytes of an answer. Default 30 s.
    pub(crate) write_timeout: Duration,
    /// Longest request head, and longest trailer section, in bytes. Default 64 KiB.
    pub(crate) max_head_bytes: usize,
    /// Most header fields of a request. At most 100, which is hyper's own limit. Default 100.
    pub(crate) max_headers: usize,
    /// Most bytes of chunk extensions in one request body. Default 1 KiB.
    pub(crate) max_chunk_extension_bytes: usize,
    /// Most concurrent requests on one HTTP/2 connection. Default 128.
    pub(crate) max_http2_streams: u32,
    /// How long a client may take to close its side: after an answer that left request bytes unread
    /// (they are still read, so that the answer is not lost to a reset), and after it was told that
    /// the connection ends. Default 1 s.
    pub(crate) linger: Duration,
    /// After a stop was asked: how long requests in flight may still take. Default 30 s.
    pub(crate) drain_timeout: Duration,
    /// What to tell the upstream about the client. Default [`Forwarded::Append`].
    pub(crate) forwarded: Forwarded,
}

/// What to do with `X-Forwarded-For` and `X-Forwarded-Proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Add the peer's address to the end of what the client sent, and keep the client's
    /// `X-Forwarded-Proto` if there is one. Only the last address is this gateway's own word.
    Append,
    /// Believe nothing: both headers say what this gateway saw. For a gateway that faces clients.
    Replace,
    /// Leave both headers alone.
    Off,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        ListenerLimits {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_connections: 10_000,
            backlog: 1024,
            tls_handshake_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(30),
            body_min_rate: 256,
            write_timeout: Duration::from_secs(30),
            max_head_bytes: 64 * 1024,
            max_headers: 100,
            max_chunk_extension_bytes: 1024,
            max_http2_streams: 128,
            linger: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
            forwarded: Forwarded::Append,
        }
    }
}

/// What the gateway allows an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamLimits {
    /// Time to resolve, connect and finish a TLS handshake. Default 5 s.
    pub(crate) connect_timeout: Duration,
    /// Longest wait for the upstream to take the next bytes of a request, and then for the head of
    /// its answer; time spent waiting for the client does not count. Default 30 s.
    pub(crate) response_timeout: Duration,
    /// Longest wait for the next bytes of an answer's body. Default 30 s.
    pub(crate) body_idle_timeout: Duration,
    /// How long an unused connection stays in the pool. Keep it below what the upstream itself
    /// allows. Default 15 s.
    pub(crate) pool_idle_timeout: Duration,
    /// Most unused connections kept, each worker. Default 256.
    pub(crate) pool_max_idle: usize,
    /// Longest head of an answer, in bytes. At least 8,192. Default 64 KiB.
    pub(crate) max_head_bytes: usize,
    /// Which `Host` the upstream sees. Default [`HostPolicy::Client`].
    pub(crate) host: HostPolicy,
    /// Add `Via` in both directions. Default off.
    pub(crate) via: bool,
}

/// Which `Host` header goes to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostPolicy {
    /// The one that the client sent (as Envoy does), so that links and redirects made by the
    /// upstream are right for the client.
    Client,
    /// The host of the upstream's URL (as nginx does unless told otherwise).
    Upstream,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        UpstreamLimits {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(30),
            pool_idle_timeout: Duration::from_secs(15),
            pool_max_idle: 256,
            max_head_bytes: 64 * 1024,
            host: HostPolicy::Client,
            via: false,
        }
    }
}
