//! The layer: what to protect with, and how.

use std::fmt;
use std::sync::Arc;

use super::fingerprint::Fingerprinter;
use super::limits::{Budget, Limits};
use super::route::Routes;
use super::scope::ScopeExtractor;
use super::service::{IdempotencyService, Shared};
use crate::engine::Engine;

/// Protects an HTTP service: a [`tower_layer::Layer`]. Cheap to clone.
///
/// ```
/// use hapax::core::Store;
/// use hapax::http::{HeaderScope, Idempotency, Route};
/// use hapax::store::{Clock, MemoryStore};
/// use hapax::{Engine, EngineOptions};
///
/// let store = MemoryStore::new(Clock::default(), [0; 32]);
/// let scope = HeaderScope::new(http::header::AUTHORIZATION, &store.secret());
/// let engine = Engine::new(store, EngineOptions::default(), ());
/// let layer = Idempotency::new(engine, scope, Route::default());
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct Idempotency {
    shared: Arc<Shared>,
}

impl Idempotency {
    /// A layer on an engine. `scope` tells whose request it is; `routes` is one [`Route`](super::Route) for all
    /// requests, or [`Routes`].
    ///
    /// # Panics
    /// If a route runs in [transactions](super::RouteBuilder::atomic) of another engine.
    pub fn new(engine: Engine, scope: impl ScopeExtractor, routes: impl Into<Routes>) -> Self {
        Self::with_limits(engine, scope, routes, &Limits::default())
    }

    /// The same, with other limits for all protected requests together.
    ///
    /// # Panics
    /// If a route runs in [transactions](super::RouteBuilder::atomic) of another engine.
    pub fn with_limits(engine: Engine, scope: impl ScopeExtractor, routes: impl Into<Routes>, limits: &Limits) -> Self {
        let fingerprinter = Fingerprinter::new(&engine.store().secret());
        let routes = routes.into();
        #[cfg(feature = "atomic")]
        for route in routes.iter() {
            let transactions = route.transactions.as_ref();
            assert!(
                transactions.is_none_or(|transactions| transactions.0.is_of(&engine)),
                "route {}: make the layer with the engine that its `atomic` was made with",
                route.name()
            );
        }
        let shared = Shared {
            engine,
            scope: Box::new(scope),
            routes,
            fingerprinter,
            budget: Budget::new(limits),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl<S> tower_layer::Layer<S> for Idempotency {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService::new(inner, Arc::clone(&self.shared))
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("routes", &self.shared.routes)
            .finish_non_exhaustive()
    }
}
