//! The thread that polls librdkafka, without a break: it takes messages, pauses what there is no room for, and
//! goes along with rebalances.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError as ClientError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;

use super::committer::{self, Stop};
use super::session::{Names, Session, message};
use super::state::Place;
use super::trouble::{Trouble, is_transport};
use crate::consume::Lag;

/// The longest that a pause, a commit or a goodbye waits for a poll that finds nothing.
const TICK: Duration = Duration::from_millis(50);
/// As long as this a full buffer is given to the workers before partitions are paused.
const ROOM: Duration = Duration::from_millis(100);
/// The longest wait for one answer of a broker.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a broker is tried that was away.
const PROBE: Duration = Duration::from_secs(1);
/// Messages between two looks at everything else.
const STRIDE: u32 = 64;

pub(super) struct Poller {
    session: Arc<Session>,
    names: Names,
    probed_at: Instant,
}

impl Poller {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self {
            names: Names::new(&session.joining.topics),
            session,
            probed_at: Instant::now(),
        }
    }

    /// Until it is told to leave the group, or cannot go on.
    pub(super) fn run(mut self) {
        let ending = Ending(Arc::clone(&self.session));
        let joining = &self.session.joining;
        let context = Context {
            session: Arc::clone(&self.session),
            names: Names::new(&joining.topics),
            last: std::sync::Mutex::default(),
        };
        let topics: Vec<&str> = joining.topics.iter().map(|topic| &**topic).collect();
        let made: KafkaResult<BaseConsumer<Context>> = joining.config.create_with_context(context);
        match made.and_then(|consumer| consumer.subscribe(&topics).map(|()| consumer)) {
            Ok(consumer) => {
                let session = Arc::clone(&self.session);
                std::thread::scope(|scope| {
                    let _stop = Stop(&session);
                    let thread = std::thread::Builder::new().name("hapax-kafka-commit".to_owned());
                    match thread.spawn_scoped(scope, || committer::run(&session, &consumer)) {
                        Ok(_) => self.poll(&consumer),
                        Err(error) => {
                            let label = &session.joining.label;
                            session.tell(Trouble::unreachable(format!(
                                "{label}: no thread can be started: {error}"
                            )));
                        }
                    }
                });
                // Commits what is done and leaves the group.
                drop(consumer);
            }
            Err(error) => {
                let label = &joining.label;
                self.session.tell(Trouble::refused(format!("{label}: {error}")));
            }
        }
        drop(ending);
    }

    fn poll(&mut self, consumer: &BaseConsumer<Context>) {
        let mut left = 0;
        loop {
            if left == 0 {
                if self.session.state().closing {
                    return;
                }
                self.keep_up(consumer);
                left = STRIDE;
            }
            left -= 1;
            match consumer.poll(TICK) {
                Some(Ok(polled)) => {
                    let place = (self.names.of(polled.topic()), polled.partition());
                    let taken = message(&polled);
                    let mut state = self.session.state();
                    state.trouble = None;
                    if !state.push(&place, polled.offset(), taken) {
                        left = 0;
                    }
                    drop(state);
                    self.session.arrived.notify_one();
                }
                Some(Err(ClientError::MessageConsumptionFatal(code))) => {
                    let label = &self.session.joining.label;
                    let trouble = Trouble::of(code, "the broker ended this membership", label)
                        .unwrap_or_else(|| Trouble::unreachable(format!("{label}: {code}; it joins again")));
                    return self.session.tell(trouble);
                }
                // The context was told why.
                Some(Err(_)) | None => left = 0,
            }
        }
    }

    /// Everything but taking messages.
    fn keep_up(&mut self, consumer: &BaseConsumer<Context>) {
        self.answer(consumer);
        if self.session.state().presses() {
            self.session.hurry.notify_one();
        }
        self.wait_for_room();
        self.tell_wishes(consumer);
        self.probe(consumer);
    }

    /// A pause drops what librdkafka has fetched ahead: workers that only need a moment are not worth it.
    fn wait_for_room(&self) {
        let state = self.session.state();
        if state.could_wait() {
            // Whatever ends it, the wishes are read anew.
            let _ = self
                .session
                .room
                .wait_timeout_while(state, ROOM, |state| state.could_wait() && !state.closing);
        }
    }

    fn tell_wishes(&self, consumer: &BaseConsumer<Context>) {
        let wishes = self.session.state().wishes();
        let told = [
            (&wishes.pause, consumer.pause(&partitions(&wishes.pause))),
            (&wishes.resume, consumer.resume(&partitions(&wishes.resume))),
        ];
        for (_, told) in told.into_iter().filter(|(places, _)| !places.is_empty()) {
            if let Err(error) = told {
                tracing::warn!(source = %self.session.joining.label, %error, "partitions could not be paused or resumed");
            }
        }
    }

    /// Looks whether what was wrong is over: a topic without messages would never tell.
    fn probe(&mut self, consumer: &BaseConsumer<Context>) {
        let Some(trouble) = self.session.state().trouble.clone() else {
            return;
        };
        if self.probed_at.elapsed() < PROBE {
            return;
        }
        let label = &self.session.joining.label;
        for topic in &self.session.joining.topics {
            match consumer.fetch_metadata(Some(topic), PROBE) {
                Ok(metadata) => {
                    let error = metadata.topics().first().and_then(|topic| topic.error());
                    if let Some(error) = error {
                        let code = error.into();
                        let trouble = Trouble::of(code, &format!("topic {topic}: {code}"), label);
                        let unsure = || Trouble::unreachable(format!("{label}: topic {topic}: {code}"));
                        self.session.tell(trouble.unwrap_or_else(unsure));
                        self.probed_at = Instant::now();
                        return;
                    }
                }
                Err(_) => {
                    self.probed_at = Instant::now();
                    return;
                }
            }
        }
        self.probed_at = Instant::now();
        let mut state = self.session.state();
        if !trouble.of_group && state.trouble.as_ref() == Some(&trouble) {
            state.trouble = None;
        }
    }

    fn answer(&self, consumer: &BaseConsumer<Context>) {
        let questions = std::mem::take(&mut self.session.state().questions);
        if questions.is_empty() {
            return;
        }
        let lag = self.lag(consumer).map_err(|error| {
            let label = &self.session.joining.label;
            let said = error
                .rdkafka_error_code()
                .and_then(|code| Trouble::of(code, "the lag", label));
            let state = self.session.state();
            said.or_else(|| state.trouble.clone())
                .unwrap_or_else(|| Trouble::unreachable(format!("{label}: the ends of its partitions: {error}")))
        });
        for question in questions {
            // Whoever asked may be gone.
            let _ = question.send(lag.clone());
        }
    }

    /// From the committable offsets of its partitions to their ends; before it joined, of all partitions, by what the
    /// group has committed.
    fn lag(&self, consumer: &BaseConsumer<Context>) -> KafkaResult<Lag> {
        let (joined, mut positions) = {
            let state = self.session.state();
            (state.joined, state.positions())
        };
        if !joined {
            for topic in &self.session.joining.topics {
                let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
                for found in metadata.topics() {
                    if let Some(error) = found.error() {
                        return Err(ClientError::MetadataFetch(error.into()));
                    }
                    let of = |partition: &rdkafka::metadata::MetadataPartition| (Arc::clone(topic), partition.id());
                    positions.extend(found.partitions().iter().map(|partition| (of(partition), None)));
                }
            }
        }
        let places: Vec<Place> = positions.iter().map(|(place, _)| place.clone()).collect();
        let unknown = positions.iter().filter(|(_, position)| position.is_none());
        let unknown: Vec<Place> = unknown.map(|(place, _)| place.clone()).collect();
        let ends = ends(consumer, &places, Offset::End)?;
        let (mut committed, mut firsts) = (Vec::new(), Vec::new());
        if !unknown.is_empty() {
            committed = listed(&consumer.committed_offsets(partitions(&unknown), ANSWER)?);
            if !self.session.joining.from_end {
                firsts = self::ends(consumer, &unknown, Offset::Beginning)?;
            }
        }
        let of = |list: &[(Place, i64)], place: &Place| list.iter().find(|(of, _)| of == place).map(|(_, at)| *at);
        let behind = positions.iter().map(|(place, position)| {
            let end = of(&ends, place).unwrap_or(0);
            let first = || of(&committed, place).or_else(|| of(&firsts, place)).unwrap_or(end);
            end.saturating_sub(position.unwrap_or_else(first)).max(0).unsigned_abs()
        });
        Ok(Lag {
            messages: behind.sum(),
            oldest: None,
        })
    }
}

