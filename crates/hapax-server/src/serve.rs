//! `hapax serve`: the one place where concrete types meet.
//!
//! The order of a start: store (and its schema), keys, listeners, and only then the lines that say so. The order of
//! an end: no more connections, the requests in flight, then the store.

mod admin;
mod backend;
mod consume;
mod door;
mod gate;
mod probe;
mod relay;
mod scope;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use hapax::consume::ConsumerError;
use hapax::core::{Fence, Store};
use hapax::http::Idempotency;
use hapax::receipts::{ReceiptKeeper, ReceiptResolver, Receipts};
use hapax::{Engine, Runner, Sweeper};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tower_layer::Layer;

use crate::config::Config;
use crate::config::retention::longest;
use crate::config::values::StoreUrl;
use crate::demo::shop::parent_gone;
use crate::exit::{Exit, Failure};
use crate::gateway::body::Body;
use crate::gateway::listener::{Drained, Listener, Stop, server_tls};
use crate::gateway::upstream::{AnswerBody, Target, Upstream};
use crate::observe::Metrics;
use crate::observe::access::AccessLog;
use crate::observe::census;
use crate::observe::destinations::Destinations;
use crate::observe::log::{self, Sink};
use crate::store;
use admin::Admin;
use backend::Backend;
use consume::Consumers;
use door::Door;
use gate::Gate;
use relay::Relay;

