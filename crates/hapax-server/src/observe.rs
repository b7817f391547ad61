//! What is told to people: metrics, log lines, one access line a request. Keys, bodies, scopes and query strings are
//! in none of them.
//!
//! Counters are plain atomics that [`prometheus`] renders: an event costs a few nanoseconds, and nothing is allocated.

pub(crate) mod access;
pub(crate) mod census;
pub(crate) mod consume;
pub(crate) mod destinations;
pub(crate) mod log;
pub(crate) mod outbox;
pub(crate) mod prometheus;
mod receipts;
#[cfg(test)]
mod tests;
mod work;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hapax::core::{Census, Outcome, Refusal, StateName, Timestamp};
use hapax::{Event, Observer};

/// An error with those underneath.
fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper ends of a histogram's buckets, in microseconds.
const BUCKETS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|end| *end < us);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }
}

/// What a duplicate was told; the last is a done record whose answer is gone.
const TOLD: [&str; 9] = [
    "mismatch",
    "other-recipe",
    "in-progress",
    "later",
    "unknown",
    "replay",
    "dead",
    "attempt-over",
    "answer-not-kept",
];

fn told(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::Mismatch => 0,
        Refusal::OtherRecipe(_) => 1,
        Refusal::InProgress { .. } => 2,
        Refusal::Later { .. } => 3,
        Refusal::Unknown { .. } => 4,
        Refusal::Done {
            outcome: Outcome::Answer(_),
            ..
        } => 5,
        Refusal::Dead { .. } => 6,
        Refusal::AttemptOver => 7,
        Refusal::Done { .. } => 8,
    }
}

const STEPS: [&str; 8] = ["claim", "renew", "finish", "read", "enqueue", "take", "amend", "sweep"];

/// Everything that is counted. One for the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    started: Counter,
    finished: [Counter; StateName::ALL.len()],
    run_time: Histogram,
    fenced: Counter,
    told: [Counter; TOLD.len()],
    from_cache: Counter,
    too_many_waiters: Counter,
    renewed: Counter,
    lease_lost: Counter,
    panicked: Counter,
    store_failed: [Counter; STEPS.len()],
    lapsed: Counter,
    stripped: Counter,
    forgotten: Counter,
    work: work::WorkMetrics,
    receipts: receipts::ReceiptMetrics,
    counted: census::Counted,
    pub(crate) outbox: outbox::OutboxMetrics,
    pub(crate) consume: consume::ConsumeMetrics,
    pub(crate) http: access::HttpMetrics,
    /// When a failure of the store was last logged, in milliseconds since `started_at`.
    failure_logged: AtomicI64,
    /// When an unknown outcome was last logged that no resolver could settle.
    unresolved_logged: AtomicI64,
    started_at: Started,
}

#[derive(Debug)]
struct Started(std::time::Instant);

impl Default for Started {
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Observer for Metrics {
    fn event(&self, event: &Event<'_>) {
        self.count(event);
        self.work.count(event);
        self.receipts.count(event);
        self.outbox.count(event);
        self.consume.count(event);
        self.log(event);
    }
}

impl Metrics {
    fn counted(&self, census: Census, at: Timestamp) {
        self.counted.set(census, at);
    }

    fn count(&self, event: &Event<'_>) {
        match event {
            Event::Started { .. } => self.started.add(1),
            Event::Finished { state, took, .. } => {
                let index = StateName::ALL.iter().position(|name| name == state).unwrap_or(0);
                self.finished[index].add(1);
                self.run_time.record(*took);
            }
            Event::Fenced { .. } => self.fenced.add(1),
            Event::Refused { refusal, cached, .. } => {
                self.told[told(refusal)].add(1);
                self.from_cache.add(u64::from(*cached));
            }
            Event::TooManyWaiters { .. } => self.too_many_waiters.add(1),
            Event::Renewed { .. } => self.renewed.add(1),
            Event::LeaseLost { .. } => self.lease_lost.add(1),
            Event::Panicked { .. } => self.panicked.add(1),
            Event::StoreFailed { step, .. } => {
                if let Some(index) = STEPS.iter().position(|name| name == step) {
                    self.store_failed[index].add(1);
                }
            }
            Event::Swept(swept) => {
                self.lapsed.add(swept.lapsed as u64);
                self.stripped.add(swept.stripped as u64);
                self.forgotten.add(swept.forgotten as u64);
            }
            _ => {}
        }
    }

