//! What is done in a transaction, whichever door asked for it.

use std::error::Error;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hapax_core::{Answer, Finish};
use hapax_store::joined::Fault;

use super::database::Database;
use super::decision::Decision;
use super::error::chain;
use crate::engine::Run;

/// What is done in a transaction. May be asked again from the top.
pub(crate) trait Work<D: Database>: Sized + Send + 'static {
    type Reply: Send + 'static;
    type Error: Send + 'static;

    /// Does it. The transaction comes back, unless it was kept.
    fn perform(&mut self, transaction: D::Transaction, run: Run) -> impl Future<Output = Performed<D, Self>> + Send;
}

/// The transaction, unless it was kept, and how the work ended.
pub(crate) type Performed<D, W> = (
    Option<<D as Database>::Transaction>,
    Worked<<W as Work<D>>::Reply, <W as Work<D>>::Error>,
);

/// How work ended.
pub(crate) enum Worked<R, E> {
    /// As decided: whether the writes stay, how it is recorded, what the caller is told.
    Ended(bool, Finish, R),
    /// It failed.
    Failed(Failed<E>),
}

/// A failure of the handler.
pub(crate) struct Failed<E> {
    pub(crate) error: E,
    /// What it means to the database, if that was the reason.
    pub(crate) fault: Fault,
    /// What is kept of it.
    pub(crate) text: String,
    /// When it asked to be tried again.
    pub(crate) after: Option<Duration>,
    /// The answer that it gave.
    pub(crate) answer: Option<Answer>,
}

/// A handler that borrows the connection.
pub(crate) struct Borrowing<H, R, E>(H, PhantomData<fn() -> (R, E)>);

impl<H, R, E> Borrowing<H, R, E> {
    pub(super) fn new(handler: H) -> Self {
        Self(handler, PhantomData)
    }
}

impl<D, H, R, E> Work<D> for Borrowing<H, R, E>
where
    D: Database,
    R: Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    H: for<'t> FnMut(&'t mut D::Connection, &'t Run) -> BoxFuture<'t, Result<Decision<R>, E>> + Send + 'static,
{
    type Reply = R;
    type Error = Box<dyn Error + Send + Sync>;

    async fn perform(
        &mut self,
        mut transaction: D::Transaction,
        run: Run,
    ) -> (Option<D::Transaction>, Worked<R, Self::Error>) {
        let decided = (self.0)(D::connection(&mut transaction), &run).await;
        let worked = match decided {
            Ok(decision) => {
                let (stays, finish, reply) = decision.parts();
                Worked::Ended(stays, finish, reply)
            }
            Err(error) => {
                let error = error.into();
                Worked::Failed(Failed {
                    fault: Fault::of(error.as_ref()),
                    text: chain(error.as_ref()),
                    error,
                    after: None,
                    answer: None,
                })
            }
        };
        (Some(transaction), worked)
    }
}
