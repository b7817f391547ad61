//! How the requests of a route are protected, and which route a request is of.

mod sense;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Name, RecipeId};
use http::{HeaderName, Method, StatusCode};
use tokio::sync::OnceCell;

use super::answer::CaptureLimits;
use super::failure::Statuses;
use super::fingerprint::Recipe;
use super::profile::Profile;
use super::quota::{Quota, Quotas};
use super::seal::InputSeal;
use crate::engine::RunOptions;
use crate::resolver::{Resolver, Sealer};
use crate::retry::Destination;

/// What happens to a protected request while the store is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StoreDown {
    /// It is refused.
    #[default]
    Refuse,
    /// It runs without protection, marked `Hapax-State: unprotected`: it may happen twice.
    RunUnprotected,
}

/// How the requests of a route are protected. Made by [`Route::builder`].
#[derive(Debug, Clone)]
pub struct Route {
    pub(super) name: Name,
    pub(super) methods: Vec<Method>,
    pub(super) required: bool,
    pub(super) run: RunOptions,
    pub(super) wait: Duration,
    pub(super) max_wait: Duration,
    pub(super) capture: CaptureLimits,
    pub(super) request_bytes: usize,
    pub(super) recipe: Recipe,
    pub(super) statuses: Statuses,
    pub(super) headers: Vec<HeaderName>,
    pub(super) profile: Profile,
    pub(super) when_store_is_down: StoreDown,
    pub(super) retry: Option<Destination>,
    pub(super) respond_async: bool,
    pub(super) seal: Option<InputSeal>,
    pub(super) resolvers: Resolvers,
    pub(super) sealer: Option<SealedBy>,
    pub(super) quota: Option<Quota>,
    #[cfg(feature = "atomic")]
    pub(super) transactions: Option<super::atomic::InTransactions>,
}

/// Who is asked what became of an unknown outcome.
#[derive(Clone, Default)]
pub(super) struct Resolvers(pub(super) Vec<Arc<dyn Resolver>>);

impl fmt::Debug for Resolvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|resolver| resolver.name()))
            .finish()
    }
}

/// Who makes sure of what failed.
#[derive(Clone)]
pub(super) struct SealedBy {
    pub(super) sealer: Arc<dyn Sealer>,
    /// Whether it is asked before any run, too.
    pub(super) first: bool,
}

impl fmt::Debug for SealedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedBy")
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

/// Why a route cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError(String);

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RouteError {}

impl Route {
    /// A route with the defaults, to be changed. `name` is part of each operation's identity: the same key under two
    /// names is two operations.
    #[must_use]
    pub fn builder(name: Name) -> RouteBuilder {
        RouteBuilder(Self {
            name,
            methods: vec![Method::POST, Method::PATCH],
            required: false,
            run: RunOptions::default(),
            wait: Duration::from_secs(5),
            max_wait: Duration::from_secs(30),
            capture: CaptureLimits {
                bytes: 1 << 20,
                time: Duration::from_secs(10),
            },
            request_bytes: 8 << 20,
            recipe: Recipe::all(),
            statuses: Statuses::default(),
            headers: Vec::new(),
            profile: Profile::Ietf,
            when_store_is_down: StoreDown::Refuse,
            retry: None,
            respond_async: false,
            seal: None,
            resolvers: Resolvers::default(),
            sealer: None,
            quota: None,
            #[cfg(feature = "atomic")]
            transactions: None,
        })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The profile that its clients speak.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }
}

impl Default for Route {
    /// The route named `default`, with every default.
    #[allow(clippy::expect_used, reason = "the text is a constant of seven letters")]
    fn default() -> Self {
        Self::builder(Name::new("default").expect("seven letters are a name")).0
    }
}

/// A route in the making.
#[derive(Debug, Clone)]
pub struct RouteBuilder(Route);

