//! The work that is measured: operations of about 700 bytes, claimed and finished.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hapax::core::{
    AfterFailure, Answer, AttemptId, Claim, Enqueue, Fingerprint, Finish, Finished, Input, Key, Name, Operation,
    Outcome, RecipeId, Refusal, Retention, Ruling, Scope, Starter, Store,
};

use crate::error::Result;

pub(crate) const SCOPE: &str = "8b1a9953c4611296a827abf8c47804d7";
pub(crate) const NAME: &str = "default";
pub(crate) const FINGERPRINT: [u8; 32] = [7; 32];
pub(crate) const STATUS: u16 = 201;
pub(crate) const BODY: &[u8] = &[b'x'; 500];
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const MAX_RUN: Duration = Duration::from_secs(900);

/// The answer that each record keeps.
pub(crate) fn answer() -> Answer {
    Answer {
        status: STATUS,
        headers: vec![("content-type".into(), Bytes::from_static(b"application/json"))],
        body: Bytes::from_static(BODY),
    }
}

/// Bytes of the answer as a store keeps it: status, headers, body.
pub(crate) fn answer_bytes() -> usize {
    2 + answer().encode_headers().len() + BODY.len()
}

/// Numbers that do not repeat: a generator a thread, begun by the operating system.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = {
            let mut seed = [0; 8];
            // Without it the threads would draw the same numbers, and claims would be duplicates: seen at once.
            let _ = getrandom::fill(&mut seed);
            Cell::new(u64::from_le_bytes(seed))
        };
    }
    let mut z = STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        state.get()
    });
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number below `limit`.
pub(crate) fn below(limit: u64) -> u64 {
    random() % limit.max(1)
}

pub(crate) fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random().to_le_bytes());
    id[8..].copy_from_slice(&random().to_le_bytes());
    id
}

/// A key that nobody has used.
pub(crate) fn fresh_key() -> String {
    format!("{:016x}{:016x}", random(), random())
}

/// The key of the record loaded with this number.
pub(crate) fn loaded_key(number: u64) -> String {
    format!("loaded-{number:025}")
}

pub(crate) fn operation(key: String) -> Result<Operation> {
    Ok(Operation::new(Scope::new(SCOPE)?, Name::new(NAME)?, Key::new(key)?))
}

/// How operations are claimed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) lease: Duration,
    pub(crate) max_run: Duration,
    pub(crate) retention: Retention,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: LEASE,
            max_run: MAX_RUN,
            retention: Retention::default(),
        }
    }
}

fn claim(key: String, terms: Terms) -> Result<Claim> {
    Ok(Claim {
        operation: operation(key)?,
        fingerprint: Fingerprint::new(RecipeId::new(1), FINGERPRINT),
        attempt: AttemptId::from_bytes(random_id()),
        starter: Starter::Caller,
        lease: terms.lease,
        max_run: terms.max_run,
        after_failure: AfterFailure::Hold,
        attended: false,
        retention: terms.retention,
        input: None,
        group: None,
    })
}

/// One cycle: claims an operation that is new and finishes it.
pub(crate) async fn cycle(store: Arc<dyn Store>, terms: Terms) -> Result<()> {
    let claim = claim(fresh_key(), terms)?;
    let id = claim.operation.id();
    let Ruling::Won(lease) = store.claim(claim).await?.ruling else {
        return Err("a new operation was not claimed".into());
    };
    match store
        .finish(id, lease.fence, Finish::Done(Outcome::Answer(answer())))
        .await?
    {
        Finished::Applied { .. } => Ok(()),
        other => Err(format!("a finish was not applied: {other:?}").into()),
    }
}

/// One replay: claims an operation that is done, and is given its answer.
pub(crate) async fn replay(store: Arc<dyn Store>, key: String) -> Result<()> {
    match store.claim(claim(key, Terms::default())?).await?.ruling {
        Ruling::Refused(Refusal::Done {
            outcome: Outcome::Answer(answer),
            ..
        }) if answer.body == BODY => Ok(()),
        other => Err(format!("a done operation was not replayed: {other:?}").into()),
    }
}

/// The name of the effects of an outbox.
pub(crate) const EFFECT: &str = "order-paid";
/// What a job of a queue is run with, and what an effect delivers.
pub(crate) const INPUT: &[u8] = &[b'x'; 120];
/// Callers that lay operations before runners: enough for full batches.
const LAYERS: usize = 128;

/// Lays operations before the runners, due after `delay`.
pub(crate) async fn lay(store: &Arc<dyn Store>, count: u64, delay: Duration) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..LAYERS {
        let (store, next) = (Arc::clone(store), Arc::clone(&next));
        tasks.push(tokio::spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let enqueue = Enqueue {
                    operation: operation(fresh_key())?,
                    fingerprint: Fingerprint::new(RecipeId::new(1), FINGERPRINT),
                    attempt: AttemptId::from_bytes(random_id()),
                    input: Input(Bytes::from_static(INPUT)),
                    delay,
                    retention: Retention::default(),
                    group: None,
                };
                if let Some(refusal) = store.enqueue(enqueue).await?.refusal {
                    return Err(format!("a new operation was not enqueued: {refusal:?}").into());
                }
            }
            Result::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}
