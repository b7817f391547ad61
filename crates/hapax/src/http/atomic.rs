//! Routes whose handlers run in a transaction of their own database, together with the record.
//!
//! The same door up to the claim and for every duplicate; between them [`Atomic`](crate::atomic::Atomic) claims, runs
//! and commits. What the handler's answer means:
//!
//! | it answered | its writes | the record |
//! |---|---|---|
//! | 2xx, 3xx | are committed | done, with them |
//! | another final status: 4xx, and what the route calls final | are rolled back | done |
//! | a status without effect | are rolled back | waiting, for the next arrival |
//! | anything else, or nothing | are rolled back | waiting or dead, and the failure is counted |

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{BoxFuture, Finish};
use hapax_store::joined::Fault;
use http::{Extensions, Request, Response};
use http_body::Body as HttpBody;
use tokio::time::Instant;
use tower_service::Service;

use super::body::Body;
use super::failure::Failure;
use super::perform::{self, Came, Told};
use super::problem::{Details, Problem};
use super::protect::{Protected, Whole, finished, refused};
use super::reply;
use super::report::Verdict;
use super::service::Shared;
use super::transaction::{Slot, Why};
use crate::atomic::work::{Failed, Performed, Work, Worked};
use crate::atomic::{Atomic, AtomicError, Database};
use crate::engine::{Arrival, Reply, Run, RunError};

/// When to ask again for what was rolled back.
const AGAIN: Duration = Duration::from_secs(1);

/// A run of a request, as often as it takes. Gets what lends the transaction to the request.
pub(super) type Attempt = Box<dyn FnMut(Lend, Run) -> BoxFuture<'static, Worked<(), ()>> + Send>;

/// Puts the transaction where an extractor finds it.
type Lend = Box<dyn FnOnce(&mut Extensions) + Send>;

type Ran = Result<Reply<()>, AtomicError<Failed<()>>>;

/// Whichever database the transactions are of.
pub(super) trait Transactions: Send + Sync {
    /// Claims, runs and commits.
    fn perform(&self, arrival: Arrival, attempt: Attempt) -> BoxFuture<'static, Ran>;

    /// Whether it keeps its records with this engine.
    fn is_of(&self, engine: &crate::Engine) -> bool;
}

/// A route's transactions.
#[derive(Clone)]
pub(super) struct InTransactions(pub(super) Arc<dyn Transactions>);

impl fmt::Debug for InTransactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InTransactions")
    }
}

impl<D: Database> Transactions for Atomic<D> {
    fn perform(&self, arrival: Arrival, attempt: Attempt) -> BoxFuture<'static, Ran> {
        let atomic = self.clone();
        Box::pin(async move { Atomic::perform(&atomic, arrival, Lending(attempt)).await })
    }

    fn is_of(&self, engine: &crate::Engine) -> bool {
        Arc::ptr_eq(&self.shared.engine, &engine.inner)
    }
}

/// Work that lends its transaction to a request.
struct Lending(Attempt);

impl<D: Database> Work<D> for Lending {
    type Reply = ();
    type Error = ();

    async fn perform(&mut self, transaction: D::Transaction, run: Run) -> Performed<D, Self> {
        let slot = Slot::<D>::new(transaction);
        let lent = slot.clone();
        let lend = Box::new(move |extensions: &mut Extensions| {
            extensions.insert(lent);
        });
        let worked = (self.0)(lend, run).await;
        (slot.take(), worked)
    }
}

/// Runs the operation once in a transaction, or says what the record says.
pub(super) async fn run<S, ReqB, ResB>(
    call: Protected<S>,
    arrival: Arrival,
    request: Whole,
) -> (Response<Body<ResB>>, Verdict, Instant)
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Failure + Send + 'static,
    ReqB: From<Bytes> + Send + 'static,
    ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    ResB::Error: Send,
{
    let (shared, index) = (Arc::clone(&call.shared), call.route);
    let route = &shared.routes.entry(index).route;
    let Some(InTransactions(transactions)) = &route.transactions else {
        return finished(reply::failed(&RunError::Lost, route.profile));
    };
    // What the last attempt told, whose caller may have left by then.
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    let call = Arc::new(Mutex::new(call));
    let attempt: Attempt = Box::new(move |lend, run| {
        Box::pin(attempt(
            Arc::clone(&call),
            run,
            request.clone(),
            lend,
            Arc::clone(&tell),
        ))
    });
    let ran = transactions.perform(arrival, attempt).await;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (ran, told) {
        (
            Ok(Reply::Ran(())) | Err(AtomicError::Failed(_)),
            Some(Told {
                response,
                verdict,
                started,
                ..
            }),
        ) => (response, verdict, started),
        (Ok(Reply::Refused(refusal)), _) => finished(refused(&shared, index, refusal)),
        (Ok(Reply::Ran(())), None) => finished(reply::failed(&RunError::Lost, route.profile)),
        (Err(error), _) => finished(failed(&error, &shared, index)),
    }
}

