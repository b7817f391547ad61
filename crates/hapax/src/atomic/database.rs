//! What a driver must do for transactions that hold both the record and the business writes.

use std::future::Future;

use hapax_core::{Claim, Fence, Finish, Finished, Lease, OperationId, Outcome, Refusal, Timestamp};
use hapax_store::joined::{Joint, JointError};

use super::bounds::Bounds;

/// A database through one driver: connections, and what begins and ends a transaction.
///
/// An adapter MUST
/// - set the [`Bounds`] with the transaction, and leave the connection as it was afterwards;
/// - roll a transaction back when it is dropped, however it comes to that;
/// - give no connection back to its pool with a transaction open.
///
/// It sends as much as it can in one round trip. Nothing here decides anything.
pub trait Database: Send + Sync + 'static {
    /// An open transaction.
    type Transaction: Send + 'static;
    /// The connection as the handler sees it.
    type Connection: Send + 'static;

    /// The connection of a transaction.
    fn connection(transaction: &mut Self::Transaction) -> &mut Self::Connection;

    /// Begins, claims, and sets a savepoint after the claim. What is refused is rolled back.
    fn open(
        &self,
        joint: &Joint,
        claim: &Claim,
        bounds: &Bounds,
    ) -> impl Future<Output = Result<Opened<Self::Transaction>, JointError>> + Send;

    /// Begins, and enters operations as done ([`Joint::enter`]), for what is about to do them. Nobody waits longer for
    /// another transaction's than [`Bounds::lock`].
    fn enter(
        &self,
        joint: &Joint,
        claims: &[Claim],
        outcome: &Outcome,
        bounds: &Bounds,
    ) -> impl Future<Output = Result<Entered<Self::Transaction>, JointError>> + Send;

    /// Commits a transaction that did what it entered.
    fn commit(&self, transaction: Self::Transaction) -> impl Future<Output = Result<(), NotClosed>> + Send;

    /// Begins without a claim, for an operation that is claimed already.
    fn begin(&self, bounds: &Bounds) -> impl Future<Output = Result<Self::Transaction, JointError>> + Send;

    /// Rolls back to the savepoint after the claim.
    fn undo(&self, transaction: &mut Self::Transaction) -> impl Future<Output = Result<(), JointError>> + Send;

    /// Finishes in the transaction; commits if the finish was applied, rolls back if not.
    fn close(
        &self,
        transaction: Self::Transaction,
        joint: &Joint,
        id: OperationId,
        fence: Fence,
        finish: &Finish,
    ) -> impl Future<Output = Result<Closed, NotClosed>> + Send;

    /// Rolls back. A connection on which that fails is thrown away.
    fn abandon(&self, transaction: Self::Transaction) -> impl Future<Output = ()> + Send;
}

/// What came of [`Database::open`].
#[derive(Debug)]
pub enum Opened<T> {
    /// The claim is this transaction's.
    Won(T, Timestamp, Lease),
    /// The record says this.
    Refused(Timestamp, Refusal),
    /// Another transaction has the operation.
    Taken,
}

/// What came of [`Database::enter`].
#[derive(Debug)]
pub enum Entered<T> {
    /// The transaction is open. Which operations are new, in their order; and the time, if one is.
    Open(T, Option<Timestamp>, Vec<bool>),
    /// Another transaction has one of them, and nothing was entered.
    Taken,
}

/// What came of [`Database::close`].
#[derive(Debug)]
pub enum Closed {
    /// It is durable.
    Committed(Timestamp),
    /// The finish did not apply, and everything is rolled back.
    Refused(Finished),
}

/// A transaction that was not closed, as far as is known.
#[derive(Debug)]
pub enum NotClosed {
    /// Nothing of it happened.
    RolledBack(JointError),
    /// The commit was on its way, and its answer never came.
    Unknown(JointError),
}
