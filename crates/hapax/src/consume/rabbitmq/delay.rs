//! Queues in which messages wait for their time.
//!
//! One for each pause: all messages in it wait equally long, so that the first is always the first that is due. They are
//! quorum queues, and hand over at least once: a message leaves when the queue it came from has it. They stay: the broker
//! would drop an unused queue with the messages in it, and publishing is no use in its eyes.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

/// In seconds.
const STEPS: [u64; 11] = [1, 2, 5, 15, 30, 60, 300, 900, 3_600, 21_600, 86_400];
/// The longest pause. What is to wait longer comes after it, and is put off again.
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);

/// The next pause that is not shorter.
pub(super) fn step(after: Duration) -> Duration {
    let steps = STEPS.into_iter().map(Duration::from_secs);
    steps.into_iter().find(|step| *step >= after).unwrap_or(LONGEST)
}

/// What the names of a queue's delay queues begin with.
pub(super) fn prefix(queue: &str) -> String {
    format!("{queue}.hapax.retry.")
}

pub(super) fn name(queue: &str, step: Duration) -> String {
    format!("{}{}", prefix(queue), step.as_millis())
}

pub(super) fn arguments(queue: &str, step: Duration) -> FieldTable {
    let mut arguments = quorum();
    hand_over(&mut arguments, "", queue);
    let milliseconds = step.as_millis() as i64;
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(milliseconds));
    arguments
}

/// A queue that keeps what it has: on a majority of its nodes, and refuses what it has no room for.
pub(super) fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

/// What leaves the queue by itself goes there, and does not leave before it has arrived.
pub(super) fn hand_over(arguments: &mut FieldTable, exchange: &str, routing_key: &str) {
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-dead-letter-exchange".into(), text(exchange));
    arguments.insert("x-dead-letter-routing-key".into(), text(routing_key));
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_rounded_up_to_steps() {
        for (after, waits) in [
            (1, 1_000),
            (1_000, 1_000),
            (1_001, 2_000),
            (61_000, 300_000),
            (u64::MAX, 86_400_000),
        ] {
            assert_eq!(step(Duration::from_millis(after)).as_millis(), waits, "{after}");
        }
        assert!(name(&"q".repeat(230), LONGEST).len() <= 255);
    }
}