/// One run of the handler.
async fn attempt<S, ReqB, ResB>(
    call: Arc<Mutex<Protected<S>>>,
    run: Run,
    mut request: Whole,
    lend: Lend,
    tell: Arc<Mutex<Option<Told<ResB>>>>,
) -> Worked<(), ()>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone,
    S::Error: Failure,
    ReqB: From<Bytes>,
    ResB: HttpBody<Data = Bytes> + Unpin,
{
    let started = Instant::now();
    let (shared, index, mut inner) = {
        let mut call = call.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = call
            .admitted
            .as_deref_mut()
            .and_then(|admitted| admitted.place.as_mut())
        {
            place.used();
        }
        (Arc::clone(&call.shared), call.route, call.inner.clone())
    };
    let route = &shared.routes.entry(index).route;
    perform::announce(&mut request.0, run);
    lend(&mut request.0.extensions);
    let answered = perform::ask(&mut inner, || perform::request_of(request)).await;
    let (worked, response, verdict) = worked(perform::judge(answered, route, &shared).await, route.profile);
    *tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Told {
        response,
        verdict,
        started,
        failed: None,
    });
    worked
}

/// What an answer does to the transaction.
fn worked<B>(came: Came<B>, profile: super::Profile) -> (Worked<(), ()>, Response<Body<B>>, Verdict)
where
    B: HttpBody<Data = Bytes>,
{
    match came {
        Came::Done(outcome, response) => {
            let status = response.status();
            let stays = status.is_success() || status.is_redirection();
            (Worked::Ended(stays, Finish::Done(outcome), ()), response, Verdict::Done)
        }
        Came::NoEffect(after, response) => {
            let finish = perform::released(after, Some(perform::status_error(&response)));
            (Worked::Ended(false, finish, ()), response, Verdict::Released)
        }
        Came::Ambiguous(answer, after, response) => {
            let status = perform::status_error(&response);
            let why = response.extensions().get::<Why>();
            let failed = Failed {
                error: (),
                fault: why.map_or(Fault::Other, Why::fault),
                text: why.map_or_else(|| status.as_str().to_owned(), Why::text),
                after: (!after.is_zero()).then_some(after),
                answer,
            };
            // Nothing of it stays.
            (Worked::Failed(failed), response, Verdict::Released)
        }
        Came::Failed(fault) => {
            let failed = Failed {
                error: (),
                fault: Fault::Other,
                text: fault
                    .last_error
                    .map_or_else(String::new, |error| error.as_str().to_owned()),
                after: None,
                answer: None,
            };
            let response = rolled_back("The service gave no whole answer").response(profile);
            (Worked::Failed(failed), response, Verdict::Released)
        }
    }
}

/// The answer to an arrival of which nothing is known but this.
fn failed<B: From<Bytes>>(error: &AtomicError<Failed<()>>, shared: &Shared, index: usize) -> (Response<B>, Verdict) {
    let profile = shared.routes.entry(index).route.profile;
    let details = match error {
        AtomicError::NotClaimed(_) => reply::store_down(),
        AtomicError::Failed(_) | AtomicError::Panicked => rolled_back("The service failed in the middle"),
        AtomicError::TimedOut => rolled_back("It took longer than it may"),
        AtomicError::Kept => rolled_back("The service did not end its work in time"),
        AtomicError::RolledBack(_) => rolled_back("The database could not do it now"),
        AtomicError::Exhausted => Details::new(
            Problem::DeadLetter,
            "It crashes the service that runs it, and nothing of it happened. Contact the operator.",
        ),
        AtomicError::Unknown(error) => {
            let error = hapax_core::StoreError::new(error.kind(), error.to_string());
            return reply::failed(&RunError::NotFinished(Arc::new(error)), profile);
        }
        AtomicError::Lost => return reply::failed(&RunError::Lost, profile),
    };
    reply::problem(details, profile)
}

fn rolled_back(what: &str) -> Details {
    let detail = format!(
        "{what}, and everything is rolled back: nothing happened. Send the same request again, with the same key."
    );
    Details::new(Problem::RetryLater, detail).retry_after(AGAIN)
}