/// Serves until a signal, or (`with_parent`) until standard input ends.
///
/// # Errors
/// Why it could not start, or did not end in good order.
pub(crate) fn run(config: Config, with_parent: bool) -> Result<(), Failure> {
    let internal = |error: io::Error| Failure::new(Exit::Internal, format!("cannot start: {error}"));
    let (sink, _drain) = log::start(&config.log).map_err(internal)?;
    // For the accept loop, the store, the sweeper and the admin pages. Requests have threads of their own.
    // Effects are delivered and messages handled here, too.
    let threads = if config.outboxes.is_empty() && config.consumers.is_empty() {
        1
    } else {
        2
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(internal)?;
    runtime.block_on(serve(config, sink, with_parent))
}

async fn serve(config: Config, sink: Sink, with_parent: bool) -> Result<(), Failure> {
    // Before anything that takes time: a signal is never missed.
    let mut signals = Signals::new().map_err(|error| Failure::new(Exit::Internal, error))?;
    if config.store == StoreUrl::Memory {
        tracing::warn!("a memory: store forgets everything when the process ends: for trying things out only");
    }
    let store = tokio::select! {
        opened = store::open(&config.store, config.max_clock_step.0) => opened?,
        () = signals.next() => return Ok(()),
    };
    let metrics = Arc::new(Metrics::default());
    let engine = Engine::shared(Arc::clone(&store), door::engine(&config), metrics.clone());
    metrics
        .outbox
        .watch(config.outboxes.iter().map(|outbox| outbox.name.to_string()));
    metrics
        .consume
        .watch(config.consumers.iter().map(|consume| consume.name.to_string()));
    let relay = tokio::select! {
        made = Relay::new(&config, &engine, &metrics) => made?,
        () = signals.next() => return Ok(()),
    };
    let receipts = tokio::select! {
        opened = open_receipts(&config, &*store) => opened?,
        () = signals.next() => return Ok(()),
    };
    let mut gateway = match &config.upstream {
        Some(_) => Some(Gateway::new(&config, &engine, &metrics, sink, receipts.clone())?),
        None => None,
    };
    let mut consumers = Consumers::new(&config, &engine, &metrics, receipts.clone())?;
    let destinations = gateway.as_ref().map(|gateway| gateway.destinations.clone());
    let relayed = relay.as_ref().map(|relay| relay.destinations.clone());
    let consumed = consumers.as_ref().map(|consumers| consumers.destinations.clone());
    let destinations = destinations.unwrap_or_default().and(relayed.unwrap_or_default());
    let destinations = destinations.and(consumed.unwrap_or_default());
    let keeper = receipts.map(|receipts| {
        let doors = gateway.as_mut().map(|gateway| std::mem::take(&mut gateway.resolvers));
        let consumers = consumers
            .as_mut()
            .map(|consumers| std::mem::take(&mut consumers.resolvers));
        let resolvers = doors.into_iter().chain(consumers).flatten().collect();
        ReceiptKeeper::new(receipts, resolvers, longest(&config))
    });
    let stop = Stop::new();
    let admin = match config.admin {
        Some(address) => Some(bind_admin(address.0).await?),
        None => None,
    };
    announce(&config, gateway.as_ref(), admin.as_ref())?;
    warn_of_clear_text(&config);
    let watch = tokio::spawn(destinations.clone().watch());
    let staged = relay.as_ref().map(|relay| relay.staged.clone());
    let staged = staged.map(|staged| tokio::spawn(relay::watch(staged, Arc::clone(&metrics))));
    let census = admin
        .as_ref()
        .map(|_| tokio::spawn(census::repeat(engine.clone(), Arc::clone(&metrics))));
    let keeper = keeper.map(|keeper| tokio::spawn(keeper.run(Arc::clone(&store), metrics.clone())));
    let sweeper = tokio::spawn(Sweeper::default().run(Arc::clone(&store), metrics.clone()));
    let admin = admin.map(|listener| {
        let admin = Admin {
            engine: engine.clone(),
            metrics: Arc::clone(&metrics),
            destinations,
            stop: stop.clone(),
        };
        tokio::spawn(admin.serve(listener))
    });
    let ended = until_stopped(gateway, relay, consumers, stop, &mut signals, with_parent).await;
    for task in [Some(watch), Some(sweeper), keeper, census, admin, staged]
        .into_iter()
        .flatten()
    {
        task.abort();
    }
    ended
}

/// Lost claims that left no receipt had fences, too: no store gave out more than these after its newest receipt.
const LOST_FENCES: u64 = 1 << 32;

/// The receipts that the configuration names. With a store that may have lost records, no fence that their attempts had
/// is given out again.
async fn open_receipts(config: &Config, store: &dyn Store) -> Result<Option<Arc<dyn Receipts>>, Failure> {
    let recovering = config.receipts.recovering;
    let Some(url) = &config.receipts.database else {
        let message = "recovering looks for receipts, but no database of theirs is named: give --receipts URL";
        return match recovering {
            true => Err(Failure::new(Exit::Usage, message)),
            false => Ok(None),
        };
    };
    let receipts = hapax::receipts::connect(&url.0).await?;
    if recovering {
        let highest = receipts.highest_fence().await?.map_or(0, Fence::get);
        let floor = Fence::new(highest.saturating_add(LOST_FENCES));
        store.raise_fence(floor).await?;
        tracing::info!(highest, above = %floor, "recovering: receipts are looked for before any run, and fences raised");
    }
    Ok(Some(receipts))
}

/// Everything that requests go through, ready to serve.
struct Gateway {
    listener: Listener,
    address: SocketAddr,
    make: Box<dyn Fn(usize) -> Gate + Send + Sync>,
    destinations: Destinations,
    /// Where there is something that it could run.
    runner: Option<Runner>,
    /// Who knows by receipts.
    resolvers: Vec<ReceiptResolver>,
}

impl Gateway {
    fn new(
        config: &Config,
        engine: &Engine,
        metrics: &Arc<Metrics>,
        sink: Sink,
        receipts: Option<Arc<dyn Receipts>>,
    ) -> Result<Self, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
        let scope = scope::extractor(config, &engine.store().secret()).map_err(|error| usage(&error))?;
        let url = config.upstream.as_ref().map(ToString::to_string).unwrap_or_default();
        let target = Target::parse(&url).map_err(|error| usage(&error))?;
        let tls = door::upstream_tls(config).map_err(|error| usage(&error))?;
        let limits = door::upstream(config);
        // For the runner and for probes, which have no worker of their own.
        let upstream = Upstream::new(target.clone(), Arc::clone(&tls), limits.clone());
        let Door {
            routes,
            destinations,
            resolvers,
        } = Door::new(config, &upstream, receipts).map_err(|error| usage(&error))?;
        let layer = Idempotency::with_limits(engine.clone(), scope, routes, &door::limits(config));
        let service = layer.layer(Backend::new(upstream, Arc::clone(metrics)));
        // A crash of the gateway is never an operation's fault: it only passes requests on.
        let has_work = config.runner.enabled && !service.handlings(false).is_empty();
        let runner =
            has_work.then(|| service.equip::<Body, AnswerBody>(Runner::new(engine, door::runner(config)), false));
        let listener = bind(config)?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::new(Exit::Internal, format!("cannot read the port: {error}")))?;
        let metrics = Arc::clone(metrics);
        let (access, profile) = (AccessLog::new(&config.log, sink), door::profile(config));
        let make = move |_worker| {
            let upstream = Upstream::new(target.clone(), Arc::clone(&tls), limits.clone());
            let backend = Backend::new(upstream, Arc::clone(&metrics));
            Gate::new(layer.layer(backend), Arc::clone(&metrics), access.clone(), profile)
        };
        Ok(Self {
            listener,
            address,
            make: Box::new(make),
            destinations,
            runner,
            resolvers,
        })
    }
}

