//! From the queue to the broker's confirmation: handle, then settle.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hapax_core::DeadReason;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::perform::{Came, Desk, Perform, Task, Turn};
use super::source::{Settle, SourceError};
use crate::event::Event;
use crate::failpoint::{self, Failpoint};
use crate::retry::{NotAdmitted, Permit};

/// First and longest pause while the store is away.
const STORE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The longest pause of one that keeps an order.
const TURN: Duration = Duration::from_secs(1);

/// A message in hand.
pub(super) struct Held {
    pub(super) task: Task,
    pub(super) sure: Sure,
    pub(super) settle: Box<dyn Settle>,
    pub(super) since: Instant,
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

/// Whether a message may be run.
pub(super) enum Sure {
    Yes,
    /// Only if its record is there: else it is a dead letter, for this reason.
    IfKnown(String),
    /// Never.
    Dead(DeadReason, String),
}

pub(super) struct Worker {
    pub(super) desk: Arc<Desk>,
    pub(super) perform: Arc<dyn Perform>,
    pub(super) queue: Arc<Mutex<mpsc::Receiver<Held>>>,
    /// Places at the handler, shared by all workers. Never closed.
    pub(super) places: Arc<Semaphore>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Worker {
    /// Until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        let batch = self.desk.options.batch;
        let mut held = Vec::with_capacity(batch);
        loop {
            let received = self.queue.lock().await.recv_many(&mut held, batch).await;
            if received == 0 {
                return;
            }
            let held = std::mem::take(&mut held);
            if *self.stopped.borrow() {
                self.give_back(held).await;
            } else {
                self.handle(held).await;
            }
        }
    }

    /// What was not begun goes to whoever goes on.
    async fn give_back(&self, held: Vec<Held>) {
        let all = held
            .into_iter()
            .map(|held| self.settle(held, Came::Again(Duration::ZERO)));
        join_all(all).await;
    }

    /// Handles messages until each is settled.
    async fn handle(&mut self, held: Vec<Held>) {
        let (mut left, mut pause) = (held, STORE.0);
        loop {
            let came = {
                let extended = extend(&left);
                let came = self.come(&left);
                tokio::select! {
                    came = came => came,
                    never = extended => match never {},
                }
            };
            let ordered = self.desk.options.order_by.is_some();
            let (mut again, mut over, mut after) = (Vec::new(), Vec::new(), Duration::MAX);
            for (held, came) in left.into_iter().zip(came) {
                let stays = match &came {
                    Came::Away(why) => {
                        tracing::warn!(consumer = %self.desk.name, why, "the store is away; a message waits for it");
                        Some(pause)
                    }
                    // Those behind it wait with it.
                    Came::Waiting(due) | Came::Again(due) if ordered => Some((*due).clamp(STORE.0, TURN)),
                    _ => None,
                };
                match stays {
                    Some(stays) => {
                        after = after.min(stays);
                        again.push(held);
                    }
                    None => over.push((held, came)),
                }
            }
            failpoint::hit(Failpoint::BeforeAck);
            join_all(over.into_iter().map(|(held, came)| self.settle(held, came))).await;
            if again.is_empty() {
                return;
            }
            left = again;
            let stopped = {
                let extended = extend(&left);
                tokio::select! {
                    stopped = self.stopped.wait_for(|stopped| *stopped) => stopped.is_ok(),
                    () = sleep(after) => false,
                    never = extended => match never {},
                }
            };
            if stopped {
                return self.give_back(left).await;
            }
            pause = STORE.1.min(pause * 2);
        }
    }

