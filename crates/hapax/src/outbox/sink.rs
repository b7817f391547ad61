//! Where effects go.

use std::fmt;

use bytes::Bytes;
use hapax_core::{BoxFuture, Name, OperationId, Timestamp};

use crate::runner::Attempted;

/// Someone who delivers effects: [`Webhook`](super::Webhook), [`Email`](super::Email), or any async function from a
/// [`Delivery`] to an [`Attempted`].
///
/// A sink MUST send [`Delivery::key`] along wherever the receiver can look at it: the same effect may be delivered
/// more than once, always with that key. It MUST call a failure unsent only where nothing can have been done.
pub trait Sink: Send + Sync + 'static {
    /// Delivers once. Dropped where it stands when the policy's `per_try` is over.
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted>;
}

impl<H, F> Sink for H
where
    H: Fn(Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = Attempted> + Send + 'static,
{
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted> {
        Box::pin(self(delivery))
    }
}

/// One try to deliver an effect.
#[derive(Clone)]
pub struct Delivery {
    /// The effect's name.
    pub name: Name,
    /// The key that the receiver knows the effect by: 64 hexadecimal digits, the same for every try, after every crash
    /// and after every redrive.
    pub key: String,
    /// What the payload is.
    pub content_type: Box<str>,
    /// What to deliver.
    pub payload: Bytes,
    /// The store's time.
    pub now: Timestamp,
    /// Starts so far that count, this one included.
    pub tries: u32,
}

impl Delivery {
    /// The key that the receiver of an entry is told.
    #[must_use]
    pub fn key_of(entry: &OperationId) -> String {
        blake3::hash(entry.as_bytes()).to_hex().to_string()
    }
}

/// Not the payload: it is the user's.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("name", &self.name)
            .field("key", &self.key)
            .field("bytes", &self.payload.len())
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}
