//! A failure is counted in a transaction of its own, since the one that failed is rolled back.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Finish, Refusal, Starter};
use tokio::time::{Instant, sleep};

use super::attempt::Note;
use super::database::{Closed, Database, NotClosed, Opened};
use super::drive::Drive;
use super::work::Work;
use crate::engine::Inner;
use crate::event::Event;
use crate::failpoint::{self, Failpoint};

/// Pause between two tries to count.
const PAUSE: Duration = Duration::from_millis(20);

impl<D: Database, W: Work<D>> Drive<D, W> {
    /// Counts a failure: the operation waits for its next arrival, or is dead if its tries are spent. Gives what the
    /// record says if somebody has run it since. What cannot be counted in time goes uncounted: nothing rests on it.
    pub(super) async fn count(&mut self, engine: &Inner, note: &Note) -> Option<Refusal> {
        let shared = Arc::clone(&self.shared);
        let mut claim = self.claim.clone();
        // The start that failed was one by the system's account: it counts.
        claim.starter = Starter::System;
        let until = Instant::now() + engine.options.store_patience;
        loop {
            let opened = shared
                .database
                .open(&shared.joint, &claim, &shared.options.bounds)
                .await;
            match opened {
                Ok(Opened::Won(transaction, now, lease)) => {
                    engine.learn_time(now);
                    let finish = note.verdict(shared.options.failures.as_ref(), lease.tries);
                    let closed = shared
                        .database
                        .close(transaction, &shared.joint, claim.operation.id(), lease.fence, &finish)
                        .await;
                    match closed {
                        Ok(Closed::Committed(now)) => {
                            failpoint::hit(Failpoint::FailureCounted);
                            self.counted(engine, &finish);
                            self.happened(engine, now, &finish);
                            return None;
                        }
                        Ok(Closed::Refused(_)) => return None,
                        Err(NotClosed::RolledBack(error) | NotClosed::Unknown(error)) => {
                            tracing::debug!(%error, "a failure could not be counted; it is tried again");
                        }
                    }
                }
                Ok(Opened::Refused(now, refusal)) => {
                    engine.learn_time(now);
                    engine.cache.keep_refusal(&claim, &refusal);
                    // Somebody did it meanwhile: that is the better answer. `AttemptOver`: it was counted, and the
                    // answer to that was lost.
                    return matches!(refusal, Refusal::Done { .. }).then_some(refusal);
                }
                Ok(Opened::Taken) => {}
                Err(error) => tracing::debug!(%error, "a failure could not be counted; it is tried again"),
            }
            if Instant::now() + PAUSE >= until {
                tracing::warn!(operation = %claim.operation.id(), "a failure was not counted: the record could not be had");
                return None;
            }
            sleep(PAUSE).await;
        }
    }

    fn counted(&self, engine: &Inner, finish: &Finish) {
        if let Finish::Dead { reason, .. } = finish {
            engine.emit(&Event::Died {
                operation: &self.claim.operation,
                reason: *reason,
            });
        }
    }
}
