//! From the configuration to the types of the transport, the engine and the door.

use std::sync::Arc;
use std::time::Duration;

use hapax::core::{AfterFailure as CoreAfterFailure, Name, Retention};
use hapax::http::{
    InputSeal, Limits, Pointer, Profile as DoorProfile, Quota, Recipe, Route as DoorRoute, RouteBuilder, Routes,
    StoreDown,
};
use hapax::receipts::{ReceiptResolver, Receipts, Written as CoreWritten};
use hapax::retry::Destination;
use hapax::{EngineOptions, Resolver, RunOptions, RunnerOptions};
use http::{HeaderName, StatusCode};

use super::probe::Probe;
use crate::config::input::read_key;
use crate::config::receipts::{Written, written};
use crate::config::retention::settle;
use crate::config::retry;
use crate::config::values::{Header, Pointer as PointerText, Status};
use crate::config::{AfterFailure, Config, Forwarded, Profile, Route, UpstreamHost, WhenStoreIsDown, default_methods};
use crate::gateway::limits::{Forwarded as GatewayForwarded, HostPolicy, ListenerLimits, UpstreamLimits};
use crate::gateway::upstream::Upstream;
use crate::observe::destinations::Destinations;

pub(super) fn engine(config: &Config) -> EngineOptions {
    EngineOptions {
        waiters_per_operation: config.limits.waiters_per_key as usize,
        waiters: config.limits.waiters as usize,
        cache_bytes: config.limits.cache.0,
        store_patience: config.timeouts.store.0,
        ..EngineOptions::default()
    }
}

pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        in_flight: config.limits.in_flight as usize,
        request_bytes: config.limits.request_bytes.bytes(),
    }
}

pub(super) fn listener(config: &Config) -> ListenerLimits {
    let defaults = ListenerLimits::default();
    ListenerLimits {
        workers: match config.limits.workers {
            0 => defaults.workers,
            workers => workers as usize,
        },
        max_connections: config.limits.connections as usize,
        first_byte_timeout: config.timeouts.first_byte.0,
        head_timeout: config.timeouts.head.0,
        idle_timeout: config.timeouts.idle.0,
        body_idle_timeout: config.timeouts.body.0,
        write_timeout: config.timeouts.write.0,
        max_head_bytes: config.limits.head.bytes(),
        max_http2_streams: config.limits.http2_streams,
        drain_timeout: config.timeouts.drain.0,
        forwarded: match config.forwarded {
            Forwarded::Append => GatewayForwarded::Append,
            Forwarded::Replace => GatewayForwarded::Replace,
            Forwarded::Off => GatewayForwarded::Off,
        },
        ..defaults
    }
}

pub(super) fn upstream(config: &Config) -> UpstreamLimits {
    UpstreamLimits {
        connect_timeout: config.timeouts.upstream_connect.0,
        response_timeout: config.timeouts.upstream.0,
        body_idle_timeout: config.timeouts.upstream_body.0,
        pool_idle_timeout: config.timeouts.upstream_idle.0,
        host: match config.upstream_host {
            UpstreamHost::Client => HostPolicy::Client,
            UpstreamHost::Upstream => HostPolicy::Upstream,
        },
        ..UpstreamLimits::default()
    }
}

pub(super) fn profile(config: &Config) -> DoorProfile {
    match config.profile {
        Profile::Ietf => DoorProfile::Ietf,
        Profile::Stripe => DoorProfile::Stripe,
    }
}

pub(super) fn runner(config: &Config) -> RunnerOptions {
    RunnerOptions {
        concurrency: config.runner.concurrency as usize,
        poll: config.runner.poll.0,
        drain: config.timeouts.drain.0,
    }
}

/// What is made of the routes.
pub(super) struct Door {
    pub(super) routes: Routes,
    /// The backend, and each route that has a policy of its own towards it.
    pub(super) destinations: Destinations,
    /// Who knows by receipts.
    pub(super) resolvers: Vec<ReceiptResolver>,
}

impl Door {
    /// All routes; what no pattern fits is protected too, under the name `default`. `upstream` is what probes ask.
    ///
    /// # Errors
    /// What does not make sense, and what to write instead.
    pub(super) fn new(
        config: &Config,
        upstream: &Upstream,
        receipts: Option<Arc<dyn Receipts>>,
    ) -> Result<Self, String> {
        let main = destination(config, None)?;
        let mut destinations = vec![("upstream".to_owned(), main.clone())];
        let mut maker = Maker::new(config, receipts);
        let seal = seal(config)?;
        let name = Name::new("default").map_err(|error| error.to_string())?;
        let fallback = maker.route(None, name, main.clone(), upstream, seal.as_ref())?;
        let mut routes = Routes::new();
        for route in &config.routes {
            let destination = match &route.retry {
                None => main.clone(),
                Some(_) => own(config, route, &mut destinations)?,
            };
            let built = maker.route(Some(route), route.name.0.clone(), destination, upstream, seal.as_ref())?;
            routes = routes.route(&route.path, built).map_err(|error| error.to_string())?;
        }
        Ok(Self {
            routes: routes.fallback(fallback),
            destinations: Destinations::new(destinations),
            resolvers: maker.resolvers(),
        })
    }
}