impl RouteBuilder {
    /// The methods that are protected (POST, PATCH). Others pass through.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.0.methods = methods.into_iter().collect();
        self
    }

    /// Whether a request without a key is refused (no: it passes through).
    #[must_use]
    pub fn require_key(mut self, required: bool) -> Self {
        self.0.required = required;
        self
    }

    /// Lease, retention, and what an ambiguous failure becomes.
    #[must_use]
    pub fn run(mut self, run: RunOptions) -> Self {
        self.0.run = run;
        self
    }

    /// How long a duplicate waits for a run in progress (5 s), and the most that `Prefer: wait=N` can ask for (30 s).
    #[must_use]
    pub fn wait(mut self, wait: Duration, max_wait: Duration) -> Self {
        self.0.wait = wait;
        self.0.max_wait = max_wait;
        self
    }

    /// The largest answer that is kept (1 MiB), and how long it may take to come whole once its head is there (10 s).
    /// Any other is done without an answer.
    #[must_use]
    pub fn answer_limit(mut self, bytes: usize, time: Duration) -> Self {
        self.0.capture = CaptureLimits { bytes, time };
        self
    }

    /// The largest request body (8 MiB).
    #[must_use]
    pub fn request_limit(mut self, bytes: usize) -> Self {
        self.0.request_bytes = bytes;
        self
    }

    /// What makes a request's fingerprint (all of it).
    #[must_use]
    pub fn recipe(mut self, recipe: Recipe) -> Self {
        self.0.recipe = recipe;
        self
    }

    /// The statuses of answers that had no effect (401, 403, 408, 425, 429; and 503 with `Retry-After`, always).
    #[must_use]
    pub fn no_effect(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.0.statuses.no_effect = statuses.into_iter().collect();
        self
    }

    /// Statuses that are final beside 2xx, 3xx and 4xx (none).
    #[must_use]
    pub fn finals(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.0.statuses.finals = statuses.into_iter().collect();
        self
    }

    /// Headers of the answer that are stored beside the usual ones.
    #[must_use]
    pub fn store_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.0.headers = names.into_iter().collect();
        self
    }

    /// The wire profile (ietf).
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.0.profile = profile;
        self
    }

    /// What happens while the store is down (requests are refused).
    #[must_use]
    pub fn when_store_is_down(mut self, choice: StoreDown) -> Self {
        self.0.when_store_is_down = choice;
        self
    }

    /// Retry policy, budget and breaker towards the inner service (none). Routes to the same service share a clone.
    ///
    /// While the breaker is open, what would run is refused before any claim. A request of which provably nothing was
    /// sent is sent again within the same run, as far as policy and budget allow; anything else is for the caller, or
    /// for a runner where the input is stored. Requests that pass through are not counted.
    #[must_use]
    pub fn retry(mut self, destination: Destination) -> Self {
        self.0.retry = Some(destination);
        self
    }

    /// Whether `Prefer: respond-async` is honoured (no): the request is stored, answered with 202, and run by a
    /// [`Runner`](crate::Runner) that was given [`equip`](super::IdempotencyService::equip).
    #[must_use]
    pub fn respond_async(mut self, allowed: bool) -> Self {
        self.0.respond_async = allowed;
        self
    }

    /// What stored requests are encrypted with (nothing).
    #[must_use]
    pub fn input_seal(mut self, seal: Option<InputSeal>) -> Self {
        self.0.seal = seal;
        self
    }

    /// Who is asked, in this order, what became of an unknown outcome (nobody), by a [`Runner`](crate::Runner) that was
    /// given [`equip`](super::IdempotencyService::equip).
    #[must_use]
    pub fn resolvers(mut self, resolvers: Vec<Arc<dyn Resolver>>) -> Self {
        self.0.resolvers = Resolvers(resolvers);
        self
    }

    /// Who makes sure of what failed (nobody): receipts that the inner service writes in its own transaction.
    ///
    /// What proves nothing, and what the inner service said to be without effect, is then sealed: it happened, and is
    /// done with the recorded answer, or it did not and never will, and may be run again at once. An arrival that finds
    /// an unknown outcome settles it first and goes on. If it cannot be settled, it stays unknown. `first`: look for a
    /// receipt before any run, since the store may have lost records.
    ///
    /// It is no resolver: for what nobody asks for again, give the runner the same one by
    /// [`resolvers`](Self::resolvers), with a [`settle`](Self::settle) of zero.
    #[must_use]
    pub fn sealer(mut self, sealer: Arc<dyn Sealer>, first: bool) -> Self {
        self.0.sealer = Some(SealedBy { sealer, first });
        self
    }

    /// How long after an attempt was cut off a resolver's "not found" counts (30 s); part of what [`Self::run`] sets.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.0.run.settle = settle;
        self
    }

    /// What one scope may take (anything). Routes with equal quotas share what is counted.
    #[must_use]
    pub fn quota(mut self, quota: Option<Quota>) -> Self {
        self.0.quota = quota;
        self
    }

    /// Runs its requests in transactions of the handler's own database, together with their records: the handler takes
    /// a [`Transaction`](super::Transaction), and its answer decides whether what it wrote there is committed. A request
    /// without a key is refused, since it has no transaction.
    ///
    /// `atomic` must be of the engine that the layer is made with. What a transaction makes needless is refused: a
    /// sealer, resolvers, a retry policy, `respond_async`, and running unprotected.
    #[cfg(feature = "atomic")]
    #[must_use]
    pub fn atomic<D: crate::atomic::Database>(mut self, atomic: &crate::atomic::Atomic<D>) -> Self {
        let transactions = std::sync::Arc::new(atomic.clone());
        self.0.transactions = Some(super::atomic::InTransactions(transactions));
        self.0.required = true;
        self
    }

    /// The route, if it makes sense.
    ///
    /// # Errors
    /// [`RouteError`] says what does not, and what to write instead.
    pub fn build(self) -> Result<Route, RouteError> {
        let mut route = self.0;
        route.run.attended |= !route.resolvers.0.is_empty();
        match route.nonsense() {
            Some(text) => Err(RouteError(format!("route {}: {text}", route.name))),
            None => Ok(route),
        }
    }
}

