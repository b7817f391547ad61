//! Done records kept in memory: they never change, so that a replay need not ask the store.

use std::time::Duration;

use hapax_core::{Claim, Operation, OperationId, Outcome, Record, Refusal, State, Timestamp, Verdict, decide};
use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;
use std::sync::Arc;
use tokio::time::Instant;

/// A bounded cache of done records.
pub(crate) struct Cache {
    records: QuickCache<OperationId, Arc<Cached>, Bytes>,
    max_age: Duration,
}

struct Cached {
    record: Record,
    since: Instant,
}

#[derive(Clone)]
struct Bytes;

/// Memory of a cached record beside its answer: the record, its words, the cache's own slot.
const RECORD_BYTES: u64 = 640;

impl Weighter<OperationId, Arc<Cached>> for Bytes {
    fn weight(&self, _: &OperationId, cached: &Arc<Cached>) -> u64 {
        let answer = match &cached.record.state {
            State::Done(Outcome::Answer(answer)) => answer.size(),
            _ => 0,
        };
        RECORD_BYTES + answer as u64
    }
}

impl Cache {
    pub(super) fn new(bytes: u64, max_age: Duration) -> Self {
        Self {
            records: QuickCache::with_weighter((bytes / 1500) as usize, bytes, Bytes),
            max_age,
        }
    }

    /// What the claim would be told, if the operation is known to be done.
    pub(super) fn refusal(&self, claim: &Claim, now: Timestamp) -> Option<Refusal> {
        let cached = self.records.get(&claim.operation.id())?;
        if cached.since.elapsed() > self.max_age {
            return None;
        }
        match decide(Some(&cached.record), claim, now) {
            Verdict::Refuse(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Keeps what a claim was told of a done operation.
    pub(crate) fn keep_refusal(&self, claim: &Claim, refusal: &Refusal) {
        if let Refusal::Done { at, outcome } = refusal {
            self.keep_done(claim, *at, outcome.clone());
        }
    }

    /// Keeps a record that the claim's own run finished.
    pub(crate) fn keep_done(&self, claim: &Claim, at: Timestamp, outcome: Outcome) {
        self.keep(Record {
            operation: claim.operation.clone(),
            fingerprint: claim.fingerprint,
            // A done record is told apart by its fingerprint and answer alone.
            fence: hapax_core::Fence::new(0),
            attempt: claim.attempt,
            tries: 0,
            crashes: 0,
            created: at,
            since: at,
            retention: claim.retention,
            input: None,
            last_error: None,
            redriven: None,
            group: claim.group,
            wake_at: None,
            state: State::Done(outcome),
        });
    }

    /// Keeps a record that was read, if it is done.
    pub(crate) fn keep(&self, record: Record) {
        if matches!(record.state, State::Done(_)) {
            let id = record.operation.id();
            self.records.insert(
                id,
                Arc::new(Cached {
                    record,
                    since: Instant::now(),
                }),
            );
        }
    }

    /// Drops a record, as when it was forgotten.
    pub(super) fn forget(&self, operation: &Operation) {
        self.records.remove(&operation.id());
    }
}
