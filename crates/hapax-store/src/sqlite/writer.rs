//! The one thread that writes: it takes all requests that wait, carries them out in one transaction, and answers
//! when that is durable.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::{
    Amended, Amendment, Claim, Claimed, Enqueue, Enqueued, Fence, Finish, Finished, OperationId, RecipeId, Renewed,
    StoreError, Swept, Take, Timestamp,
};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::checkpoint::{self, Checkpointer};
use super::connection::Connector;
use super::failure::{Failure, Outcome};
use super::namespaces::Namespaces;
use super::queue::{CloseOnDrop, Queue};
use super::statements::Statements;
use super::step::{Batch, Portion, Spot};
use crate::clock::Clock;
use crate::replies::{self, Home};

/// The most requests in one transaction: more would make the first of them wait without making the rest cheaper.
const MAX_BATCH: usize = 1_024;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A request, where its answer goes, and the answer once there is one.
pub(super) struct Job<A, T> {
    asked: A,
    home: Home,
    reply: Reply<T>,
    answer: Option<T>,
}

impl<A, T> Job<A, T> {
    pub(super) fn new(asked: A, reply: Reply<T>) -> Self {
        Self {
            asked,
            home: Home::here(),
            reply,
            answer: None,
        }
    }

    fn carry_out(&mut self, step: impl FnOnce(&A) -> Outcome<T>) -> Outcome<()> {
        self.answer = Some(step(&self.asked)?);
        Ok(())
    }

    fn answer(self, failure: Option<&Failure>) {
        let answer = match (failure, self.answer) {
            (None, Some(answer)) => Ok(answer),
            (Some(failure), _) => Err(failure.error()),
            (None, None) => Err(Failure::closed().error()),
        };
        // A caller that went away needs no answer.
        let _ = self.reply.send(answer);
    }
}

/// What the writer is asked.
pub(super) enum Request {
    Claim(Job<Claim, Claimed>),
    Renew(Job<(OperationId, Fence, Duration), Renewed>),
    Finish(Job<(OperationId, Fence, Finish), Finished>),
    Enqueue(Job<Enqueue, Enqueued>),
    /// A portion of a take, from a spot on.
    Take(Job<(Arc<Take>, Spot), Portion>),
    Amend(Job<(OperationId, Amendment), Amended>),
    /// At most so many records that were due at a time (the transaction's own if `None`); also says that time.
    Sweep(Job<(usize, Option<Timestamp>), (Swept, Timestamp)>),
    Recipe(Job<String, RecipeId>),
    RaiseFence(Job<Fence, ()>),
    /// Whether an accepted jump is to be made known to other processes at once.
    Time(Job<bool, Timestamp>),
}

macro_rules! each {
    ($request:expr, $job:ident => $do:expr) => {
        match $request {
            Request::Claim($job) => $do,
            Request::Renew($job) => $do,
            Request::Finish($job) => $do,
            Request::Enqueue($job) => $do,
            Request::Take($job) => $do,
            Request::Amend($job) => $do,
            Request::Sweep($job) => $do,
            Request::Recipe($job) => $do,
            Request::RaiseFence($job) => $do,
            Request::Time($job) => $do,
        }
    };
}

impl Request {
    fn carry_out(&mut self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        match self {
            Self::Claim(job) => job.carry_out(|claim| batch.claim(claim)),
            Self::Renew(job) => job.carry_out(|(id, fence, lease)| batch.renew(*id, *fence, *lease)),
            Self::Finish(job) => job.carry_out(|(id, fence, finish)| batch.finish(*id, *fence, finish)),
            Self::Enqueue(job) => job.carry_out(|enqueue| batch.enqueue(enqueue)),
            Self::Take(job) => job.carry_out(|(take, spot)| batch.take(take, *spot)),
            Self::Amend(job) => job.carry_out(|(id, amendment)| batch.amend(*id, amendment)),
            Self::Sweep(job) => job.carry_out(|(limit, until)| {
                let until = until.unwrap_or(batch.now);
                Ok((batch.sweep(*limit, until)?, until))
            }),
            Self::Recipe(job) => job.carry_out(|text| batch.recipe(text)),
            Self::RaiseFence(job) => job.carry_out(|at_least| {
                batch.raise_fence(*at_least);
                Ok(())
            }),
            Self::Time(job) => job.carry_out(|accepted| {
                batch.changed |= *accepted;
                Ok(batch.now)
            }),
        }
    }

    fn home(&self) -> &Home {
        each!(self, job => &job.home)
    }

    fn answer(self, failure: Option<&Failure>) {
        each!(self, job => job.answer(failure));
    }
}

/// The writer's thread, and what it shares with the rest of the store.
pub(super) struct Writer {
    pub(super) connector: Connector,
    pub(super) clock: Clock,
    pub(super) queue: Arc<Queue<Request>>,
    pub(super) checkpointer: Arc<Checkpointer>,
    /// The last write found no room, or a disk that is read-only.
    pub(super) full: Cell<bool>,
}

