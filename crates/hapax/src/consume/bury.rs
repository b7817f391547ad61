//! Dead letters of messages that are not run: without an identity, with another payload, too large, too old.

use std::time::Duration;

use hapax_core::{DeadReason, Finish, Key, LastError, Refusal};
use tokio::sync::oneshot;

use super::Message;
use super::perform::{Came, Desk, Keep, refingerprint};
use crate::engine::drive::Drive;
use crate::engine::{Ended, Reply};
use crate::event::Event;

impl Desk {
    /// Makes a message a dead letter under this key, with its payload, unless that is known already.
    pub(super) async fn bury(&self, message: &Message, key: &Key, reason: DeadReason, why: &str) -> Came {
        let claim = match self.claim(message, key, Keep::Dead(why)).await {
            Ok(claim) => claim,
            Err(error) => return Came::Away(error.to_string()),
        };
        let (inner, operation) = (&self.engine.inner, claim.operation.clone());
        let (reply, answered) = oneshot::channel();
        let drive = Box::new(Drive {
            inner: inner.clone(),
            claim,
            youth: None,
            reply,
        });
        let finish = Finish::Dead {
            reason,
            answer: None,
            last_error: Some(LastError::new(why)),
        };
        let ended = async move |_| Ended { finish, reply: () };
        tokio::spawn(drive.run(refingerprint(), Duration::ZERO, ended));
        match answered.await {
            Ok(Ok(Reply::Ran(()))) => {
                let operation = &operation;
                inner.emit(&Event::Died { operation, reason });
                Came::Dead(format!("{}: {why}", reason.as_str()))
            }
            Ok(Ok(Reply::Refused(Refusal::Mismatch | Refusal::OtherRecipe(_)))) => {
                // The key is made of the payload's digest: it cannot be another's.
                Came::Again(Duration::from_secs(1))
            }
            Ok(Ok(Reply::Refused(refusal))) => self.refused(operation.id(), refusal).await,
            Ok(Err(error)) => Self::not_run(&error),
            Err(_) => Came::Again(Duration::ZERO),
        }
    }

    /// The same identity came with another payload: a dead letter of its own, beside the first.
    pub(super) async fn bury_mismatch(&self, message: &Message, key: &Key) -> Came {
        let why = format!(
            "a message with the identity {:?} was handled before, with another payload: let the producer give each \
             event an identity of its own",
            key.as_str()
        );
        match self.fingerprint(message).await {
            Ok(fingerprint) => {
                let digest = blake3::Hash::from_bytes(*fingerprint.digest()).to_hex();
                let beside = beside(key, &digest);
                self.bury(message, &beside, DeadReason::Mismatch, &why).await
            }
            Err(error) => Came::Away(error.to_string()),
        }
    }
}

/// The key of a message that has none: its place, or what is in it.
#[allow(clippy::expect_used, reason = "hexadecimal digits are within the rules")]
pub(super) fn stand_in(message: &Message) -> Key {
    let digest = blake3::hash(&message.to_input().0).to_hex();
    let digested = || Key::new(format!("no identity: {digest}")).expect("hexadecimal digits are within the rules");
    match &message.position {
        Some(position) => Key::new(format!("no identity: {position}")).unwrap_or_else(|_| digested()),
        None => digested(),
    }
}

#[allow(clippy::expect_used, reason = "hexadecimal digits are within the rules")]
fn beside(key: &Key, digest: &str) -> Key {
    Key::new(format!("{} #{}", key.as_str(), &digest[..16])).unwrap_or_else(|_| {
        let whole = blake3::hash(format!("{} #{digest}", key.as_str()).as_bytes()).to_hex();
        Key::new(format!("mismatch: {whole}")).expect("hexadecimal digits are within the rules")
    })
}

#[cfg(test)]
mod tests {
    use hapax_core::{AfterFailure, Name, State, Timestamp};
    use hapax_store::{Clock, MemoryStore};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::consume::{Consumer, ConsumerOptions, MemoryQueue};
    use crate::engine::{Engine, EngineOptions, RunOptions};
    use crate::retry::Destination;

    fn engine() -> Engine {
        let started = Instant::now();
        let reading = move || {
            (
                Timestamp::from_millis(1_700_000_000_000).after(started.elapsed()),
                started.elapsed(),
            )
        };
        Engine::new(
            MemoryStore::new(Clock::made(reading, Duration::MAX), [0; 32]),
            EngineOptions::default(),
            (),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_crash_left_of_making_a_dead_letter_is_never_run() {
        is_never_run(AfterFailure::Retry).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_crash_left_of_making_a_dead_letter_is_not_unknown() {
        is_never_run(AfterFailure::Hold).await;
    }

    async fn is_never_run(after_failure: AfterFailure) {
        let engine = engine();
        let queue = MemoryQueue::new();
        let options = || ConsumerOptions::new(Destination::new(ConsumerOptions::policy()).unwrap());
        let run = RunOptions {
            after_failure,
            ..RunOptions::default()
        };
        let name = Name::new("points").unwrap();
        let desk = Desk::new(engine.clone(), name.clone(), run.clone(), options()).unwrap();
        // All that was done before the crash.
        let message = Message::new("", "twice");
        let key = Key::new("a, again").unwrap();
        let claim = desk.claim(&message, &key, Keep::Dead("planted")).await.unwrap();
        let id = claim.operation.id();
        engine.store().claim(claim).await.unwrap();
        let half = engine.store().read(id).await.unwrap().1.unwrap();
        assert!(desk.is_half_buried(&half));

        let consumer = Consumer::leased(
            name,
            queue.source(),
            "header:Id".parse().unwrap(),
            &engine,
            run,
            options(),
            |_, _| async { panic!("it was run") },
        );
        let running = tokio::spawn(consumer.unwrap().run(std::future::pending::<()>()));
        let buried = loop {
            let record = engine.store().read(id).await.unwrap().1.unwrap();
            match record.state {
                State::Running { .. } => sleep(Duration::from_secs(1)).await,
                _ => break record,
            }
        };
        running.abort();
        assert!(matches!(buried.state, State::Dead { .. }), "{buried:?}");
        assert_eq!(buried.last_error.as_ref().unwrap().as_str(), "planted");
        assert_eq!(Message::from_input(&buried.input.unwrap()), Some(message));
    }
}
