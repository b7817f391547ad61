//! The transport of the gateway: what carries requests in, and on to the upstream.
//!
//! ```text
//! socket → framing::Guard → hyper → listener (strip, forward headers) → YOUR SERVICE → upstream → socket
//! ```
//!
//! The service in the middle is where the HTTP door goes. What it may rely on:
//!
//! - A request that reaches it has one meaning: everything ambiguous was refused before
//!   ([`framing`]).
//! - No `Hapax-*` header from outside reaches it, neither from the client (the listener strips
//!   them) nor from the upstream ([`upstream`] strips them from answers). What the service sets
//!   itself passes on untouched, so that is the place to add `Hapax-Operation`, `Hapax-Fence` and
//!   `Hapax-State`.
//! - `Connection` and the headers it names are still there, so that the door can refuse one that
//!   names a protected header; [`upstream`] removes them on the way out.
//! - An [`upstream::UpstreamError`] says whether the request may have taken effect.
//!
//! Nothing here knows of operations, keys or records.

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod framing;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod net;
pub(crate) mod timer;
pub(crate) mod upstream;

#[cfg(test)]
mod tests;