fn bind(config: &Config) -> Result<Listener, Failure> {
    let tls = match (&config.tls.cert, &config.tls.key) {
        (Some(cert), Some(key)) => {
            Some(server_tls(cert.path(), key.path()).map_err(|error| Failure::new(Exit::Usage, error))?)
        }
        _ => None,
    };
    let address = config.listen.0;
    Listener::bind(address, tls, door::listener(config)).map_err(|error| cannot_listen("listen", address, &error))
}

async fn bind_admin(address: SocketAddr) -> Result<tokio::net::TcpListener, Failure> {
    admin::bind(address)
        .await
        .map_err(|error| cannot_listen("admin", address, &error))
}

fn cannot_listen(flag: &str, address: SocketAddr, error: &io::Error) -> Failure {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program listens there; stop it, or choose another --{flag} ADDRESS")
        }
        io::ErrorKind::PermissionDenied => format!("this user may not; choose a port above 1023 with --{flag} ADDRESS"),
        _ => format!("choose an address of this machine with --{flag} ADDRESS"),
    };
    Failure::new(
        Exit::Unreachable,
        format!("cannot listen on {address}: {error}; {help}"),
    )
}

/// What was never said to be secret is stored as it is, which should surprise nobody.
fn warn_of_clear_text(config: &Config) {
    let routes = config.routes.iter().map(Some);
    let any_async = routes.chain([None]).any(|route| door::is_async(config, route));
    if any_async && config.input.key_files.is_empty() {
        tracing::warn!(
            "requests accepted with respond-async are stored in clear text, credentials included; to encrypt them: \
             (umask 077; openssl rand -hex 32 > input.key), and [input] key_files = [\"input.key\"]"
        );
    }
}