    /// What messages come to, in their order.
    async fn come(&self, held: &[Held]) -> Vec<Came> {
        let Some(turn) = self.turn().await else {
            return held.iter().map(|_| Came::Again(Duration::ZERO)).collect();
        };
        let mut came: Vec<Option<Came>> = Vec::with_capacity(held.len());
        let mut tasks = Vec::with_capacity(held.len());
        for held in held {
            let known = self.known(held).await;
            if known.is_none() {
                tasks.push(held.task.clone());
            }
            came.push(known);
        }
        let mut performed = match tasks.is_empty() {
            true => Vec::new(),
            false => Arc::clone(&self.perform).perform(tasks, turn).await,
        }
        .into_iter();
        let mut all = Vec::with_capacity(held.len());
        for (held, known) in held.iter().zip(came) {
            // As many as there were tasks.
            let came = known
                .or_else(|| performed.next())
                .unwrap_or(Came::Again(Duration::ZERO));
            all.push(match came {
                Came::Mismatch => self.desk.bury_mismatch(&held.task.message, &held.task.key).await,
                came => came,
            });
        }
        all
    }

    /// What a message comes to that must not be run.
    async fn known(&self, held: &Held) -> Option<Came> {
        let (message, key) = (&held.task.message, &held.task.key);
        match &held.sure {
            Sure::Yes => None,
            Sure::Dead(reason, why) => Some(self.desk.bury(message, key, *reason, why).await),
            Sure::IfKnown(why) => {
                let id = self.desk.operation(key).id();
                match self.desk.engine.store().read(id).await {
                    Ok((_, Some(record))) if !self.desk.is_half_buried(&record) => None,
                    Ok(_) => Some(self.desk.bury(message, key, DeadReason::Refused, why).await),
                    Err(error) => Some(Came::Away(error.to_string())),
                }
            }
        }
    }

    /// Waits for a turn at the handler; `None` if it was stopped before.
    async fn turn(&self) -> Option<Turn> {
        let mut stopped = self.stopped.clone();
        let place = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return None,
            place = Arc::clone(&self.places).acquire_owned() => place.ok()?,
        };
        let permit = self.admitted().await?;
        Some(Turn { permit, place })
    }

    /// Waits until what the handler calls may be called; `None` if it was stopped before.
    async fn admitted(&self) -> Option<Permit> {
        let mut stopped = self.stopped.clone();
        loop {
            match self.desk.options.destination.admit() {
                Ok(permit) => return Some(permit),
                Err(NotAdmitted::Open { retry_after }) => tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return None,
                    () = sleep(retry_after.max(STORE.0)) => {}
                },
                // It only refuses retries.
                Err(NotAdmitted::BudgetSpent) => return None,
            }
        }
    }

    /// Tells the broker.
    async fn settle(&self, held: Held, came: Came) {
        let Held { settle, since, .. } = held;
        let (word, doing, settled): (_, _, Result<(), SourceError>) = match came {
            Came::Done => ("done", "ack", settle.ack().await),
            Came::Duplicate => ("duplicate", "ack", settle.ack().await),
            Came::Waiting(_) => ("waiting", "ack", settle.ack().await),
            Came::Unknown => ("unknown", "ack", settle.ack().await),
            Came::Dead(reason) => ("dead", "dead", settle.dead(&reason).await),
            Came::Again(after) => ("again", "retry", settle.retry_later(after).await),
            // Neither leaves `handle`.
            Came::Mismatch | Came::Away(_) => ("again", "retry", settle.retry_later(Duration::ZERO).await),
        };
        failpoint::hit(Failpoint::AfterAck);
        if let Err(error) = settled {
            self.desk.failed(doing, &error);
        }
        self.desk.engine.inner.emit(&Event::Consumed {
            name: &self.desk.name,
            came: word,
            took: since.elapsed(),
        });
    }
}

/// Keeps messages in hand for as long as it is polled.
async fn extend(held: &[Held]) -> std::convert::Infallible {
    let patience = held.iter().filter_map(|held| held.settle.patience()).min();
    let Some(patience) = patience else {
        return std::future::pending().await;
    };
    loop {
        sleep(patience / 3).await;
        join_all(held.iter().map(|held| held.settle.extend())).await;
    }
}
