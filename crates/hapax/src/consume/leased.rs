//! Messages handled under a lease: the record is claimed with the message in it before the handler begins.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use hapax_core::Finish;
use tokio::sync::oneshot;

use super::Message;
use super::perform::{Came, Desk, Keep, Perform, Task, Turn, WAIT, refingerprint};
use crate::engine::drive::Drive;
use crate::engine::{Ended, Reply, Run};
use crate::retry::Permit;
use crate::runner::Attempted;
use crate::runner::attempt::Trial;
use crate::runner::ending::Ending;

pub(super) type Handler = Box<dyn Fn(Run, Message) -> BoxFuture<'static, Attempted> + Send + Sync>;

pub(super) struct UnderLeases {
    desk: Arc<Desk>,
    handler: Handler,
}

impl UnderLeases {
    pub(super) fn new(desk: Arc<Desk>, handler: Handler) -> Self {
        Self { desk, handler }
    }

    async fn one(self: Arc<Self>, task: Task, turn: Option<Turn>) -> Came {
        let claim = match self.desk.claim(&task.message, &task.key, Keep::Message).await {
            Ok(claim) => claim,
            Err(error) => return Came::Away(error.to_string()),
        };
        let (inner, operation) = (Arc::clone(&self.desk.engine.inner), claim.operation.clone());
        if let Some(refusal) = inner.cached(&claim) {
            return self.desk.refused(operation.id(), refusal).await;
        }
        let (reply, answered) = oneshot::channel();
        let drive = Box::new(Drive {
            inner: Arc::clone(&inner),
            claim,
            youth: None,
            reply,
        });
        let this = Arc::clone(&self);
        let handler = move |run: Run| this.judged(run, task.message, turn);
        // A task of its own: a claim must be run to its end, or given back.
        tokio::spawn(drive.run(refingerprint(), WAIT, handler));
        match answered.await {
            Ok(Ok(Reply::Ran((came, ending, tries)))) => {
                inner.tell(&operation, tries, ending);
                came
            }
            Ok(Ok(Reply::Refused(refusal))) => self.desk.refused(operation.id(), refusal).await,
            Ok(Err(error)) => Desk::not_run(&error),
            // The runtime ends.
            Err(_) => Came::Again(std::time::Duration::ZERO),
        }
    }

    /// Lets the handler run, and judges how that ended.
    async fn judged(self: Arc<Self>, run: Run, message: Message, turn: Option<Turn>) -> Ended<(Came, Ending, u32)> {
        let tries = run.tries;
        let (permit, place) = turn.map(|turn| (turn.permit, turn.place)).unzip();
        let trial = Trial {
            operation: run.operation.clone(),
            tries,
            destination: self.desk.options.destination.clone(),
            after_failure: self.desk.run.after_failure,
            probe: permit.as_ref().is_some_and(Permit::is_probe),
            permit,
        };
        let inner = &self.desk.engine.inner;
        let handled = (self.handler)(run, message);
        let handled = async {
            let attempted = handled.await;
            drop(place);
            attempted
        };
        // Its first run: it is in the schedule since now.
        let (finish, ending) = trial.judge(inner, handled, async || inner.store_time()).await;
        let came = match (ending, &finish) {
            (Ending::Ended, Finish::Done(_)) => Came::Done,
            (Ending::Ended, _) => Came::Unknown,
            (Ending::Retried { after, .. } | Ending::Later { after }, _) => Came::Waiting(after),
            (Ending::Died(reason), finish) => {
                let said = finish.last_error().map_or("", |error| error.as_str());
                Came::Dead(format!("{}: {said}", reason.as_str()))
            }
        };
        Ended {
            finish,
            reply: (came, ending, tries),
        }
    }
}

impl Perform for UnderLeases {
    /// While the ends of some are written down, as many others are handled.
    fn workers(&self, concurrency: usize) -> usize {
        concurrency.saturating_mul(2)
    }

    fn perform(self: Arc<Self>, tasks: Vec<Task>, turn: Turn) -> BoxFuture<'static, Vec<Came>> {
        // It is for one call.
        let mut turn = Some(turn);
        let all: Vec<_> = tasks
            .into_iter()
            .map(|task| Arc::clone(&self).one(task, turn.take()))
            .collect();
        Box::pin(join_all(all))
    }

    fn again(&self, run: Run, message: Message) -> BoxFuture<'static, Attempted> {
        (self.handler)(run, message)
    }
}
