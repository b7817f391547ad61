//! A bounded queue between async callers and the store's threads, taken in batches.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::failure::Failure;

/// More than this many waiting requests are refused: each caller awaits its answer, so that the number of requests is
/// the number of callers, and something is wrong long before.
const MAX_WAITING: usize = 65_536;

#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    takers: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                takers: 0,
                closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    pub(super) fn push(&self, item: T) -> Result<(), Failure> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Failure::closed());
        }
        if inner.items.len() >= MAX_WAITING {
            return Err(Failure::overloaded(inner.items.len()));
        }
        inner.items.push_back(item);
        let wake = inner.takers > 0;
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for items and moves at most `max` of them to `batch`. False once the queue is closed and empty.
    pub(super) fn take(&self, batch: &mut Vec<T>, max: usize) -> bool {
        let mut inner = self.lock();
        while inner.items.is_empty() {
            if inner.closed {
                return false;
            }
            inner.takers += 1;
            inner = self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner);
            inner.takers -= 1;
        }
        let count = inner.items.len().min(max);
        batch.extend(inner.items.drain(..count));
        true
    }

    /// Refuses new items; those that wait are still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue when its last taker's thread ends, in whatever way, so that no caller waits for nobody.
#[derive(Debug)]
pub(super) struct CloseOnDrop<'a, T>(pub(super) &'a Queue<T>);

impl<T> Drop for CloseOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.close();
        // Whoever waits is told by the loss of its reply channel.
        self.0.lock().items.clear();
    }
}