/// Says that the thread has ended, however it did.
struct Ending(Arc<Session>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// What librdkafka calls back, from within a poll.
pub(super) struct Context {
    session: Arc<Session>,
    names: Names,
    /// Why a broker was not reached, most recently.
    last: std::sync::Mutex<String>,
}

impl Context {
    fn last(&self) -> std::sync::MutexGuard<'_, String> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn places(&self, list: &TopicPartitionList) -> Vec<Place> {
        let place = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            (self.names.of(element.topic()), element.partition())
        };
        list.elements().iter().map(place).collect()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        let label = &self.session.joining.label;
        tracing::debug!(source = %label, %error, reason, "librdkafka");
        let Some(code) = error.rdkafka_error_code() else { return };
        if is_transport(code) {
            reason.clone_into(&mut self.last());
        }
        let last = self.last();
        let reason = match code {
            rdkafka::types::RDKafkaErrorCode::AllBrokersDown if !last.is_empty() => &last,
            _ => reason,
        };
        if let Some(trouble) = Trouble::of(code, reason, label) {
            self.session.tell(trouble);
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(revoked) = rebalance else { return };
        let revoked = self.places(revoked);
        let _turn = committer::turn(&self.session);
        let commits = self.session.state().revoke(&revoked);
        let label = &self.session.joining.label;
        tracing::debug!(source = %label, partitions = revoked.len(), "partitions go to another member");
        // Partitions that were lost are another's already, whose commits this would undo.
        if commits.is_empty() || consumer.assignment_lost() {
            return;
        }
        if let Err(error) = committer::commit(consumer, &commits) {
            tracing::warn!(source = %label, %error, "what was handled could not be committed: it is delivered again");
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let label = &self.session.joining.label;
        match rebalance {
            Rebalance::Assign(assigned) => {
                let places = self.places(assigned);
                tracing::debug!(source = %label, partitions = places.len(), "partitions were assigned");
                let ends = match ends(consumer, &places, Offset::End) {
                    Ok(ends) => ends,
                    Err(error) => {
                        tracing::debug!(source = %label, %error, "the ends of partitions are not known");
                        Vec::new()
                    }
                };
                let end = |place: &Place| ends.iter().find(|(of, _)| of == place).map(|(_, end)| *end);
                let mut state = self.session.state();
                state.assign(places.iter().map(|place| (place.clone(), end(place))));
                state.trouble = None;
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(source = %label, %error, "a rebalance failed"),
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(TICK)
    }
}

/// librdkafka's words among ours.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "librdkafka: {text}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {text}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, "librdkafka: {text}");
        }
    }
}

fn partitions(places: &[Place]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    list
}

/// The offsets of a list that has some.
fn listed(list: &TopicPartitionList) -> Vec<(Place, i64)> {
    let known = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) if element.error().is_ok() => {
            Some(((element.topic().into(), element.partition()), offset))
        }
        _ => None,
    };
    list.elements().iter().filter_map(known).collect()
}

/// Where partitions begin or end.
fn ends(consumer: &BaseConsumer<Context>, places: &[Place], which: Offset) -> KafkaResult<Vec<(Place, i64)>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = partitions(places);
    list.set_all_offsets(which)?;
    Ok(listed(&consumer.offsets_for_times(list, ANSWER)?))
}