/// Says what is protected and where. The line `listening on URL` comes last, when clients can connect.
fn announce(
    config: &Config,
    gateway: Option<&Gateway>,
    admin: Option<&tokio::net::TcpListener>,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let upstream = config.upstream.as_ref().map(ToString::to_string).unwrap_or_default();
    let scope = config.scope.as_ref().map(ToString::to_string).unwrap_or_default();
    let key = if config.require_key {
        "a key required"
    } else {
        "where they have a key"
    };
    if gateway.is_some() {
        writeln!(
            out,
            "protecting {upstream}: POST and PATCH, {key}; scope {scope}; records in {}",
            config.store
        )?;
    }
    for route in &config.routes {
        let methods: Vec<String> = route.methods.iter().map(ToString::to_string).collect();
        writeln!(out, "route {}: {} {}", route.name, methods.join(" "), route.path)?;
    }
    for outbox in &config.outboxes {
        writeln!(
            out,
            "delivering {} to {}; records in {}",
            outbox.name, outbox.to, config.store
        )?;
    }
    for consume in &config.consumers {
        writeln!(
            out,
            "consuming {}: {} of {} to {}; records in {}",
            consume.name,
            consume.place().unwrap_or_default(),
            consume.from,
            consume.to,
            config.store
        )?;
    }
    if let Some(address) = admin.and_then(|listener| listener.local_addr().ok()) {
        writeln!(out, "admin on http://{address}")?;
    }
    match gateway {
        Some(gateway) => {
            let scheme = if config.tls.cert.is_some() { "https" } else { "http" };
            writeln!(out, "listening on {scheme}://{}", gateway.address)?;
        }
        None => writeln!(out, "relaying only: there is no upstream to protect")?,
    }
    out.flush()?;
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Only caught: a file that may not grow (`ulimit -f`) is a store that fails, not the end of the gateway.
    _file_size: Signal,
}

/// The same number on Linux, BSD and macOS.
const SIGXFSZ: i32 = 25;

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn until_stopped(
    gateway: Option<Gateway>,
    relay: Option<Relay>,
    consumers: Option<Consumers>,
    stop: Stop,
    signals: &mut Signals,
    with_parent: bool,
) -> Result<(), Failure> {
    let relaying = relay.map(|relay| tokio::spawn(relay.run(stop.clone())));
    let consuming = consumers.map(|consumers| tokio::spawn(consumers.run(stop.clone())));
    let (running, listener) = match gateway {
        Some(Gateway {
            runner, listener, make, ..
        }) => {
            let running = runner.map(|runner| {
                let stop = stop.clone();
                tokio::spawn(async move { runner.run(stop.wait()).await })
            });
            (running, Some((listener, make)))
        }
        None => (None, None),
    };
    let asked = stop.clone();
    let mut serving = std::pin::pin!(async {
        let mut drained = match listener {
            Some((listener, make)) => listener.serve(make, asked).await?,
            None => {
                asked.wait().await;
                Drained::default()
            }
        };
        if let Some(running) = running {
            tracing::info!("no more requests in flight; waiting for what the runner runs");
            // It does not panic; if it did, its runs are found by the next start.
            drained.left += running.await.unwrap_or(0);
        }
        if let Some(relaying) = relaying {
            drained.left += relaying.await.unwrap_or(0);
        }
        if let Some(consuming) = consuming {
            drained.left += consuming.await.unwrap_or(Ok(0))?;
        }
        Ok(drained)
    });
    tokio::select! {
        ended = &mut serving => return conclude(ended),
        () = signals.next() => {}
        () = parent(with_parent) => {}
    }
    tracing::info!("stopping: no more connections; waiting for the requests in flight (a second signal ends at once)");
    stop.ask();
    tokio::select! {
        ended = &mut serving => conclude(ended),
        () = signals.next() => Err(Failure::new(Exit::Failed, "stopped at once, with requests in flight")),
    }
}

/// Returns when the parent has gone, if that is asked for.
async fn parent(wanted: bool) {
    match wanted {
        true => parent_gone().await,
        false => std::future::pending().await,
    }
}

/// Why serving ended by itself.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("cannot serve: {0}")]
    Listener(#[from] io::Error),
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
}

fn conclude(ended: Result<Drained, Wrong>) -> Result<(), Failure> {
    match ended {
        Ok(drained) if drained == Drained::default() => Ok(()),
        Ok(Drained { cut, left }) => Err(Failure::new(
            Exit::Failed,
            format!(
                "{cut} connections were cut when the drain time was over, and {left} operations whose clients had left: \
                 look at them with `hapax records ls`; raise timeouts.drain, or see why the backend or the store is slow"
            ),
        )),
        Err(error @ Wrong::Listener(_)) => Err(Failure::new(Exit::Internal, error)),
        Err(error @ Wrong::Consumer(_)) => Err(Failure::new(Exit::Usage, error)),
    }
}
