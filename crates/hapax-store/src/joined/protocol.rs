//! The steps, the same for both databases: what is new is written at once; what is known is looked at, locked, looked
//! at again, and then written as the pure functions of `hapax-core` decide.

use hapax_core::record::{EnqueueVerdict, FinishVerdict};
use hapax_core::{
    Claim, Claimed, Enqueue, Enqueued, Fence, Finish, Finished, Lease, OperationId, Outcome, Record, Ruling, State,
    Timestamp, Verdict, decide,
};

use super::{Connection, Dialect, Held, Joint, JointError, TimeOuts};

/// How often a record may be forgotten or changed under our eyes before the caller has to begin anew.
const TRIES: usize = 8;

/// What a transaction sees of a record.
pub(super) struct Found {
    /// Where SQLite keeps it.
    #[cfg(feature = "sqlite")]
    pub(super) position: i64,
    pub(super) record: Record,
}

/// What is to be written over a record that was found.
pub(super) struct Next<'a> {
    pub(super) record: &'a Record,
    /// Whether it gets a new fence.
    pub(super) new_fence: bool,
    /// When the sweeper looks at it; `None` for when it would have anyway.
    pub(super) look_at: Option<Timestamp>,
}

type Answer<T> = Result<T, JointError>;

/// One transaction, one step.
pub(super) struct Session<'a, C: ?Sized> {
    pub(super) joint: &'a Joint,
    pub(super) connection: &'a mut C,
}

/// Calls the dialect's function of this name.
macro_rules! by_dialect {
    ($session:expr, $function:ident($($argument:expr),*)) => {
        match &$session.joint.dialect {
            #[cfg(feature = "postgres")]
            Dialect::Postgres => super::postgres::$function(&mut $session, $($argument),*).await,
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite(_) => super::sqlite::$function(&mut $session, $($argument),*).await,
        }
    };
}

pub(super) async fn claim<C: Connection + ?Sized>(joint: &Joint, connection: &mut C, claim: &Claim) -> Answer<Claimed> {
    let mut session = Session { joint, connection };
    let id = claim.operation.id();
    for _ in 0..TRIES {
        if let Some((now, lease)) = by_dialect!(session, claim_fresh(claim))? {
            let ruling = Ruling::Won(lease);
            return Ok(Claimed { now, ruling });
        }
        let (now, found) = by_dialect!(session, find(id))?;
        // Forgotten meanwhile.
        let Some(found) = found else { continue };
        // Most duplicates are refused, and need not wait for a lock.
        if let Verdict::Refuse(refusal) = decide(Some(&found.record), claim, now) {
            let ruling = Ruling::Refused(refusal);
            return Ok(Claimed { now, ruling });
        }
        by_dialect!(session, lock(id))?;
        let (now, found) = by_dialect!(session, find(id))?;
        let Some(found) = found else { continue };
        let ruling = match decide(Some(&found.record), claim, now) {
            Verdict::Refuse(refusal) => Some(Ruling::Refused(refusal)),
            Verdict::Resume(lease) => Some(Ruling::Won(lease)),
            Verdict::Run => by_dialect!(session, claim_again(&found, claim, now))?.map(Ruling::Won),
            Verdict::Lapse(lapsed) => {
                let next = Next {
                    record: &lapsed,
                    new_fence: false,
                    look_at: None,
                };
                let written = by_dialect!(session, write(&found, &next))?;
                written.then(|| Ruling::Refused(lapsed.refusal(now)))
            }
        };
        if let Some(ruling) = ruling {
            return Ok(Claimed { now, ruling });
        }
    }
    Err(JointError::raced())
}

pub(super) async fn enter<C: Connection + ?Sized>(
    joint: &Joint,
    connection: &mut C,
    claims: &[Claim],
    outcome: &Outcome,
    time_outs: &TimeOuts,
) -> Answer<(Option<Timestamp>, Vec<bool>)> {
    let mut session = Session { joint, connection };
    by_dialect!(session, enter(claims, outcome, time_outs))
}

pub(super) async fn finish<C: Connection + ?Sized>(
    joint: &Joint,
    connection: &mut C,
    id: OperationId,
    fence: Fence,
    finish: &Finish,
) -> Answer<Finished> {
    let mut session = Session { joint, connection };
    for _ in 0..TRIES {
        if let Some(now) = by_dialect!(session, finish_held(id, fence, finish))? {
            return Ok(Finished::Applied { now });
        }
        let (now, found) = by_dialect!(session, find(id))?;
        let record = found.map(|found| Box::new(found.record));
        match (record.as_ref().map(|record| record.finish(fence, finish, now)), record) {
            // Somebody was faster with something that leaves room for this finish.
            (Some(FinishVerdict::Becomes(_)), _) => {}
            (Some(FinishVerdict::Already), Some(record)) => return Ok(Finished::Already { now, record }),
            (_, record) => return Ok(Finished::Fenced { now, record }),
        }
    }
    Err(JointError::raced())
}

pub(super) async fn enqueue<C: Connection + ?Sized>(
    joint: &Joint,
    connection: &mut C,
    enqueue: &Enqueue,
) -> Answer<Enqueued> {
    let mut session = Session { joint, connection };
    let id = enqueue.operation.id();
    for _ in 0..TRIES {
        if let Some(now) = by_dialect!(session, enqueue_fresh(enqueue))? {
            return Ok(Enqueued { now, refusal: None });
        }
        by_dialect!(session, lock(id))?;
        let (now, found) = by_dialect!(session, find(id))?;
        let Some(found) = found else { continue };
        // The new fence is drawn by what writes it.
        let (next, refusal) = match Record::enqueue(Some(&found.record), enqueue, Fence::new(0), now) {
            EnqueueVerdict::Already => return Ok(Enqueued { now, refusal: None }),
            EnqueueVerdict::Refuse(refusal) => {
                let refusal = Some(refusal);
                return Ok(Enqueued { now, refusal });
            }
            EnqueueVerdict::Write(next) => (next, None),
            EnqueueVerdict::Lapse(next) => {
                let refusal = next.refusal(now);
                (next, Some(refusal))
            }
        };
        let next = Next {
            record: &next,
            new_fence: refusal.is_none(),
            look_at: refusal.is_none().then(|| Record::first_look_enqueued(enqueue, now)),
        };
        if by_dialect!(session, write(&found, &next))? {
            return Ok(Enqueued { now, refusal });
        }
    }
    Err(JointError::raced())
}

pub(super) async fn read<C: Connection + ?Sized>(
    joint: &Joint,
    connection: &mut C,
    id: OperationId,
) -> Answer<(Timestamp, Option<Record>)> {
    let mut session = Session { joint, connection };
    let (now, found) = by_dialect!(session, find(id))?;
    Ok((now, found.map(|found| found.record)))
}

pub(super) async fn hold<C: Connection + ?Sized>(
    joint: &Joint,
    connection: &mut C,
    id: OperationId,
    fence: Fence,
) -> Answer<Held> {
    let mut session = Session { joint, connection };
    by_dialect!(session, lock(id))?;
    let (now, found) = by_dialect!(session, find(id))?;
    let record = found.map(|found| found.record);
    Ok(match &record {
        Some(
            record @ Record {
                state: State::Running {
                    deadline, run_until, ..
                },
                ..
            },
        ) if record.fence == fence => Held::Yes {
            now,
            lease: Lease {
                fence,
                deadline: *deadline,
                run_until: *run_until,
                tries: record.tries,
            },
        },
        _ => Held::Fenced {
            now,
            record: record.map(Box::new),
        },
    })
}
