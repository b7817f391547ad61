//! What nodes tell the world: one letter box, so that the order of things is known.

use std::sync::{Arc, Mutex, PoisonError};

use hapax_core::Fence;
use tokio::sync::oneshot;

use super::attend::Seen;
use super::door::{Call, Heard};
use super::watched::Step;

/// Something that happened in a node.
pub(super) enum Item {
    /// A handler began.
    Started {
        operation: usize,
        fence: Fence,
        by_runner: bool,
    },
    /// The upstream is called.
    Call(Call),
    /// The upstream is asked whether an operation happened.
    Look {
        operation: usize,
        reply: oneshot::Sender<Seen>,
    },
    /// A request was answered.
    Reply(usize, Heard),
    /// A handler kills its node.
    Kills(usize),
    /// The store carried something out.
    Step(Box<Step>),
}

/// A way to the letter box. Clones are of the same node.
#[derive(Clone, Default)]
pub(super) struct Post {
    items: Arc<Mutex<Vec<(usize, Item)>>>,
    node: usize,
}

impl Post {
    /// The same box, for another node.
    pub(super) fn of(&self, node: usize) -> Self {
        Self {
            items: Arc::clone(&self.items),
            node,
        }
    }

    pub(super) fn send(&self, item: Item) {
        // A panicking handler holds no half-written item.
        self.items
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((self.node, item));
    }

    /// Empties the box: what happened in which node, in its order.
    pub(super) fn take(&self) -> Vec<(usize, Item)> {
        std::mem::take(&mut *self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
