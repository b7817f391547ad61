//! Duplicates that wait for a run to end, without holding anything of the store.
//!
//! A run in this process wakes its waiters itself. For a run elsewhere one waiter of each operation polls the store
//! and wakes the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_core::OperationId;
use tokio::sync::{Notify, Semaphore};

/// First pause between two looks at a run elsewhere; doubles up to [`POLL_MAX`].
const POLL_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two looks at a run elsewhere.
const POLL_MAX: Duration = Duration::from_millis(250);
/// Pause between two looks at a run in this process, in case it lost its lease to another.
const POLL_LOCAL: Duration = Duration::from_secs(1);

/// Who waits for what.
pub(crate) struct Waiters {
    table: Mutex<Table>,
    per_operation: usize,
    total: usize,
}

#[derive(Default)]
struct Table {
    entries: HashMap<OperationId, Arc<Entry>>,
    waiting: usize,
}

struct Entry {
    changed: Notify,
    /// Held by the waiter that polls.
    poller: Semaphore,
    /// Changed only under the table's lock.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    running_here: usize,
    waiting: usize,
}

/// A place in the queue; left when dropped.
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    id: OperationId,
    entry: Arc<Entry>,
    poll: Duration,
}

/// Marks a run of this process; ended when dropped.
pub(crate) struct RunningHere<'a> {
    waiters: &'a Waiters,
    id: OperationId,
    entry: Arc<Entry>,
}

impl Waiters {
    pub(super) fn new(per_operation: usize, total: usize) -> Self {
        Self {
            table: Mutex::default(),
            per_operation,
            total,
        }
    }

    /// Joins those who wait; `None` if too many do.
    pub(crate) fn join(&self, id: OperationId) -> Option<Waiter<'_>> {
        let mut table = lock(&self.table);
        if table.waiting >= self.total {
            return None;
        }
        let entry = table.entry(id);
        {
            let mut counts = lock(&entry.counts);
            if counts.waiting >= self.per_operation {
                drop(counts);
                table.drop_if_unused(id, &entry);
                return None;
            }
            counts.waiting += 1;
        }
        table.waiting += 1;
        Some(Waiter {
            waiters: self,
            id,
            entry,
            poll: POLL_MIN,
        })
    }

    /// Marks a run of this process.
    pub(super) fn running(&self, id: OperationId) -> RunningHere<'_> {
        let mut table = lock(&self.table);
        let entry = table.entry(id);
        lock(&entry.counts).running_here += 1;
        RunningHere {
            waiters: self,
            id,
            entry,
        }
    }

    /// Marks a run of this process, unless there is one already.
    #[cfg(feature = "atomic")]
    pub(crate) fn lead(&self, id: OperationId) -> Option<RunningHere<'_>> {
        let mut table = lock(&self.table);
        let entry = table.entry(id);
        {
            let mut counts = lock(&entry.counts);
            if counts.running_here > 0 {
                return None;
            }
            counts.running_here = 1;
        }
        Some(RunningHere {
            waiters: self,
            id,
            entry,
        })
    }

    /// Whether there is a run in this process.
    #[cfg(feature = "atomic")]
    pub(crate) fn runs_here(&self, id: OperationId) -> bool {
        let table = lock(&self.table);
        let entry = table.entries.get(&id);
        entry.is_some_and(|entry| lock(&entry.counts).running_here > 0)
    }

    /// Waiters over all operations.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.table).waiting
    }
}

impl Waiter<'_> {
    /// Returns when the operation may have changed: its run in this process ended, or `look` (asked by one waiter of
    /// each operation at a time, at growing intervals) says that it has.
    pub(crate) async fn changed<F: Future<Output = bool>>(&mut self, mut look: impl FnMut() -> F) {
        let changed = self.entry.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let poll = async {
            let Ok(_permit) = self.entry.poller.acquire().await else {
                return;
            };
            loop {
                let here = lock(&self.entry.counts).running_here > 0;
                tokio::time::sleep(if here { POLL_LOCAL } else { self.poll }).await;
                self.poll = POLL_MAX.min(self.poll * 2);
                if look().await {
                    break;
                }
            }
            self.entry.changed.notify_waiters();
        };
        tokio::select! {
            biased;
            () = changed => {}
            () = poll => {}
        }
    }
}

impl Table {
    fn entry(&mut self, id: OperationId) -> Arc<Entry> {
        let entry = self.entries.entry(id).or_insert_with(|| {
            Arc::new(Entry {
                changed: Notify::new(),
                poller: Semaphore::new(1),
                counts: Mutex::default(),
            })
        });
        Arc::clone(entry)
    }

    fn drop_if_unused(&mut self, id: OperationId, entry: &Entry) {
        let counts = lock(&entry.counts);
        if counts.running_here == 0 && counts.waiting == 0 {
            self.entries.remove(&id);
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut table = lock(&self.waiters.table);
        table.waiting -= 1;
        lock(&self.entry.counts).waiting -= 1;
        table.drop_if_unused(self.id, &self.entry);
    }
}

impl Drop for RunningHere<'_> {
    fn drop(&mut self) {
        let mut table = lock(&self.waiters.table);
        lock(&self.entry.counts).running_here -= 1;
        table.drop_if_unused(self.id, &self.entry);
        self.entry.changed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds these locks; counters stay right in any case.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