/// A route with the number of its recipe, once the store has given one.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) route: Route,
    pub(super) recipe: OnceCell<RecipeId>,
    /// Shared with the routes whose quota is equal.
    pub(super) quotas: Option<Arc<Quotas>>,
}

/// All routes: the first one whose path pattern and methods fit a request protects it.
///
/// A pattern is a path with `{name}` for one segment and `{*name}` for all that follows, compared with the path as it
/// was sent (percent-encoding, case and double slashes included). A request that no pattern fits goes to the fallback,
/// so that another spelling of a path loses no protection; without one it passes through.
#[derive(Debug, Default)]
pub struct Routes {
    entries: Vec<Entry>,
    patterns: matchit::Router<Vec<usize>>,
    fallback: Option<usize>,
}

impl Routes {
    /// No routes: everything passes through.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route for paths like `pattern`.
    ///
    /// # Errors
    /// [`RouteError`] if the pattern is malformed, or contradicts another.
    pub fn route(mut self, pattern: &str, route: Route) -> Result<Self, RouteError> {
        let index = self.add(route);
        match self.patterns.insert(pattern, vec![index]) {
            Ok(()) => Ok(self),
            Err(matchit::InsertError::Conflict { with }) if with == pattern => {
                // The same path for other methods. A pattern always matches itself.
                if let Ok(found) = self.patterns.at_mut(pattern) {
                    found.value.push(index);
                }
                Ok(self)
            }
            Err(error) => Err(RouteError(format!("path {pattern:?}: {error}"))),
        }
    }

    /// The route of every request that no pattern fits.
    #[must_use]
    pub fn fallback(mut self, route: Route) -> Self {
        self.fallback = Some(self.add(route));
        self
    }

    /// The longest possible waits, largest bodies and so on are the routes' own business; this lists them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.entries.iter().map(|entry| &entry.route)
    }

    fn add(&mut self, route: Route) -> usize {
        let quotas = route.quota.map(|quota| {
            let mut others = self.entries.iter().filter_map(|entry| entry.quotas.as_ref());
            let equal = others.find(|quotas| quotas.quota == quota);
            equal.map_or_else(|| Arc::new(Quotas::new(quota)), Arc::clone)
        });
        self.entries.push(Entry {
            route,
            recipe: OnceCell::new(),
            quotas,
        });
        self.entries.len() - 1
    }

    /// The index of the route that protects a request.
    pub(super) fn find(&self, method: &Method, path: &str) -> Option<usize> {
        let fits = |index: &usize| self.entries[*index].route.methods.contains(method);
        if self.entries.len() > usize::from(self.fallback.is_some())
            && let Ok(found) = self.patterns.at(path)
            && let Some(index) = found.value.iter().copied().find(|index| fits(index))
        {
            return Some(index);
        }
        self.fallback.filter(fits)
    }

    pub(super) fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    /// The route of this name; of several, one that stores requests.
    pub(super) fn named(&self, name: &Name) -> Option<&Route> {
        let mut named = self.iter().filter(|route| route.name == *name);
        let first = named.next()?;
        Some(match first.respond_async {
            true => first,
            false => named.find(|route| route.respond_async).unwrap_or(first),
        })
    }

    /// Whether somebody is asked what became of the unknown outcomes of a name.
    pub(super) fn resolves(&self, name: &Name) -> bool {
        self.iter()
            .any(|route| route.name == *name && !route.resolvers.0.is_empty())
    }

    /// The profile for what belongs to no route.
    pub(super) fn profile(&self) -> Profile {
        self.fallback
            .map_or(Profile::Ietf, |index| self.entries[index].route.profile)
    }

    /// The name of operations where the caller gives none: the fallback's, or the only one there is.
    pub(super) fn default_name(&self) -> Option<&Name> {
        let only = (self.entries.len() == 1).then_some(0);
        self.fallback.or(only).map(|index| &self.entries[index].route.name)
    }
}

/// One route for all paths.
impl From<Route> for Routes {
    fn from(route: Route) -> Self {
        Self::new().fallback(route)
    }
}

#[cfg(test)]
mod tests;
