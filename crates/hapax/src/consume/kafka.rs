//! Kafka: a consumer group as a source, a topic as a sink, by librdkafka.
//!
//! ```text
//! thread: poll → buffer, bounded → receive → worker → ack → tracker: lowest offset that is not done → commit
//!         │                         ↑ again, after its time  ← retry_later
//!         └ rebalance: commit what is done, forget the rest; acks of another assignment are refused
//! ```
//!
//! Kafka commits a position, not messages: [`tracker`] turns acks in any order into the highest position behind which
//! nothing is open. What it does not do: rest on Kafka's transactions.

mod cluster;
mod committer;
mod limits;
mod outlet;
mod poller;
mod session;
mod sink;
mod state;
mod tracker;
mod trouble;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::BoxFuture;
use rdkafka::ClientConfig;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::source::{Delivery, Lag, Source, SourceError};
use cluster::check;
use outlet::{DeadLetters, Outlet};
use session::{Joining, Session};
use state::Bounds;
use trouble::Trouble;

pub use cluster::{Kafka, KafkaError, KafkaMechanism};
pub use sink::KafkaSink;

/// The longest that a dead letter is on its way.
const DEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How a [`KafkaSource`] reads. Every field has a default.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Where it begins in a partition of which the group has committed nothing (at its oldest message).
    pub start: KafkaStart,
    /// The most offsets between what a partition's commit has confirmed and the last message taken from it (10,000).
    /// Beyond, the partition waits for its oldest message to be settled. It is also how many messages of a partition may
    /// be called redelivered after an assignment, of those that were there then: as many may have been given out before.
    pub window: u64,
    /// Messages that are taken from the brokers ahead of the workers (1,000).
    pub buffer: usize,
    /// Bytes that are taken ahead, or wait to be given again (32 MiB), give or take one message.
    pub buffer_bytes: usize,
    /// Messages of one partition that wait to be given again (1,000). With more, the partition is paused.
    pub parked: usize,
    /// The longest that an ack waits to be committed (100 ms): a crash repeats that much.
    pub commit_every: Duration,
    /// How long a member that does not answer keeps its partitions (45 s).
    pub session: Duration,
    /// The topic that dead letters are exported to (none).
    pub dead_letters: Option<String>,
}

/// Where a group begins that has committed nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KafkaStart {
    /// At the oldest message. Nothing is lost when a partition is added, or an offset has expired.
    #[default]
    Earliest,
    /// Behind the newest message: whatever was written before, and while nobody was there, is never seen.
    Latest,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            start: KafkaStart::Earliest,
            window: 10_000,
            buffer: 1_000,
            buffer_bytes: 32 << 20,
            parked: 1_000,
            commit_every: Duration::from_millis(100),
            session: Duration::from_secs(45),
            dead_letters: None,
        }
    }
}

/// A source that reads topics as a member of a consumer group.
///
/// An ack is noted at once and committed within [`KafkaOptions::commit_every`]; [`close`](Source::close) and a
/// rebalance commit what is done first. What is retried later is kept here meanwhile. Dropped, it leaves the group.
///
/// ```
/// use hapax::consume::{Kafka, KafkaOptions, KafkaSource};
///
/// let cluster = Kafka::new("127.0.0.1:9092")?;
/// let orders = KafkaSource::new(&cluster, "points", &["orders"], KafkaOptions::default())?;
/// # Ok::<_, hapax::consume::KafkaError>(())
/// ```
pub struct KafkaSource {
    joining: Joining,
    /// The settings of a client that only asks.
    asking: ClientConfig,
    dead_letters: Option<Arc<DeadLetters>>,
    session: Option<Arc<Session>>,
}

impl KafkaSource {
    /// A member of `group` that reads `topics`. Connects at the first call.
    ///
    /// # Errors
    /// [`KafkaError`] if librdkafka does not take the settings, or the options contradict each other.
    pub fn new(cluster: &Kafka, group: &str, topics: &[&str], options: KafkaOptions) -> Result<Self, KafkaError> {
        let wrong = |why| Err(KafkaError::Options(why));
        if group.is_empty() || topics.is_empty() || topics.iter().any(|topic| topic.is_empty()) {
            return wrong("a group and a topic must be named");
        }
        if topics.iter().any(|topic| topic.starts_with('^')) {
            return wrong("topics are named one by one: a pattern would read whatever is created");
        }
        if options.commit_every.is_zero() {
            return wrong("commits without a pause between them (commit_every of 0) leave no time for anything else");
        }
        if options.window == 0 || options.buffer == 0 || options.buffer_bytes == 0 || options.parked == 0 {
            return wrong("a bound of 0 (window, buffer, buffer_bytes, parked) lets nothing through");
        }
        let config = settings(cluster, group, &options);
        check(&config)?;
        let outlet = options.dead_letters.as_deref();
        let outlet = outlet
            .map(|topic| Outlet::new(cluster, topic, DEAD_TIMEOUT))
            .transpose()?;
        let label = format!("kafka {} (group {group}) at {}", topics.join(","), cluster.brokers());
        Ok(Self {
            joining: Joining {
                label: label.into(),
                config,
                topics: topics.iter().map(|topic| (*topic).into()).collect(),
                bounds: Bounds {
                    window: options.window,
                    buffer: options.buffer,
                    bytes: options.buffer_bytes,
                    parked: options.parked,
                },
                commit_every: options.commit_every,
                from_end: options.start == KafkaStart::Latest,
            },
            asking: cluster.config(&[], &[]),
            dead_letters: outlet.map(|outlet| Arc::new(DeadLetters::new(outlet))),
            session: None,
        })
    }

