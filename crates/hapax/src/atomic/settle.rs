//! A commit whose answer was lost: the record knows, and is asked.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Finish, Lease, Refusal};
use hapax_store::joined::JointError;
use tokio::time::{Instant, sleep};

use super::database::{Database, Opened};
use super::drive::{Drive, Told};
use super::error::AtomicError;
use super::work::Work;
use crate::engine::{Inner, Reply};
use crate::event::Event;

/// First and longest pause between two looks.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

pub(super) enum Settled<D: Database, W: Work<D>> {
    /// It is known what became of it.
    Told(Told<D, W>),
    /// It did not happen, and this transaction has claimed the operation again.
    NotHappened(JointError, D::Transaction, Lease),
}

impl<D: Database, W: Work<D>> Drive<D, W> {
    /// Claims again with the same attempt, on another connection. As long as the lost transaction is under way the
    /// database keeps this claim waiting; if it wins, that one did not and will not commit; if it is refused, the record
    /// says whose finish it was.
    pub(super) async fn settle(
        &mut self,
        engine: &Inner,
        error: JointError,
        lease: &Lease,
        finish: &Finish,
        reply: W::Reply,
    ) -> Settled<D, W> {
        engine.emit(&Event::CommitLost {
            operation: &self.claim.operation,
            fence: lease.fence,
        });
        let shared = Arc::clone(&self.shared);
        let until = Instant::now() + shared.options.commit_patience;
        let mut pause = LOOK.0;
        loop {
            let opened = shared
                .database
                .open(&shared.joint, &self.claim, &shared.options.bounds)
                .await;
            match opened {
                Ok(Opened::Won(transaction, now, lease)) => {
                    engine.learn_time(now);
                    return Settled::NotHappened(error, transaction, lease);
                }
                Ok(Opened::Refused(now, refusal)) => {
                    engine.learn_time(now);
                    if let Some(told) = self.whose(engine, lease, finish, &refusal).await {
                        return Settled::Told(Ok(match told {
                            true => Reply::Ran(reply),
                            false => Reply::Refused(refusal),
                        }));
                    }
                }
                Ok(Opened::Taken) => {}
                Err(error) => tracing::debug!(%error, "the record cannot be asked yet what became of a commit"),
            }
            if Instant::now() + pause >= until {
                return Settled::Told(Err(AtomicError::Unknown(Arc::new(error))));
            }
            sleep(pause).await;
            pause = LOOK.1.min(pause * 2);
        }
    }

    /// Whether the finish that refuses the claim is this run's; `None` if the record cannot be read.
    async fn whose(&mut self, engine: &Inner, lease: &Lease, finish: &Finish, refusal: &Refusal) -> Option<bool> {
        match engine.store.read(self.claim.operation.id()).await {
            Ok((now, Some(record))) => {
                let ours = record.attempt == self.claim.attempt && record.fence == lease.fence;
                if ours {
                    self.finished(engine, record.state.name());
                }
                engine.learn_time(now);
                engine.cache.keep(record);
                Some(ours)
            }
            // Forgotten since, by a person: it happened if the claim says so.
            Ok((_, None)) => Some(matches!((refusal, finish), (Refusal::Done { .. }, Finish::Done(_)))),
            Err(error) => {
                engine.emit(&Event::StoreFailed {
                    step: "read",
                    error: &error,
                });
                None
            }
        }
    }
}