/// The destination of a route with a policy of its own; routes of one name share it.
fn own(config: &Config, route: &Route, known: &mut Vec<(String, Destination)>) -> Result<Destination, String> {
    let (name, policy) = (route.name.to_string(), retry::policy(config, Some(route)));
    let mut own = known.iter().skip(1);
    if let Some((_, same)) = own.find(|(other, known)| *other == name && *known.policy() == policy) {
        return Ok(same.clone());
    }
    let made = destination(config, Some(route))?;
    known.push((name, made.clone()));
    Ok(made)
}

fn destination(config: &Config, route: Option<&Route>) -> Result<Destination, String> {
    Destination::new(retry::policy(config, route)).map_err(|error| error.to_string())
}

/// The keys that stored requests are encrypted with, the first one to encrypt.
pub(super) fn seal(config: &Config) -> Result<Option<InputSeal>, String> {
    let mut seal: Option<InputSeal> = None;
    for file in &config.input.key_files {
        let key = read_key(file.path()).map_err(|problem| problem.to_string())?;
        seal = Some(match seal {
            None => InputSeal::new(&key),
            Some(seal) => seal.also(&key),
        });
    }
    Ok(seal)
}

/// What routes are made with.
pub(super) struct Maker<'a> {
    config: &'a Config,
    receipts: Option<Arc<dyn Receipts>>,
    /// One for each name.
    resolvers: Vec<(Name, ReceiptResolver)>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(config: &'a Config, receipts: Option<Arc<dyn Receipts>>) -> Self {
        Self {
            config,
            receipts,
            resolvers: Vec::new(),
        }
    }

    /// Who knows by receipts about what was made.
    pub(super) fn resolvers(self) -> Vec<ReceiptResolver> {
        self.resolvers.into_iter().map(|(_, resolver)| resolver).collect()
    }

    fn route(
        &mut self,
        route: Option<&Route>,
        name: Name,
        destination: Destination,
        upstream: &Upstream,
        seal: Option<&InputSeal>,
    ) -> Result<DoorRoute, String> {
        let config = self.config;
        let probe = route.and_then(|route| route.probe.as_ref()).or(config.probe.as_ref());
        let probe = probe.map(|probe| Probe::resolver(probe, upstream.clone(), destination.clone()));
        let (builder, resolvers) = self.with_receipts(route, name);
        // A probe could only contradict a seal.
        let resolvers = if resolvers.is_empty() {
            probe.into_iter().collect()
        } else {
            resolvers
        };
        builder
            .retry(destination)
            .respond_async(is_async(config, route))
            .input_seal(seal.cloned())
            .resolvers(resolvers)
            .quota(quota(config))
            .build()
            .map_err(|error| error.to_string())
    }

    /// A route for the messages of a consumer, and who is asked what became of them.
    pub(super) fn messages(
        &mut self,
        route: &Route,
        destination: Destination,
    ) -> Result<(DoorRoute, Vec<Arc<dyn Resolver>>), String> {
        let (builder, resolvers) = self.with_receipts(Some(route), route.name.0.clone());
        let built = builder.retry(destination).resolvers(resolvers.clone()).build();
        Ok((built.map_err(|error| error.to_string())?, resolvers))
    }

    fn with_receipts(&mut self, route: Option<&Route>, name: Name) -> (RouteBuilder, Vec<Arc<dyn Resolver>>) {
        let config = self.config;
        let builder = builder(config, route, name.clone());
        let Some((resolver, written)) = self.resolver(route, name) else {
            return (builder, Vec::new());
        };
        let builder = match written {
            // What is sealed is certain at once.
            CoreWritten::Required => builder.settle(Duration::ZERO),
            _ => builder,
        };
        let asked: Vec<Arc<dyn Resolver>> = vec![Arc::new(resolver.clone())];
        (builder.sealer(Arc::new(resolver), config.receipts.recovering), asked)
    }
}

