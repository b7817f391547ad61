//! The gateway's door, reduced to what matters here: one request to the engine, one call to the upstream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax::{Arrival, Ended, Engine, Reply, Run, RunError, RunOptions};
use hapax_core::{Answer, Fence, Fingerprint, Finish, Operation, Outcome, RecipeId, Refusal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Canary;
use super::plan::UPSTREAM_TIME_OUT;

/// What nodes have to tell the world after a step.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) calls: Vec<Call>,
    pub(super) replies: Vec<(usize, Heard)>,
}

/// The nodes' letter box.
#[derive(Clone, Default)]
pub(super) struct Post(Arc<Mutex<Mail>>);

impl Post {
    pub(super) fn lock(&self) -> MutexGuard<'_, Mail> {
        // A panicking handler holds no half-written mail.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call on its way to the upstream.
pub(super) struct Call {
    pub(super) operation: usize,
    pub(super) payload: u8,
    /// `None` if it was passed on unprotected.
    pub(super) fence: Option<Fence>,
    pub(super) reply: oneshot::Sender<Said>,
}

/// What the upstream says.
#[derive(Debug)]
pub(super) enum Said {
    /// The connection was refused.
    Refused,
    /// An answer.
    Answer(Answer),
}

/// What a client hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// The answer of a completed operation: it ran now.
    Answer(Answer),
    /// It ran now, and nobody knows what came of it.
    Ambiguous,
    /// It did not run: the upstream cannot be reached.
    UpstreamDown,
    /// What the record says.
    Refused(Refusal),
    /// The store is down, before or after the run.
    StoreDown,
    /// The run was cut off.
    Lost,
    /// The client hung up before.
    Nothing,
}

/// One request as it reaches a gateway.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) number: usize,
    pub(super) operation: usize,
    pub(super) named: Operation,
    pub(super) payload: u8,
    pub(super) options: RunOptions,
    pub(super) wait: Duration,
    pub(super) patience: Duration,
    /// What the gateway does before it calls the upstream.
    pub(super) thinks: Duration,
    /// Whether its handler panics after the call.
    pub(super) panics: bool,
}

/// Serves one request in a node.
pub(super) async fn serve(engine: Engine, canary: Canary, post: Post, request: Request) {
    let number = request.number;
    let patience = request.patience;
    let reply = handle(engine, canary, post.clone(), request);
    let heard = timeout(patience, reply).await.unwrap_or(Heard::Nothing);
    post.lock().replies.push((number, heard));
}

async fn handle(engine: Engine, canary: Canary, post: Post, request: Request) -> Heard {
    let arrival = |fingerprint: u8| Arrival {
        operation: request.named.clone(),
        fingerprint: Fingerprint::new(RecipeId::new(1), [fingerprint; 32]),
        refingerprint: Arc::new(|_, _| None),
        options: request.options.clone(),
        wait: request.wait,
    };
    let first = match canary {
        Canary::BodyNotFingerprinted => arrival(0),
        _ => arrival(request.payload),
    };
    let work = {
        let (post, request) = (post.clone(), request.clone());
        move |run: Run| work(post, canary, request, run.fence)
    };
    let mut heard = heard(engine.run(first, work).await);
    if let (Canary::RunsWhileInProgress, Heard::Refused(Refusal::InProgress { .. })) = (canary, &heard) {
        heard = pass_on(&post, &request).await;
    }
    if let (Canary::UnprotectedWhenStoreIsDown, Heard::StoreDown) = (canary, &heard) {
        heard = pass_on(&post, &request).await;
    }
    heard
}

fn heard(result: Result<Reply<Heard>, RunError>) -> Heard {
    match result {
        Ok(Reply::Ran(heard)) => heard,
        Ok(Reply::Refused(refusal)) => Heard::Refused(refusal),
        Err(RunError::NotClaimed(_) | RunError::NotFinished(_)) => Heard::StoreDown,
        Err(RunError::Panicked | RunError::Lost) => Heard::Lost,
    }
}

/// The handler: what the upstream did decides what is remembered.
async fn work(post: Post, canary: Canary, request: Request, fence: Fence) -> Ended<Heard> {
    sleep(request.thinks).await;
    let said = call(&post, &request, Some(fence)).await;
    if request.panics {
        // As a panic, but for the message on the terminal.
        std::panic::resume_unwind(Box::new("a simulated handler panics"));
    }
    let ambiguous = |answer| match canary {
        Canary::AmbiguousIsNoEffect => released(),
        _ => request.options.ambiguous(answer, Duration::ZERO),
    };
    let said = match said {
        Some(Said::Answer(answer)) if canary == Canary::FailureIsSuccess => {
            Some(Said::Answer(Answer { status: 201, ..answer }))
        }
        said => said,
    };
    let (finish, reply) = match said {
        Some(Said::Refused) => (released(), Heard::UpstreamDown),
        Some(Said::Answer(answer)) if answer.status < 500 => {
            let outcome = Outcome::Answer(answer.clone());
            (Finish::Done(outcome), Heard::Answer(answer))
        }
        Some(Said::Answer(answer)) => (ambiguous(Some(answer)), Heard::Ambiguous),
        None => (ambiguous(None), Heard::Ambiguous),
    };
    if let (Canary::AnswersBeforeFinish, Heard::Answer(answer)) = (canary, &reply) {
        post.lock()
            .replies
            .push((request.number, Heard::Answer(answer.clone())));
    }
    Ended { finish, reply }
}

/// Calls the upstream; `None` if nobody knows what came of it.
async fn call(post: &Post, request: &Request, fence: Option<Fence>) -> Option<Said> {
    let (reply, said) = oneshot::channel();
    post.lock().calls.push(Call {
        operation: request.operation,
        payload: request.payload,
        fence,
        reply,
    });
    timeout(UPSTREAM_TIME_OUT, said).await.ok()?.ok()
}

/// What a gateway without protection does.
async fn pass_on(post: &Post, request: &Request) -> Heard {
    match call(post, request, None).await {
        Some(Said::Refused) => Heard::UpstreamDown,
        Some(Said::Answer(answer)) if answer.status < 500 => Heard::Answer(answer),
        _ => Heard::Ambiguous,
    }
}

/// Nothing happened: the next arrival runs it.
fn released() -> Finish {
    Finish::Release {
        after: Duration::ZERO,
        counts: false,
        last_error: None,
    }
}
