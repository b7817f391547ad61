//! New messages in one transaction: their records are entered as done before their handlers run, and the commit makes
//! both true.
//!
//! It decides nothing about what is known: whatever does not end in a commit goes the other way, by itself.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use hapax_core::policy::Health;
use hapax_core::{Claim, StateName, Timestamp};
use hapax_store::joined::Fault;
use tokio::time::{Instant, timeout};

use super::super::perform::{Came, Keep, Task, done};
use super::super::{Handled, Message};
use super::{Ended, InTransactions};
use crate::atomic::{BoxError, Database, Entered};
use crate::engine::gate::Side;
use crate::engine::waiters::RunningHere;
use crate::event::Event;
use crate::failpoint::{self, Failpoint};
use crate::retry::Permit;

/// A message that nothing is known of here.
struct Entry<'e> {
    /// Its place among the tasks.
    at: usize,
    claim: Claim,
    /// Its turn among the copies that this process has.
    _turn: RunningHere<'e>,
}

/// What came of a transaction.
enum Transacted {
    /// All of it is committed.
    Committed(Option<Timestamp>),
    /// It is rolled back, by how the handler of this entry ended.
    Ended(usize, Ended),
    /// It is rolled back, or nobody knows.
    Not,
}

impl<D, H, E> InTransactions<D, H>
where
    D: Database + Clone,
    E: Into<BoxError> + Send + 'static,
    H: for<'t> Fn(&'t mut D::Connection, &'t Message) -> BoxFuture<'t, Result<Handled, E>> + Send + Sync + 'static,
{
    pub(super) async fn together(self: Arc<Self>, tasks: Vec<Task>, permit: Permit) -> Vec<Came> {
        let mut came: Vec<Option<Came>> = tasks.iter().map(|_| None).collect();
        let mut ended: Vec<Option<Ended>> = tasks.iter().map(|_| None).collect();
        let mut entries = match self.entries(&tasks, &mut came).await {
            Ok(entries) => entries,
            Err(away) => return tasks.iter().map(|_| Came::Away(away.clone())).collect(),
        };
        let started = Instant::now();
        while !entries.is_empty() {
            let _young = self.desk.engine.inner.gate.enter(Side::Caller).await;
            match self.transact(&tasks, &mut entries).await {
                Transacted::Committed(now) => {
                    self.committed(&entries, now, started);
                    entries.drain(..).for_each(|entry| came[entry.at] = Some(Came::Done));
                }
                // The others, without it.
                Transacted::Ended(at, how) => {
                    ended[at] = Some(how);
                    entries.retain(|entry| entry.at != at);
                }
                Transacted::Not => entries.clear(),
            }
        }
        // Others of this process may have what is not done here.
        drop(entries);
        let mut permit = match came.iter().any(|came| came == &Some(Came::Done)) {
            true => {
                permit.report(Health::Success);
                None
            }
            false => Some(permit),
        };
        let all = tasks.into_iter().zip(came).zip(ended).map(|((task, came), ended)| {
            let (this, permit) = (&self, if came.is_none() { permit.take() } else { None });
            async move {
                match came {
                    Some(came) => came,
                    None => this.one(task, ended, permit).await,
                }
            }
        });
        join_all(all.collect::<Vec<_>>()).await
    }

    /// The messages that nothing is known of.
    async fn entries(&self, tasks: &[Task], came: &mut [Option<Came>]) -> Result<Vec<Entry<'_>>, String> {
        let inner = &self.desk.engine.inner;
        let mut entries = Vec::with_capacity(tasks.len());
        for (at, task) in tasks.iter().enumerate() {
            // It may have crashed whoever had it.
            if task.redelivered {
                continue;
            }
            let claim = self.desk.claim(&task.message, &task.key, Keep::Nothing).await;
            let claim = claim.map_err(|error| error.to_string())?;
            if let Some(refusal) = inner.cached(&claim) {
                came[at] = Some(self.desk.refused(claim.operation.id(), refusal).await);
            } else if let Some(turn) = inner.waiters.lead(claim.operation.id()) {
                entries.push(Entry { at, claim, _turn: turn });
            }
        }
        Ok(entries)
    }

    /// One transaction with all that is new. What is not leaves the entries.
    async fn transact(&self, tasks: &[Task], entries: &mut Vec<Entry<'_>>) -> Transacted {
        let shared = &self.plain.shared;
        // In one order everywhere, so that two transactions never wait for each other.
        entries.sort_unstable_by_key(|entry| *entry.claim.operation.id().as_bytes());
        let claims: Vec<Claim> = entries.iter().map(|entry| entry.claim.clone()).collect();
        failpoint::hit(Failpoint::BeforeClaim);
        let entered = shared
            .database
            .enter(&shared.joint, &claims, &done(), &shared.options.bounds)
            .await;
        let (mut transaction, now, new) = match entered {
            Ok(Entered::Open(transaction, now, new)) => (transaction, now, new),
            Ok(Entered::Taken) => return Transacted::Not,
            Err(error) => {
                tracing::debug!(%error, "messages could not be entered together");
                return Transacted::Not;
            }
        };
        let new: HashSet<usize> = entries
            .iter()
            .zip(new)
            .filter(|(_, new)| *new)
            .map(|(entry, _)| entry.at)
            .collect();
        entries.retain(|entry| new.contains(&entry.at));
        if entries.is_empty() {
            shared.database.abandon(transaction).await;
            return Transacted::Not;
        }
        failpoint::hit(Failpoint::ClaimMade);
        // In the order in which they came.
        entries.sort_unstable_by_key(|entry| entry.at);
        for entry in entries.iter() {
            let handled = async { (self.handler)(D::connection(&mut transaction), &tasks[entry.at].message).await };
            let handled = timeout(shared.options.bounds.longest, AssertUnwindSafe(handled).catch_unwind()).await;
            failpoint::hit(Failpoint::HandlerEnded);
            let ended = match handled {
                Ok(Ok(handled)) => Ended::of(handled),
                // Cut off in the middle of a statement, perhaps: the transaction is rolled back where it is dropped.
                Ok(Err(_)) => {
                    let operation = &entry.claim.operation;
                    self.desk.engine.inner.emit(&Event::Panicked { operation });
                    return Transacted::Ended(entry.at, Ended::failed("the handler panicked".into()));
                }
                Err(_) => {
                    let text = format!("the handler took longer than {:?}", shared.options.bounds.longest);
                    return Transacted::Ended(entry.at, Ended::failed(text.into()));
                }
            };
            if let Some(ended) = ended {
                shared.database.abandon(transaction).await;
                failpoint::hit(Failpoint::RolledBack);
                return match &ended {
                    // The database gave way, through nobody's fault.
                    Ended::Failed(failed) if failed.fault != Fault::Other => Transacted::Not,
                    _ => Transacted::Ended(entry.at, ended),
                };
            }
        }
        failpoint::hit(Failpoint::BeforeFinish);
        match shared.database.commit(transaction).await {
            Ok(()) => {
                failpoint::hit(Failpoint::Committed);
                Transacted::Committed(now)
            }
            Err(error) => {
                tracing::debug!(?error, "messages could not be committed together");
                Transacted::Not
            }
        }
    }

    fn committed(&self, entries: &[Entry<'_>], now: Option<Timestamp>, started: Instant) {
        let inner = &self.desk.engine.inner;
        if let Some(now) = now {
            inner.learn_time(now);
        }
        for Entry { claim, .. } in entries {
            inner.emit(&Event::Finished {
                operation: &claim.operation,
                state: StateName::Done,
                took: started.elapsed(),
            });
            if let Some(now) = now {
                inner.cache.keep_done(claim, now, done());
            }
        }
    }
}
