//! A node's runner: how it runs what was laid before it, and whom it asks about unknown outcomes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hapax::retry::Destination;
use hapax::{Attempted, Engine, Failure, Found, Handling, ResolveError, Resolver, Run, Runner, RunnerOptions};
use hapax_core::policy::FailureClass;
use hapax_core::{Answer, BoxFuture, Input, NotKept, OperationId, Outcome, Record};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::client::names;
use super::door::{REJECTED, Said, call};
use super::plan::Plan;
use super::post::{Item, Post};

/// What the upstream knows of an operation.
#[derive(Debug)]
pub(super) enum Seen {
    /// It happened, and this was its answer.
    Effect(Answer),
    /// There is no trace of it.
    Nothing,
    /// It does not say.
    Vague,
}

/// A runner for all names, which share one destination.
pub(super) fn runner(engine: &Engine, destination: &Destination, plan: &Plan, post: &Post) -> Runner {
    let options = RunnerOptions {
        concurrency: 4,
        ..RunnerOptions::default()
    };
    let mut runner = Runner::new(engine, options);
    for (kind, name) in names().into_iter().enumerate() {
        let mut handling = Handling::new(name, destination.clone());
        handling.run = plan.run_options(plan.mode_of(kind));
        handling.crashes_count = plan.crashes_count;
        handling.ordered = plan.grouped;
        if plan.resolves {
            handling.resolvers.push(Arc::new(Probe {
                post: post.clone(),
                answers: plan.probe_answers,
                numbers: plan.numbers(),
            }));
        }
        let (post, plan) = (post.clone(), plan.clone());
        runner = runner.handle(handling, move |run, input| work(post.clone(), plan.clone(), run, input));
    }
    runner
}

async fn work(post: Post, plan: Plan, run: Run, input: Input) -> Attempted {
    let (operation, payload) = match input.0[..] {
        [operation, payload] => (usize::from(operation), payload),
        _ => return failed(FailureClass::Final, None),
    };
    post.send(Item::Started {
        operation,
        fence: run.fence,
        by_runner: true,
    });
    if plan.is_poison(operation) {
        sleep(plan.poison_after).await;
        post.send(Item::Kills(operation));
        return std::future::pending().await;
    }
    sleep(plan.runner_thinks).await;
    match call(&post, operation, payload, Some(run.fence)).await {
        Some(Said::Refused) => failed(FailureClass::Unsent, None),
        Some(Said::Throttled(after)) => Attempted::Failed(Failure {
            retry_after: Some(after),
            ..Failure::new(FailureClass::Throttled, "told to wait")
        }),
        Some(Said::Answer(answer)) if answer.status == REJECTED => failed(FailureClass::Final, Some(answer)),
        Some(Said::Answer(answer)) if answer.status < 500 => Attempted::Done(Outcome::Answer(answer)),
        Some(Said::Answer(answer)) => failed(FailureClass::Ambiguous, Some(answer)),
        None => failed(FailureClass::Ambiguous, None),
    }
}

fn failed(class: FailureClass, answer: Option<Answer>) -> Attempted {
    Attempted::Failed(Failure {
        answer,
        ..Failure::new(class, class.as_str())
    })
}

/// Asks the upstream whether it did it.
struct Probe {
    post: Post,
    /// Whether what the upstream answers then becomes the outcome.
    answers: bool,
    numbers: Arc<HashMap<OperationId, usize>>,
}

/// How long the upstream is waited for.
const PROBE_TIME_OUT: Duration = Duration::from_secs(1);

impl Resolver for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn resolve<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
        Box::pin(async move {
            let number = self.numbers.get(&record.operation.id()).copied();
            let operation = number.ok_or_else(|| ResolveError::new("of no operation of this world"))?;
            let (reply, seen) = oneshot::channel();
            self.post.send(Item::Look { operation, reply });
            let saw = String::from("simulated");
            match timeout(PROBE_TIME_OUT, seen).await {
                Ok(Ok(Seen::Effect(answer))) => {
                    let outcome = match self.answers {
                        true => Outcome::Answer(answer),
                        false => Outcome::NotKept(NotKept::Discarded),
                    };
                    Ok(Found::Done { outcome, saw })
                }
                Ok(Ok(Seen::Nothing)) => Ok(Found::NotFound { saw }),
                Ok(Ok(Seen::Vague)) => Ok(Found::CannotSay { saw }),
                Ok(Err(_)) | Err(_) => Err(ResolveError::new("the upstream cannot be asked now")),
            }
        })
    }
}
