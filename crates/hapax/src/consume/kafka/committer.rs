//! The thread that commits what is done, and waits for the broker's word: a broker that keeps it waiting must not keep
//! messages waiting. (librdkafka tells nobody here what became of a commit that nobody waits for.)

use std::sync::{MutexGuard, PoisonError};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::poller::Context;
use super::session::Session;
use super::state::Commit;

/// Commits until it is stopped.
pub(super) fn run(session: &Session, consumer: &BaseConsumer<Context>) {
    while wait(session) {
        let _turn = turn(session);
        let commits = session.state().commits();
        if commits.is_empty() {
            continue;
        }
        match commit(consumer, &commits) {
            Ok(()) => session.state().committed(&commits),
            Err(error) => {
                let label = &session.joining.label;
                tracing::debug!(source = %label, %error, "offsets could not be committed yet");
            }
        }
    }
}

/// Until it is time; false when it is to end. The last commit is made when the group is left.
fn wait(session: &Session) -> bool {
    let (every, state) = (session.joining.commit_every, session.state());
    let waited = session
        .hurry
        .wait_timeout_while(state, every, |state| !state.idle && !state.presses());
    let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    !state.idle
}

/// One commits at a time: a commit of what is done must not come after that of a partition which is given up.
pub(super) fn turn(session: &Session) -> MutexGuard<'_, ()> {
    session.turn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns when the broker has said what became of it. That one partition of several was refused, it does not say: then
/// messages come again that were handled.
pub(super) fn commit(consumer: &BaseConsumer<Context>, commits: &[Commit]) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let (topic, partition) = &commit.place;
        list.add_partition_offset(topic, *partition, Offset::Offset(commit.offset))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}

/// Stops the thread, however the one that polls ends.
pub(super) struct Stop<'a>(pub(super) &'a Session);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.state().idle = true;
        self.0.hurry.notify_one();
    }
}
