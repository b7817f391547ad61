//! The layer: how outgoing HTTP calls are retried.

use hapax_core::{OperationId, derive_key};

use super::destination::Destination;
use super::service::RetryService;

/// Retries outgoing HTTP requests to one [`Destination`]: a [`tower_layer::Layer`]. Cheap to clone.
///
/// Every try of a request whose method is not safe carries the same `Idempotency-Key`: the one that the request has,
/// else its [`DerivedKey`], else a random one. Bodies must be cheap to clone, such as `Full<Bytes>`.
///
/// ```
/// use std::convert::Infallible;
///
/// use hapax::core::{OperationId, RetryPolicy};
/// use hapax::retry::{DerivedKey, Destination, RetryLayer};
/// use http::{Request, Response};
/// use tower_layer::Layer;
/// use tower_service::Service;
///
/// # #[derive(Clone)] struct Client;
/// # impl Service<Request<&'static str>> for Client {
/// #     type Response = Response<String>;
/// #     type Error = Infallible;
/// #     type Future = std::future::Ready<Result<Response<String>, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
/// #         std::task::Poll::Ready(Ok(()))
/// #     }
/// #     fn call(&mut self, request: Request<&'static str>) -> Self::Future {
/// #         let key = request.headers()["idempotency-key"].to_str().unwrap().to_owned();
/// #         std::future::ready(Ok(Response::new(key)))
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bank = Destination::new(RetryPolicy::default())?;
/// let mut client = RetryLayer::new(bank).layer(Client);
///
/// // In a handler behind the `Idempotency` layer, the operation is in the request's extensions: `Run`.
/// let operation = OperationId::from_bytes([7; 16]);
/// let request = Request::post("https://bank.example/charges")
///     .extension(DerivedKey::new(&operation, "charge"))
///     .body("{}")?;
/// let response = client.call(request).await?;
/// # assert_eq!(response.body(), DerivedKey::new(&operation, "charge").as_str());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RetryLayer {
    destination: Destination,
}

impl RetryLayer {
    /// A layer for calls to a destination.
    #[must_use]
    pub fn new(destination: Destination) -> Self {
        Self { destination }
    }
}

impl<S> tower_layer::Layer<S> for RetryLayer {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService::new(inner, self.destination.clone())
    }
}

/// The idempotency key of an effect, in the extensions of the request that asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DerivedKey(String);

impl DerivedKey {
    /// The key for one effect of an operation. Two calls of one operation need two names: see [`derive_key`].
    #[must_use]
    pub fn new(parent: &OperationId, effect: &str) -> Self {
        Self(derive_key(parent, effect))
    }

    /// A key for a request that belongs to no operation: it protects the tries of that request from one another.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(OperationId::from_bytes(bytes).to_string()))
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
