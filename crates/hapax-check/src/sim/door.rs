//! The gateway's door, reduced to what matters here: one request to the engine, one call to the upstream.

use std::sync::Arc;
use std::time::Duration;

use hapax::{Arrival, Ended, Engine, Reply, Run, RunError, RunOptions};
use hapax_core::{
    Answer, DeadReason, Enqueued, Fence, Fingerprint, Finish, Input, Operation, Outcome, RecipeId, Refusal, StoreError,
};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Canary;
use super::plan::UPSTREAM_TIME_OUT;
use super::post::{Item, Post};

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
    /// It did nothing, and asks to be left alone for so long.
    Throttled(Duration),
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
    /// It ran now, and will not be tried again.
    Rejected,
    /// It will be run by a runner.
    Accepted,
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
    /// To be run by a runner.
    pub(super) later: bool,
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
    post.send(Item::Reply(number, heard));
}

async fn handle(engine: Engine, canary: Canary, post: Post, request: Request) -> Heard {
    let arrival = |fingerprint: u8| Arrival {
        group: None,
        input: None,
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
    if request.later {
        let input = Input(vec![request.operation as u8, request.payload].into());
        return accepted(engine.enqueue(first, input, Duration::ZERO).await);
    }
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

fn accepted(result: Result<Enqueued, StoreError>) -> Heard {
    match result {
        Ok(Enqueued { refusal: None, .. }) => Heard::Accepted,
        Ok(Enqueued {
            refusal: Some(refusal), ..
        }) => Heard::Refused(refusal),
        Err(_) => Heard::StoreDown,
    }
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
    post.send(Item::Started {
        operation: request.operation,
        fence,
        by_runner: false,
    });
    sleep(request.thinks).await;
    let said = call(&post, request.operation, request.payload, Some(fence)).await;
    if request.panics {
        // As a panic, but for the message on the terminal.
        std::panic::resume_unwind(Box::new("a simulated handler panics"));
    }
    let ambiguous = |answer| match canary {
        Canary::AmbiguousIsNoEffect => released(Duration::ZERO),
        _ => request.options.ambiguous(answer, Duration::ZERO),
    };
    let said = match said {
        Some(Said::Answer(answer)) if canary == Canary::FailureIsSuccess => {
            Some(Said::Answer(Answer { status: 201, ..answer }))
        }
        said => said,
    };
    let (finish, reply) = match said {
        Some(Said::Refused) => (released(Duration::ZERO), Heard::UpstreamDown),
        Some(Said::Throttled(after)) => (released(after), Heard::UpstreamDown),
        Some(Said::Answer(answer)) if answer.status == REJECTED => (rejected(answer), Heard::Rejected),
        Some(Said::Answer(answer)) if answer.status < 500 => {
            let outcome = Outcome::Answer(answer.clone());
            (Finish::Done(outcome), Heard::Answer(answer))
        }
        Some(Said::Answer(answer)) => (ambiguous(Some(answer)), Heard::Ambiguous),
        None => (ambiguous(None), Heard::Ambiguous),
    };
    if let (Canary::AnswersBeforeFinish, Heard::Answer(answer)) = (canary, &reply) {
        post.send(Item::Reply(request.number, Heard::Answer(answer.clone())));
    }
    Ended { finish, reply }
}

/// The status of a refusal that no retry can mend: the operation is dead.
pub(super) const REJECTED: u16 = 422;

fn rejected(answer: Answer) -> Finish {
    Finish::Dead {
        reason: DeadReason::Refused,
        answer: Some(answer),
        last_error: None,
    }
}

/// Calls the upstream; `None` if nobody knows what came of it.
pub(super) async fn call(post: &Post, operation: usize, payload: u8, fence: Option<Fence>) -> Option<Said> {
    let (reply, said) = oneshot::channel();
    post.send(Item::Call(Call {
        operation,
        payload,
        fence,
        reply,
    }));
    timeout(UPSTREAM_TIME_OUT, said).await.ok()?.ok()
}

/// What a gateway without protection does.
async fn pass_on(post: &Post, request: &Request) -> Heard {
    match call(post, request.operation, request.payload, None).await {
        Some(Said::Refused | Said::Throttled(_)) => Heard::UpstreamDown,
        Some(Said::Answer(answer)) if answer.status < 500 => Heard::Answer(answer),
        _ => Heard::Ambiguous,
    }
}

/// Nothing happened: the next arrival runs it, or, where it has input, a runner.
fn released(after: Duration) -> Finish {
    Finish::Release {
        after,
        counts: false,
        last_error: None,
    }
}
