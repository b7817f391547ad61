//! What became of messages, consumer by consumer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hapax::Event;
use hapax::core::Name;

use super::Counter;
use super::prometheus::Page;

/// What a delivery comes to.
const CAME: [&str; 6] = ["done", "duplicate", "waiting", "unknown", "dead", "again"];
/// A counter's name, what it is, and where.
type Shown = (&'static str, &'static str, fn(&One) -> &Counter);

/// Nothing was told yet.
const NONE: u64 = u64::MAX;

/// Counters of the consumers.
#[derive(Debug, Default)]
pub(crate) struct ConsumeMetrics {
    consumers: OnceLock<Vec<One>>,
}

#[derive(Debug)]
struct One {
    name: String,
    received: Counter,
    redelivered: Counter,
    came: [Counter; CAME.len()],
    retried: Counter,
    died: Counter,
    failures: Counter,
    paused: AtomicBool,
    lag: AtomicU64,
    oldest_ms: AtomicU64,
    /// When a failure was last logged, in milliseconds since the start of the process; negative for never.
    logged: AtomicI64,
}

impl One {
    fn new(name: String) -> Self {
        Self {
            name,
            received: Counter::default(),
            redelivered: Counter::default(),
            came: Default::default(),
            retried: Counter::default(),
            died: Counter::default(),
            failures: Counter::default(),
            paused: AtomicBool::new(false),
            lag: AtomicU64::new(NONE),
            oldest_ms: AtomicU64::new(NONE),
            logged: AtomicI64::new(-1),
        }
    }
}

impl ConsumeMetrics {
    /// The consumers that are counted; once, before anything is consumed.
    pub(crate) fn watch(&self, names: impl Iterator<Item = String>) {
        let _ = self.consumers.set(names.map(One::new).collect());
    }

    fn one(&self, name: &Name) -> Option<&One> {
        self.consumers.get()?.iter().find(|one| one.name == name.as_str())
    }

    pub(super) fn count(&self, event: &Event<'_>) {
        match event {
            Event::Received {
                name,
                messages,
                redelivered,
            } => {
                let Some(one) = self.one(name) else { return };
                one.received.add(*messages as u64);
                one.redelivered.add(*redelivered as u64);
            }
            Event::Consumed { name, came, .. } => {
                let what = CAME.iter().position(|known| known == came);
                if let (Some(one), Some(what)) = (self.one(name), what) {
                    one.came[what].add(1);
                }
            }
            Event::Retried { operation, .. } => {
                if let Some(one) = self.one(operation.name()) {
                    one.retried.add(1);
                }
            }
            Event::Died { operation, .. } => {
                if let Some(one) = self.one(operation.name()) {
                    one.died.add(1);
                }
            }
            Event::IntakePaused { name } => self.pause(name, true),
            Event::IntakeResumed { name } => self.pause(name, false),
            Event::Lag { name, messages, oldest } => {
                let Some(one) = self.one(name) else { return };
                one.lag.store(*messages, Relaxed);
                let oldest = oldest.map(|oldest| u64::try_from(oldest.as_millis()).unwrap_or(NONE - 1));
                one.oldest_ms.store(oldest.unwrap_or(NONE), Relaxed);
            }
            Event::SourceFailed { name, .. } => {
                if let Some(one) = self.one(name) {
                    one.failures.add(1);
                }
            }
            _ => {}
        }
    }

    fn pause(&self, name: &Name, paused: bool) {
        if let Some(one) = self.one(name) {
            one.paused.store(paused, Relaxed);
        }
    }

    /// Whether a failure of this consumer's broker is to be logged: the first, and one each ten seconds.
    pub(super) fn is_news(&self, name: &Name, since_start: Duration) -> bool {
        const PAUSE_MS: i64 = 10_000;
        let Some(one) = self.one(name) else { return true };
        let now = i64::try_from(since_start.as_millis()).unwrap_or(i64::MAX);
        let last = one.logged.load(Relaxed);
        let due = last < 0 || now - last >= PAUSE_MS;
        due && one.logged.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }

    /// Nothing where there is no consumer.
    pub(super) fn render(&self, page: &mut Page) {
        let Some(all) = self.consumers.get().filter(|all| !all.is_empty()) else {
            return;
        };
        let came: Vec<_> = all
            .iter()
            .flat_map(|one| {
                let came = CAME.iter().zip(&one.came);
                came.map(move |(came, counter)| {
                    ([("consumer", one.name.as_str()), ("came", *came)], counter.get() as f64)
                })
            })
            .collect();
        page.labelled(
            "hapax_consumer_messages_total",
            "Deliveries that were settled, by what they came to; \"again\" are to be delivered again.",
            "counter",
            &came,
        );
        let counters: [Shown; 5] = [
            (
                "hapax_consumer_received_total",
                "Deliveries taken from the broker.",
                |one| &one.received,
            ),
            (
                "hapax_consumer_redelivered_total",
                "Those of them that may have been delivered before.",
                |one| &one.redelivered,
            ),
            ("hapax_consumer_retries_total", "Failures that are retried.", |one| {
                &one.retried
            }),
            (
                "hapax_consumer_dead_total",
                "Messages that became dead letters.",
                |one| &one.died,
            ),
            (
                "hapax_consumer_broker_failures_total",
                "Steps that the broker failed or refused.",
                |one| &one.failures,
            ),
        ];
        for (name, help, of) in counters {
            let seen: Vec<_> = all
                .iter()
                .map(|one| ([("consumer", one.name.as_str())], of(one).get() as f64))
                .collect();
            page.labelled(name, help, "counter", &seen);
        }
        let paused: Vec<_> = all
            .iter()
            .map(|one| {
                (
                    [("consumer", one.name.as_str())],
                    f64::from(u8::from(one.paused.load(Relaxed))),
                )
            })
            .collect();
        page.labelled(
            "hapax_consumer_paused",
            "1 while nothing is taken from the broker, because the endpoint is away.",
            "gauge",
            &paused,
        );
        let told = |of: fn(&One) -> &AtomicU64, scale: f64| -> Vec<_> {
            all.iter()
                .filter_map(|one| match of(one).load(Relaxed) {
                    NONE => None,
                    seen => Some(([("consumer", one.name.as_str())], seen as f64 / scale)),
                })
                .collect()
        };
        page.labelled(
            "hapax_consumer_lag",
            "Messages at the broker that are not done with.",
            "gauge",
            &told(|one| &one.lag, 1.0),
        );
        page.labelled(
            "hapax_consumer_lag_oldest_seconds",
            "Age of the oldest of them, where the broker can tell.",
            "gauge",
            &told(|one| &one.oldest_ms, 1000.0),
        );
    }
}
