//! A queue in this process, for tests of handlers: what brokers do, without one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_core::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::message::Message;
use super::source::{Delivery, Lag, Settle, Source, SourceError, SourceErrorKind};

/// A queue in memory. Clones are the same queue. Loses what is in it with its process.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueue {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    published: u64,
    deliveries: u64,
    members: u64,
    /// In their order, each with whether it was delivered before.
    ready: VecDeque<(Message, bool)>,
    later: Vec<(Instant, Message)>,
    /// By delivery: whose it is.
    held: BTreeMap<u64, (u64, Message)>,
    dead: Vec<(Message, String)>,
    acknowledged: u64,
}

impl MemoryQueue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a message in, and gives it a position.
    pub fn publish(&self, mut message: Message) {
        let mut state = self.inner.state();
        state.published += 1;
        message.position = Some(format!("memory/{}", state.published).into());
        if message.subject.is_empty() {
            message.subject = "memory".into();
        }
        state.ready.push_back((message, false));
        drop(state);
        self.inner.changed.notify_waiters();
    }

    /// One more member of its one consumer group.
    #[must_use]
    pub fn source(&self) -> MemorySource {
        let mut state = self.inner.state();
        state.members += 1;
        MemorySource {
            member: state.members,
            inner: Arc::clone(&self.inner),
        }
    }

    /// The dead letters, with their reasons.
    #[must_use]
    pub fn dead(&self) -> Vec<(Message, String)> {
        self.inner.state().dead.clone()
    }

    /// How many messages were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.inner.state().acknowledged
    }

    /// How many messages are not done with.
    #[must_use]
    pub fn left(&self) -> usize {
        self.inner.state().left()
    }

    /// Returns when all messages are done with.
    pub async fn empty(&self) {
        loop {
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.left() == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in there panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn left(&self) -> usize {
        self.ready.len() + self.later.len() + self.held.len()
    }

    fn take(&mut self, member: u64, most: usize) -> Vec<(u64, Message, bool)> {
        let now = Instant::now();
        let mut due: Vec<_> = self.later.extract_if(.., |(at, _)| *at <= now).collect();
        due.sort_by_key(|(at, _)| *at);
        self.ready.extend(due.into_iter().map(|(_, message)| (message, true)));
        let taken = self.ready.len().min(most);
        let mut given = Vec::with_capacity(taken);
        for (message, redelivered) in self.ready.drain(..taken) {
            self.deliveries += 1;
            self.held.insert(self.deliveries, (member, message.clone()));
            given.push((self.deliveries, message, redelivered));
        }
        given
    }

    fn give_back(&mut self, member: u64) {
        let left: Vec<_> = self.held.extract_if(.., |_, (holder, _)| *holder == member).collect();
        for (_, (_, message)) in left.into_iter().rev() {
            self.ready.push_front((message, true));
        }
    }
}

/// One member of a [`MemoryQueue`]'s consumer group. Dropped, it gives back what is not settled.
#[derive(Debug)]
pub struct MemorySource {
    member: u64,
    inner: Arc<Inner>,
}

impl Source for MemorySource {
    fn label(&self) -> &str {
        "memory"
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        Box::pin(async move {
            loop {
                let changed = self.inner.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let (given, next) = {
                    let mut state = self.inner.state();
                    let given = state.take(self.member, most);
                    (given, state.later.iter().map(|(at, _)| *at).min())
                };
                if !given.is_empty() {
                    return Ok(given.into_iter().map(|given| self.delivery(given)).collect());
                }
                match next {
                    Some(next) => tokio::select! {
                        () = changed => {}
                        () = sleep_until(next) => {}
                    },
                    None => changed.await,
                }
            }
        })
    }

    fn pause(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        let messages = self.inner.state().left() as u64;
        Box::pin(std::future::ready(Ok(Lag { messages, oldest: None })))
    }

    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        self.leave();
        Box::pin(std::future::ready(()))
    }
}

impl MemorySource {
    fn delivery(&self, (delivery, message, redelivered): (u64, Message, bool)) -> Delivery {
        Delivery {
            message,
            redelivered,
            settle: Box::new(InHand {
                inner: Arc::clone(&self.inner),
                delivery,
            }),
        }
    }

    fn leave(&self) {
        self.inner.state().give_back(self.member);
        self.inner.changed.notify_waiters();
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        self.leave();
    }
}

struct InHand {
    inner: Arc<Inner>,
    delivery: u64,
}

impl InHand {
    fn settle(self, as_what: impl FnOnce(&mut State, Message)) -> BoxFuture<'static, Result<(), SourceError>> {
        let mut state = self.inner.state();
        let settled = match state.held.remove(&self.delivery) {
            Some((_, message)) => {
                as_what(&mut state, message);
                Ok(())
            }
            None => Err(SourceError::new(
                SourceErrorKind::Unreachable,
                "the message is not in hand any more: it was given back",
            )),
        };
        drop(state);
        self.inner.changed.notify_waiters();
        Box::pin(std::future::ready(settled))
    }
}

impl Settle for InHand {
    fn ack(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        self.settle(|state, _| state.acknowledged += 1)
    }

    fn retry_later(self: Box<Self>, after: Duration) -> BoxFuture<'static, Result<(), SourceError>> {
        self.settle(|state, message| state.later.push((Instant::now() + after, message)))
    }

    fn dead(self: Box<Self>, reason: &str) -> BoxFuture<'static, Result<(), SourceError>> {
        let reason = reason.to_owned();
        self.settle(|state, message| state.dead.push((message, reason)))
    }

    fn extend(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn patience(&self) -> Option<Duration> {
        None
    }
}