    /// Operations are named by their id, a digest: never by key or scope.
    fn log(&self, event: &Event<'_>) {
        match event {
            Event::Finished {
                operation,
                state: StateName::Unknown,
                ..
            } => tracing::warn!(
                operation = %operation.id(), name = %operation.name(),
                "nobody knows whether an operation happened: its record is unknown"
            ),
            Event::Fenced { operation, fence } => tracing::warn!(
                operation = %operation.id(), %fence,
                "a run ended after it had lost its claim: what its record says stands"
            ),
            Event::LeaseLost { operation, fence } => tracing::warn!(
                operation = %operation.id(), %fence, "a run goes on, but its claim ends: it took longer than max_run"
            ),
            Event::Panicked { operation } => tracing::error!(operation = %operation.id(), "a handler panicked"),
            Event::Died { operation, reason } => tracing::info!(
                operation = %operation.id(), name = %operation.name(), reason = reason.as_str(),
                "a dead letter: no retry will mend it (hapax dead ls)"
            ),
            Event::Resolved { operation, by, state } => tracing::info!(
                operation = %operation.id(), name = %operation.name(), by, %state, "an unknown outcome was settled"
            ),
            Event::Unresolved { operation, saw } if self.may_log(&self.unresolved_logged) => tracing::warn!(
                operation = %operation.id(), name = %operation.name(), saw,
                "nobody can tell yet what became of an operation: it is asked about again"
            ),
            Event::ReceiptChecked {
                operation, first: true, ..
            } => tracing::warn!(
                operation = %operation.id(), name = %operation.name(),
                "an operation was answered, and left no receipt: call hapax_receipt in the transaction of everything that \
                 has an effect, then start hapax again; until then, a lost answer of this name stays unknown. If what \
                 leaves none has no effect, write receipts = \"required\"; if the backend writes none there, \"never\""
            ),
            Event::ReceiptsFailed { doing, error } if self.may_log(&self.failure_logged) => {
                tracing::warn!(doing, %error, "receipts could not be looked after; it is tried again");
            }
            Event::ReceiptsPurged { rows } => {
                tracing::debug!(rows, "receipts that had outlived their records are gone")
            }
            Event::Unattended { operation } => tracing::warn!(
                operation = %operation.id(), name = %operation.name(),
                "nobody knows whether an operation happened, and no probe is there to be asked"
            ),
            Event::Suspect { operation, crashes } => tracing::warn!(
                operation = %operation.id(), name = %operation.name(), crashes,
                "an operation runs alone: it may have crashed its process"
            ),
            Event::Retried {
                operation,
                class,
                after,
                tries,
            } => tracing::debug!(operation = %operation.id(), class = class.as_str(), ?after, tries, "to be run again"),
            Event::PutOff { operation, after, by } => {
                tracing::debug!(operation = %operation.id(), ?after, %by, "put off");
            }
            Event::SourceFailed {
                name,
                doing,
                error,
                refused,
            } if self.consume.is_news(name, self.started_at.0.elapsed()) => {
                let error = chain(*error);
                match refused {
                    true => tracing::error!(consumer = %name, doing, error, "the broker refuses a consumer"),
                    false => {
                        tracing::warn!(consumer = %name, doing, error, "a consumer's broker is away; it is tried again")
                    }
                }
            }
            Event::IntakePaused { name } => tracing::warn!(
                consumer = %name, "nothing is taken from the broker for now: what handles the messages is away"
            ),
            Event::IntakeResumed { name } => tracing::info!(consumer = %name, "messages are taken again"),
            Event::Consumed { name, came, took } => tracing::debug!(consumer = %name, came, ?took, "a message"),
            Event::Enqueued { operation, .. } => tracing::debug!(operation = %operation.id(), "accepted"),
            Event::StoreFailed { step, error } if self.may_log(&self.failure_logged) => {
                tracing::warn!(step, %error, "the store failed");
            }
            Event::Swept(swept) => tracing::debug!(
                lapsed = swept.lapsed,
                stripped = swept.stripped,
                forgotten = swept.forgotten,
                "swept"
            ),
            Event::TooManyWaiters { operation } => {
                tracing::debug!(operation = %operation.id(), "a duplicate could not wait: too many do");
            }
            Event::Started { operation, fence } => {
                tracing::debug!(operation = %operation.id(), %fence, "started");
            }
            Event::Finished { operation, state, took } => {
                tracing::debug!(operation = %operation.id(), %state, ?took, "finished");
            }
            Event::Refused {
                operation,
                refusal,
                cached,
            } => tracing::debug!(operation = %operation.id(), told = TOLD[told(refusal)], cached, "a duplicate"),
            _ => {}
        }
    }

    /// A store or a backend that is down fails every request: one line a second says enough.
    fn may_log(&self, logged: &AtomicI64) -> bool {
        let now = i64::try_from(self.started_at.0.elapsed().as_millis()).unwrap_or(i64::MAX);
        let last = logged.load(Relaxed);
        (last == 0 || now - last >= 1000) && logged.compare_exchange(last, now.max(1), Relaxed, Relaxed).is_ok()
    }
}
