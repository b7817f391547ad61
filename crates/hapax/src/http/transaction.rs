//! The transaction as a handler sees it: an extractor; and the answer that rolls it back.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hapax_store::joined::Fault;
use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderValue, Response, StatusCode};

use super::protect::BoxError;
use crate::atomic::{Database, chain};

/// Where a transaction is between the door and the handler.
pub(super) struct Slot<D: Database>(Arc<Mutex<Option<D::Transaction>>>);

impl<D: Database> Slot<D> {
    pub(super) fn new(transaction: D::Transaction) -> Self {
        Self(Arc::new(Mutex::new(Some(transaction))))
    }

    pub(super) fn take(&self) -> Option<D::Transaction> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, transaction: D::Transaction) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(transaction);
    }
}

impl<D: Database> Clone for Slot<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The open transaction of a request on a route that [runs in transactions](super::RouteBuilder::atomic); the operation
/// is claimed in it. With the feature `axum`, an argument of axum's handlers; elsewhere, [taken](Self::take) from the
/// request's extensions.
///
/// It goes back to the door when it is dropped, and must be by the time that the handler answers: what is kept for
/// longer is rolled back. The handler neither commits nor rolls back; its answer does.
pub struct Transaction<D: Database> {
    /// Until it is dropped.
    open: Option<D::Transaction>,
    slot: Slot<D>,
}

impl<D: Database> Transaction<D> {
    /// Takes the transaction out of the extensions of a request.
    ///
    /// # Errors
    /// [`NoTransaction`] if there is none, or not one of this database.
    pub fn take(extensions: &Extensions) -> Result<Self, NoTransaction> {
        let slot = extensions.get::<Slot<D>>().ok_or(NoTransaction { taken: false })?;
        let open = slot.take().ok_or(NoTransaction { taken: true })?;
        Ok(Self {
            open: Some(open),
            slot: slot.clone(),
        })
    }

    /// The connection, to run statements on.
    #[allow(clippy::expect_used, reason = "only the drop takes it out")]
    pub fn connection(&mut self) -> &mut D::Connection {
        D::connection(self.open.as_mut().expect("only the drop takes it out"))
    }
}

impl<D: Database> Drop for Transaction<D> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            self.slot.put(open);
        }
    }
}

impl<D: Database> fmt::Debug for Transaction<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}

/// A request has no transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTransaction {
    taken: bool,
}

impl fmt::Display for NoTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.taken {
            "the transaction of this request was taken before: a handler has one argument for it"
        } else {
            "this request has no transaction of that database: see that hapax's layer is around this handler, that its \
             route for this path and method was built with `atomic`, and that both name the same database type"
        })
    }
}

impl Error for NoTransaction {}

/// The error of a handler that rolls everything back: any error becomes one by `?`. The failure is counted, and the
/// caller is answered with 500, unless [another answer](Self::answer) is given; a conflict that the database met (a
/// serialization failure, a deadlock) is run again from the top instead.
#[derive(Debug)]
pub struct Rollback(Why);

/// Why a handler failed: travels in the extensions of its answer.
#[derive(Debug, Clone)]
pub(super) struct Why(Arc<dyn Error + Send + Sync>);

impl Why {
    pub(super) fn fault(&self) -> Fault {
        Fault::of(self.0.as_ref())
    }

    /// For the record.
    pub(super) fn text(&self) -> String {
        chain(self.0.as_ref())
    }
}

impl<E: Into<BoxError>> From<E> for Rollback {
    fn from(error: E) -> Self {
        Self(Why(Arc::from(error.into())))
    }
}

impl Rollback {
    /// Gives the caller this answer, which must be one that is no success (5xx), instead of the usual.
    pub fn answer<B>(self, mut response: Response<B>) -> Response<B> {
        response.extensions_mut().insert(self.0);
        response
    }

    /// The usual answer: 500, which tells the caller nothing of the error.
    #[must_use]
    pub fn response<B: From<Bytes>>(self) -> Response<B> {
        const BODY: &str = "{\"type\":\"about:blank\",\"title\":\"Internal Server Error\",\"status\":500,\"detail\":\"The \
                            service failed, and everything is rolled back: nothing happened. Send the same request \
                            again, with the same key.\"}";
        let mut response = Response::new(B::from(Bytes::from_static(BODY.as_bytes())));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        self.answer(response)
    }
}

#[cfg(feature = "axum")]
mod axum {
    use axum_core::extract::FromRequestParts;
    use axum_core::response::{IntoResponse, Response};
    use http::StatusCode;
    use http::request::Parts;

    use super::{NoTransaction, Rollback, Transaction};
    use crate::atomic::Database;

    impl<S: Sync, D: Database> FromRequestParts<S> for Transaction<D> {
        type Rejection = NoTransaction;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoTransaction> {
            Self::take(&parts.extensions)
        }
    }

    impl IntoResponse for NoTransaction {
        fn into_response(self) -> Response {
            // For whoever builds the service; its callers can do nothing about it.
            tracing::error!("{self}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }

    impl IntoResponse for Rollback {
        fn into_response(self) -> Response {
            self.response()
        }
    }
}