enum End {
    Closed,
    Broken,
}

impl Writer {
    /// Runs until the queue is closed and empty. A broken connection is replaced when the next request comes.
    pub(super) fn run(self, first: Connection) {
        let _close = CloseOnDrop(&self.queue);
        let mut connection = Some(first);
        let mut jobs = Vec::new();
        while self.queue.take(&mut jobs, MAX_BATCH) {
            let opened = match connection.take() {
                Some(connection) => Ok(connection),
                None => self.connector.writer(),
            };
            match opened {
                Ok(connection) => {
                    if let End::Closed = self.serve(&connection, &mut jobs) {
                        checkpoint::on_close(&connection);
                        return;
                    }
                    tracing::warn!("SQLite store: the writer's connection broke; the next request opens another");
                }
                Err(error) => answer_all(&mut jobs, Some(&Failure::from_store(&error))),
            }
        }
        if let Some(connection) = connection {
            checkpoint::on_close(&connection);
        }
    }

    /// Serves the requests in `jobs` and all that come, until the queue is closed or the connection breaks.
    fn serve(&self, connection: &Connection, jobs: &mut Vec<Request>) -> End {
        checkpoint::count_pages(connection);
        let mut sql = match Statements::prepare(connection) {
            Ok(sql) => sql,
            Err(error) => {
                answer_all(jobs, Some(&Failure::from(error)));
                return End::Broken;
            }
        };
        let mut namespaces = Namespaces::default();
        loop {
            if self.serve_batch(connection, &mut sql, &mut namespaces, jobs) {
                return End::Broken;
            }
            self.checkpointer.after_commit(connection);
            if !self.queue.take(jobs, MAX_BATCH) {
                return End::Closed;
            }
        }
    }

    /// Carries out one batch and answers it. True if the connection broke.
    fn serve_batch(
        &self,
        connection: &Connection,
        sql: &mut Statements<'_>,
        namespaces: &mut Namespaces,
        jobs: &mut Vec<Request>,
    ) -> bool {
        let failure = match self.transaction(connection, sql, namespaces, jobs) {
            Ok(()) => {
                answer_all(jobs, None);
                return false;
            }
            Err(failure) => failure,
        };
        if !failure.alone || jobs.len() == 1 {
            answer_all(jobs, Some(&failure));
            return failure.broken;
        }
        // One of them spoilt it for all: each gets a transaction of its own.
        let mut broken = false;
        for mut job in jobs.drain(..) {
            let result = self.transaction(connection, sql, namespaces, std::slice::from_mut(&mut job));
            broken |= result.as_ref().is_err_and(|failure| failure.broken);
            job.answer(result.as_ref().err());
        }
        broken
    }

    fn transaction(
        &self,
        connection: &Connection,
        sql: &mut Statements<'_>,
        namespaces: &mut Namespaces,
        jobs: &mut [Request],
    ) -> Outcome<()> {
        sql.begin.execute([])?;
        let result = self.carry_out(sql, namespaces, jobs).and_then(|changed| {
            sql.commit.execute([])?;
            Ok(changed)
        });
        match &result {
            Ok(changed) => self.full.set(self.full.get() && !changed),
            Err(failure) => {
                self.full.set(self.full.get() || failure.is_full());
                namespaces.reset();
            }
        }
        let result = result.map(|_| ());
        // Some errors of SQLite have ended the transaction already.
        if result.is_err() && !connection.is_autocommit() && sql.rollback.execute([]).is_err() {
            return result.map_err(Failure::breaking);
        }
        result
    }

    fn carry_out(&self, sql: &mut Statements<'_>, namespaces: &mut Namespaces, jobs: &mut [Request]) -> Outcome<bool> {
        let (last_fence, last_now) = sql.meta.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut batch = Batch {
            now: now(&self.clock, Timestamp::from_millis(last_now)),
            sql,
            namespaces,
            last_fence,
            changed: false,
        };
        for job in jobs {
            job.carry_out(&mut batch)?;
            // Who asks for the time asks whether the store works: after a write that failed, only a write can tell.
            batch.changed |= self.full.get() && matches!(job, Request::Time(_));
        }
        if batch.changed {
            let (fence, now) = (batch.last_fence, batch.now.as_millis());
            batch.sql.meta_update.execute([fence, now])?;
        }
        Ok(batch.changed)
    }
}

/// The store's time: this process's clock, or the latest time that any process has used.
pub(super) fn now(clock: &Clock, last: Timestamp) -> Timestamp {
    let now = clock.now();
    if now >= last {
        return now;
    }
    clock.advance_to(last);
    last
}

fn answer_all(jobs: &mut Vec<Request>, failure: Option<&Failure>) {
    let failure = failure.cloned();
    replies::give(jobs.drain(..).map(|job| {
        let failure = failure.clone();
        (job.home().clone(), move || job.answer(failure.as_ref()))
    }));
}
