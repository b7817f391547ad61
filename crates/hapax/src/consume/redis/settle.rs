//! What becomes of an entry at its stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::{Value, pipe};
use bytes::Bytes;
use hapax_core::BoxFuture;
use tokio::time::Instant;

use super::RedisOptions;
use super::shared::Shared;
use crate::consume::{Settle, SourceError};

/// Why it is dead, and where it was.
const REASON: &str = "Hapax-Dead-Reason";
const STREAM: &str = "Hapax-Dead-Stream";
const ID: &str = "Hapax-Dead-Id";

pub(super) struct RedisSettle {
    shared: Arc<Shared>,
    id: String,
    /// When this member last said a word about it. Once that is longer ago than `min_idle`, it may be another's.
    said: Mutex<Instant>,
    /// Only where dead letters are exported.
    fields: Vec<(Bytes, Bytes)>,
}

impl RedisSettle {
    pub(super) fn new(shared: &Arc<Shared>, id: String, said: Instant, fields: Vec<(Bytes, Bytes)>) -> Self {
        let is_exported = shared.options.dead_letters.is_some();
        Self {
            shared: Arc::clone(shared),
            id,
            said: Mutex::new(said),
            fields: if is_exported { fields } else { Vec::new() },
        }
    }

    /// Whether nobody else can have claimed it.
    fn is_ours(&self) -> bool {
        // Nothing in there panics.
        let said = *self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.elapsed() < self.shared.options.min_idle
    }

    /// Acknowledges it, in one step with what comes before.
    async fn done(&self, doing: &str, mut steps: ::redis::Pipeline) -> Result<(), SourceError> {
        let RedisOptions {
            stream,
            group,
            delete_done,
            ..
        } = &self.shared.options;
        steps.cmd("XACK").arg(stream).arg(group).arg(&self.id);
        if *delete_done {
            steps.cmd("XDEL").arg(stream).arg(&self.id);
        }
        if steps.len() > 1 {
            steps.atomic();
        }
        let done = self
            .shared
            .run(doing, async |link| steps.query_async::<Value>(link).await);
        done.await.map(|_| ())
    }

    async fn later(&self, after: Duration) -> Result<(), SourceError> {
        if !self.is_ours() {
            // It comes again by itself, or has.
            return Ok(());
        }
        if after <= self.shared.options.min_idle {
            return self.shared.give_back(&[(self.id.clone(), after)]).await;
        }
        let now = Instant::now();
        self.word("put a message off").await?;
        self.shared.wait(&self.id, now + after, now);
        Ok(())
    }

    async fn word(&self, doing: &str) -> Result<(), SourceError> {
        let word = self.shared.word(&self.id, Duration::ZERO);
        let said = self
            .shared
            .run(doing, async |link| word.query_async::<Value>(link).await);
        said.await.map(|_| ())
    }
}

impl Settle for RedisSettle {
    fn ack(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move { self.done("acknowledge a message", pipe()).await })
    }

    fn retry_later(self: Box<Self>, after: Duration) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move { self.later(after).await })
    }

    fn dead(self: Box<Self>, reason: &str) -> BoxFuture<'static, Result<(), SourceError>> {
        let reason = reason.to_owned();
        Box::pin(async move {
            let RedisOptions {
                stream, dead_letters, ..
            } = &self.shared.options;
            let mut steps = pipe();
            if let Some(dead_letters) = dead_letters {
                let add = steps.cmd("XADD").arg(dead_letters).arg("*");
                for (name, value) in &self.fields {
                    add.arg(&name[..]).arg(&value[..]);
                }
                add.arg(REASON)
                    .arg(reason)
                    .arg(STREAM)
                    .arg(stream)
                    .arg(ID)
                    .arg(&self.id);
            }
            self.done("bury a message", steps).await
        })
    }

    fn extend(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if !self.is_ours() {
                return;
            }
            let now = Instant::now();
            if self.word("hold a message").await.is_ok() {
                *self.said.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
        })
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.shared.options.min_idle)
    }
}