impl Maker<'_> {
    /// Who knows by receipts, if the backend writes any there.
    fn resolver(&mut self, route: Option<&Route>, name: Name) -> Option<(ReceiptResolver, CoreWritten)> {
        let receipts = self.receipts.as_ref()?;
        let written = match written(self.config, route) {
            Written::Required => CoreWritten::Required,
            Written::IfSeen => CoreWritten::IfSeen,
            Written::Never => return None,
        };
        let known = self.resolvers.iter().find(|(other, _)| *other == name);
        let resolver = match known {
            Some((_, resolver)) => resolver.clone(),
            None => {
                let made = ReceiptResolver::new(Arc::clone(receipts), name.clone(), written);
                self.resolvers.push((name, made.clone()));
                made
            }
        };
        Some((resolver, written))
    }
}

/// Whether requests of a route are accepted to be run later.
pub(super) fn is_async(config: &Config, route: Option<&Route>) -> bool {
    route
        .and_then(|route| route.respond_async)
        .unwrap_or(config.respond_async)
}

fn quota(config: &Config) -> Option<Quota> {
    let quota = &config.quota;
    (!quota.is_empty()).then_some(Quota {
        new_per_second: quota.new_per_second,
        in_flight: quota.in_flight,
        records: quota.records,
    })
}

/// How the operations of a route are run.
pub(super) fn run_options(config: &Config, route: Option<&Route>) -> RunOptions {
    macro_rules! either {
        ($field:ident) => {
            route
                .and_then(|route| route.$field.clone())
                .unwrap_or(config.$field.clone())
        };
    }
    RunOptions {
        lease: either!(lease).0,
        max_run: either!(max_run).0,
        after_failure: match either!(after_failure) {
            AfterFailure::Hold => CoreAfterFailure::Hold,
            AfterFailure::Retry => CoreAfterFailure::Retry,
        },
        retention: Retention {
            replay_for: either!(replay_for).0,
            remember_for: either!(remember_for).0,
        },
        settle: settle(config, route).0,
        // Where there is a probe, the door says so.
        attended: false,
    }
}

/// A route with what it says itself, and what holds for all routes where it says nothing.
fn builder(config: &Config, route: Option<&Route>, name: Name) -> RouteBuilder {
    macro_rules! either {
        ($field:ident) => {
            route
                .and_then(|route| route.$field.clone())
                .unwrap_or(config.$field.clone())
        };
    }
    let request = route
        .and_then(|route| route.request_body)
        .unwrap_or(config.limits.request_body);
    let answer = route.and_then(|route| route.answer).unwrap_or(config.limits.answer);
    let methods = route.map_or_else(default_methods, |route| route.methods.clone());
    let own_headers = route.map(|route| route.keep_headers.as_slice()).unwrap_or_default();
    DoorRoute::builder(name)
        .methods(methods.into_iter().map(|verb| verb.0))
        .require_key(either!(require_key))
        .run(run_options(config, route))
        .wait(either!(wait).0, config.max_wait.0)
        .answer_limit(answer.bytes(), config.timeouts.answer.0)
        .request_limit(request.bytes())
        .recipe(recipe(route))
        .no_effect(statuses(&either!(no_effect)))
        .finals(statuses(&either!(final_statuses)))
        .store_headers(headers(&config.keep_headers).chain(headers(own_headers)))
        .profile(profile(config))
        .when_store_is_down(match either!(when_store_is_down) {
            WhenStoreIsDown::Refuse => StoreDown::Refuse,
            WhenStoreIsDown::RunUnprotected => StoreDown::RunUnprotected,
        })
}

fn recipe(route: Option<&Route>) -> Recipe {
    // Checked when they were read.
    let pointers = |texts: &[PointerText]| -> Vec<Pointer> {
        texts.iter().filter_map(|text| Pointer::new(&text.0).ok()).collect()
    };
    match route {
        Some(route) if !route.ignore.is_empty() => Recipe::ignoring(pointers(&route.ignore)),
        Some(route) if !route.select.is_empty() => Recipe::selecting(pointers(&route.select)),
        _ => Recipe::all(),
    }
}

fn statuses(list: &[Status]) -> Vec<StatusCode> {
    list.iter().map(|status| status.0).collect()
}

fn headers(list: &[Header]) -> impl Iterator<Item = HeaderName> + '_ {
    list.iter().map(|header| header.0.clone())
}

/// TLS towards the backend. A plain backend needs no certificates, so a machine without any can serve one.
///
/// # Errors
/// If the certificates cannot be read.
pub(super) fn upstream_tls(config: &Config) -> Result<Arc<rustls::ClientConfig>, String> {
    let is_tls = config
        .upstream
        .as_ref()
        .is_some_and(|url| url.0.scheme_str() == Some("https"));
    if is_tls {
        let ca = config.tls.upstream_ca.as_ref().map(|file| file.path());
        return crate::gateway::upstream::client_tls(ca).map_err(|error| error.to_string());
    }
    crate::gateway::upstream::no_tls().map_err(|error| error.to_string())
}