    /// The session, begun if there is none.
    fn session(&mut self) -> Result<Arc<Session>, SourceError> {
        if let Some(session) = &self.session {
            return Ok(Arc::clone(session));
        }
        let started = Session::start(self.joining.clone(), self.dead_letters.clone());
        let session = started.map_err(|error| {
            let text = format!("{}: no thread can be started for it", self.joining.label);
            Trouble::unreachable(text).error().caused_by(error)
        })?;
        Ok(Arc::clone(self.session.insert(session)))
    }

    /// What ended the session; the next call begins another.
    fn ended(&mut self, session: &Session) -> SourceError {
        self.session = None;
        let trouble = session.state().trouble.clone();
        let unknown = || Trouble::unreachable(format!("{}: the connection ended", self.joining.label));
        trouble.unwrap_or_else(unknown).error()
    }
}

impl Source for KafkaSource {
    fn label(&self) -> &str {
        &self.joining.label
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        Box::pin(async move {
            let session = self.session()?;
            loop {
                let arrived = session.arrived.notified();
                session.state().wanted = true;
                // Nothing is awaited between taking and giving.
                let taken = session.take(most.max(1));
                if !taken.is_empty() {
                    return Ok(taken);
                }
                let due = {
                    let state = session.state();
                    if state.ended {
                        drop(state);
                        return Err(self.ended(&session));
                    }
                    if let Some(trouble) = &state.trouble {
                        return Err(trouble.error());
                    }
                    state.due()
                };
                tokio::select! {
                    () = arrived => {}
                    () = until(due) => {}
                }
            }
        })
    }

    /// What is taken already stays here, within its bounds: as long as the partitions are ours, nobody else is given it.
    fn pause(&mut self) -> BoxFuture<'_, ()> {
        if let Some(session) = &self.session {
            session.state().wanted = false;
        }
        Box::pin(std::future::ready(()))
    }

    /// Of the partitions that are assigned to this member; before it has joined, of all of them. Transactions leave
    /// offsets that no message has, which count.
    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        Box::pin(async move {
            let session = self.session()?;
            let (question, answer) = oneshot::channel();
            {
                let mut state = session.state();
                if !state.ended {
                    state.questions.push(question);
                }
            }
            match answer.await {
                Ok(lag) => lag.map_err(|trouble| trouble.error()),
                Err(_) => Err(self.ended(&session)),
            }
        })
    }

    /// `retention.ms`, and `segment.ms` and a check more, since Kafka deletes by segments, not by messages. `None` for a
    /// topic that is compacted or keeps everything, and where the broker does not tell.
    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        let joining = &self.joining;
        Box::pin(limits::largest_age(&joining.label, &self.asking, &joining.topics))
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(session) = &self.session {
                session.leave();
                session.over().await;
            }
            self.session = None;
        })
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            session.leave();
        }
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource")
            .field("label", &self.joining.label)
            .finish_non_exhaustive()
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What librdkafka is told: ours where the caller may choose, then what must be so.
fn settings(cluster: &Kafka, group: &str, options: &KafkaOptions) -> ClientConfig {
    let session = options.session.as_millis().to_string();
    // Three are missed before a member is given up.
    let heartbeat = (options.session.as_millis() / 3).clamp(1, 3_000).to_string();
    let start = match options.start {
        KafkaStart::Earliest => "earliest",
        KafkaStart::Latest => "latest",
    };
    let defaults = [
        // A member that comes or goes takes from the others only what it gets.
        ("partition.assignment.strategy", "cooperative-sticky"),
        // What is fetched ahead of the buffer, over all partitions.
        ("queued.max.messages.kbytes", "16384"),
        // A topic or a partition that is made later is found within that time.
        ("topic.metadata.refresh.interval.ms", "30000"),
        ("reconnect.backoff.max.ms", "2000"),
    ];
    let fixed = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", start),
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "false"),
        ("session.timeout.ms", &*session),
        ("heartbeat.interval.ms", &*heartbeat),
    ];
    cluster.config(&defaults, &fixed)
}
