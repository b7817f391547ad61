//! Concurrent operations, carried out together: whoever finds a connection free takes what has gathered meanwhile.
//!
//! A batch holds operations of one kind, sorted by identity so that two batches lock rows in the same order, and each
//! identity once: PostgreSQL changes a row at most once in a statement. Each batch has its own commit.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hapax_core::{OperationId, StoreError, StoreErrorKind};
use tokio::sync::{Notify, oneshot};

use super::failure::Failure;
use super::link::Link;
use crate::clock::Clock;
use crate::replies::{self, Home};

/// The most operations in a batch.
const BATCH_LEN: usize = 256;
/// The most bytes of answers in a batch of more than one.
const BATCH_BYTES: usize = 4 << 20;
/// How often an operation is tried again after losing a race for its record.
const ROUNDS: usize = 20;

/// An operation that can be carried out together with others of its kind.
pub(super) trait Step: Send + Sync + Sized + 'static {
    /// What the caller is told.
    type Answer: Send;

    /// Its name in messages.
    const NAME: &'static str;

    /// Whether to carry it out although its caller has gone.
    const UNHEARD: bool = false;

    /// The record that it is about.
    fn id(&self) -> OperationId;

    /// About how many bytes it sends.
    fn weight(&self) -> usize {
        0
    }

    /// Carries a batch out. `None` for those that lost a race and have to be tried again.
    fn carry_out(
        link: &mut Link,
        clock: &Clock,
        batch: &[&Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Failure>> + Send;
}

/// An operation and whoever waits for it.
pub(super) struct Job<S: Step> {
    step: S,
    turn: u64,
    home: Home,
    reply: oneshot::Sender<Result<S::Answer, StoreError>>,
}

/// The operations of one kind that wait, oldest first.
pub(super) struct Pile<S: Step>(VecDeque<Job<S>>);

impl<S: Step> Default for Pile<S> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<S: Step> Pile<S> {
    pub(super) fn turn(&self) -> Option<u64> {
        self.0.front().map(|job| job.turn)
    }

    /// A batch, sorted. What is left keeps its place.
    pub(super) fn batch(&mut self) -> Vec<Job<S>> {
        let mut batch: Vec<Job<S>> = Vec::new();
        let mut ids = HashSet::new();
        let mut bytes = 0;
        let mut left = VecDeque::new();
        while let Some(job) = self.0.pop_front() {
            // Nobody would learn of a claim that won.
            if !S::UNHEARD && job.reply.is_closed() {
                continue;
            }
            let fits = batch.is_empty() || (batch.len() < BATCH_LEN && bytes + job.step.weight() <= BATCH_BYTES);
            if !fits {
                left.push_back(job);
                break;
            }
            if ids.insert(job.step.id()) {
                bytes += job.step.weight();
                batch.push(job);
            } else {
                left.push_back(job);
            }
        }
        left.append(&mut self.0);
        self.0 = left;
        batch.sort_unstable_by_key(|job| job.step.id());
        batch
    }
}

/// Piles that share connections.
pub(super) trait Piles: Default + Send + 'static {
    /// A batch of one kind.
    type Batch;

    /// The next batch to carry out.
    fn take(&mut self) -> Option<Self::Batch>;

    /// Whether nothing waits.
    fn is_empty(&self) -> bool;
}

impl<S: Step> Piles for Pile<S> {
    type Batch = Vec<Job<S>>;

    fn take(&mut self) -> Option<Self::Batch> {
        (!self.is_empty()).then(|| self.batch())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Piles that some lanes work on together.
pub(super) struct Queue<P> {
    waiting: Mutex<Waiting<P>>,
    ready: Notify,
}

struct Waiting<P> {
    piles: P,
    next_turn: u64,
    closed: bool,
}

impl<P: Piles> Queue<P> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::new(Waiting {
                piles: P::default(),
                next_turn: 0,
                closed: false,
            }),
            ready: Notify::new(),
        })
    }

    /// Puts an operation on its pile and waits for its answer.
    pub(super) async fn ask<S: Step>(
        &self,
        pile: impl FnOnce(&mut P) -> &mut Pile<S>,
        step: S,
    ) -> Result<S::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = self.lock();
            let turn = waiting.next_turn;
            waiting.next_turn += 1;
            pile(&mut waiting.piles).0.push_back(Job {
                step,
                turn,
                home: Home::here(),
                reply,
            });
        }
        self.ready.notify_one();
        answer.await.unwrap_or_else(|_| {
            let message = format!("cannot {}: the store was closed", S::NAME);
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        })
    }

    /// The next batch, as soon as there is one; `None` once the queue is closed and empty.
    pub(super) async fn next(&self) -> Option<P::Batch> {
        loop {
            {
                let mut waiting = self.lock();
                let batch = waiting.piles.take();
                if waiting.closed || !waiting.piles.is_empty() {
                    // For the other lanes.
                    self.ready.notify_one();
                }
                if batch.is_some() || waiting.closed {
                    return batch;
                }
            }
            self.ready.notified().await;
            // What is about to be asked goes along: the other tasks that are ready get their turn first.
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<P>> {
        // Nothing that is done under the lock can panic half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries a batch out and answers everyone in it.
pub(super) async fn serve<S: Step>(link: &mut Link, clock: &Clock, batch: Vec<Job<S>>) {
    let Err((failure, batch)) = rounds(link, clock, batch).await else {
        return;
    };
    // One operation can spoil a batch (a lock that somebody holds): its neighbours must not suffer for it.
    let one_by_one = failure.of_one && batch.len() > 1;
    for job in batch {
        if !one_by_one {
            let _ = job.reply.send(Err(failure.clone().into()));
        } else if let Err((failure, batch)) = rounds(link, clock, vec![job]).await {
            for job in batch {
                let _ = job.reply.send(Err(failure.clone().into()));
            }
        }
    }
}

/// Carries a batch out, and those again that lost a race. Gives back those that failed, unanswered.
async fn rounds<S: Step>(link: &mut Link, clock: &Clock, mut batch: Vec<Job<S>>) -> Result<(), (Failure, Vec<Job<S>>)> {
    for _ in 0..ROUNDS {
        if batch.is_empty() {
            return Ok(());
        }
        let steps: Vec<&S> = batch.iter().map(|job| &job.step).collect();
        let answers = match S::carry_out(link, clock, &steps).await {
            Ok(answers) => answers,
            Err(failure) => return Err((failure, batch)),
        };
        let (mut again, mut given) = (Vec::new(), Vec::new());
        for (job, answer) in batch.into_iter().zip(answers) {
            match answer {
                // A caller that has gone needs no answer.
                Some(answer) => given.push((job.home, move || drop(job.reply.send(Ok(answer))))),
                None => again.push(job),
            }
        }
        replies::give(given.into_iter());
        batch = again;
    }
    if batch.is_empty() {
        return Ok(());
    }
    let failure = Failure::raced(S::NAME, &link.target().label);
    Err((failure, batch))
}
