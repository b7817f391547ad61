//! What concerns several values at once, or the world outside the file.

mod names;
mod routes;

use std::net::IpAddr;
use std::path::Path;

use super::source::Step::{self, Key};
use super::values::{Period, ScopeSource, StoreUrl};
use super::{Config, consume, input, outbox, probe, quota, receipts, retention, retry, runner};

/// A mistake: which value, what is wrong with it, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) path: Vec<Step>,
    pub(crate) problem: String,
    pub(crate) help: String,
}

/// Finds every mistake.
///
/// # Errors
/// All of them, in the order of the file's documentation.
pub(crate) fn check(config: &Config) -> Result<(), Vec<Mistake>> {
    let mut mistakes = Mistakes(Vec::new());
    required(config, &mut mistakes);
    itself(config, &mut mistakes);
    times(config, &mut mistakes);
    limits(config, &mut mistakes);
    jwt(config, &mut mistakes);
    tls(config, &mut mistakes);
    store(config, &mut mistakes);
    retry::check(config, &mut mistakes);
    quota::check(&config.quota, &mut mistakes);
    runner::check(config, &mut mistakes);
    input::check(&config.input, &mut mistakes);
    probe::check(config, &mut mistakes);
    routes::routes(config, &mut mistakes);
    receipts::check(config, &mut mistakes);
    outbox::check(config, &mut mistakes);
    consume::check(config, &mut mistakes);
    names::names(config, &mut mistakes);
    // Where other times make no sense, theirs make none.
    if mistakes.0.is_empty() {
        retention::check(config, &mut mistakes);
    }
    if mistakes.0.is_empty() { Ok(()) } else { Err(mistakes.0) }
}

/// What was found so far.
pub(super) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, path: &[Step], problem: impl Into<String>, help: impl Into<String>) {
        self.0.push(Mistake {
            path: path.to_vec(),
            problem: problem.into(),
            help: help.into(),
        });
    }

    /// How many were found so far.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

fn required(config: &Config, mistakes: &mut Mistakes) {
    // One that only relays effects and messages protects nothing.
    let relays = !config.outboxes.is_empty() || !config.consumers.is_empty();
    let protects = config.upstream.is_some() || !relays;
    if protects && config.upstream.is_none() {
        mistakes.add(
            &[Key("upstream")],
            "there is no upstream: nothing to protect",
            "write upstream = \"http://127.0.0.1:9000\", or give --upstream http://127.0.0.1:9000",
        );
    }
    if protects && config.scope.is_none() {
        mistakes.add(
            &[Key("scope")],
            "there is no scope: whose key is a request's key? Two clients must never share answers by accident",
            "write one of these (or give it with --scope):\n\
             scope = \"header:Authorization\"   # each credential has keys of its own\n\
             scope = \"jwt:sub\"                # each subject of a verified JWT\n\
             scope = \"none\"                   # all clients are one tenant and may see each other's answers",
        );
    }
    if let Some(admin) = config.admin
        && !admin.0.ip().is_loopback()
    {
        mistakes.add(
            &[Key("admin")],
            format!("the admin address {admin} can be reached from outside, and has no authentication"),
            "write a loopback address such as admin = \"127.0.0.1:7701\"; for a probe or a scraper on another machine, \
             put a proxy with authentication before it",
        );
    }
}

/// A gateway before itself would pass each request round until no connection is left.
fn itself(config: &Config, mistakes: &mut Mistakes) {
    let Some(upstream) = config.upstream.as_ref().map(|url| &url.0) else {
        return;
    };
    let (listen, host) = (config.listen.0, upstream.host().unwrap_or_default());
    let is_loopback = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) if address == listen.ip() => true,
        Ok(address) => listen.ip().is_unspecified() && address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost") && (listen.ip().is_loopback() || listen.ip().is_unspecified()),
    };
    let default = if upstream.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    if is_loopback && upstream.port_u16().unwrap_or(default) == listen.port() {
        mistakes.add(
            &[Key("upstream")],
            format!(
                "the upstream {host}:{} is the address that hapax itself listens on ({listen})",
                listen.port()
            ),
            "give the backend's own address, or choose another with listen = \"127.0.0.1:7700\"",
        );
    }
}

fn times(config: &Config, mistakes: &mut Mistakes) {
    let some = [
        ("lease", config.lease),
        ("max_run", config.max_run),
        ("replay_for", config.replay_for),
        ("remember_for", config.remember_for),
        ("max_clock_step", config.max_clock_step),
    ];
    let optional = [
        ("client_retries_for", config.client_retries_for),
        ("redrive_for", config.redrive_for),
        ("settle", config.settle),
    ];
    let given = optional.into_iter().filter_map(|(key, period)| Some((key, period?)));
    for (key, period) in some.into_iter().chain(given) {
        positive(&[Key(key)], key, period, mistakes);
    }
    let timeouts = &config.timeouts;
    let some = [
        ("first_byte", timeouts.first_byte),
        ("head", timeouts.head),
        ("body", timeouts.body),
        ("idle", timeouts.idle),
        ("write", timeouts.write),
        ("upstream_connect", timeouts.upstream_connect),
        ("upstream", timeouts.upstream),
        ("upstream_body", timeouts.upstream_body),
        ("answer", timeouts.answer),
        ("upstream_idle", timeouts.upstream_idle),
        ("store", timeouts.store),
    ];
    for (key, period) in some {
        positive(&[Key("timeouts"), Key(key)], key, period, mistakes);
    }
    let whole = Times {
        wait: config.wait,
        lease: config.lease,
        max_run: config.max_run,
        replay_for: config.replay_for,
        remember_for: config.remember_for,
    };
    whole.check(&[], config.max_wait, mistakes);
    if timeouts.upstream > config.max_run {
        mistakes.add(
            &[Key("timeouts"), Key("upstream")],
            format!(
                "timeouts.upstream ({}) is longer than max_run ({}): a request would lose its claim before it times out",
                timeouts.upstream, config.max_run
            ),
            format!("raise max_run to {} or more, or lower timeouts.upstream", timeouts.upstream),
        );
    }
}

/// Times that hold together, above all routes or in one.
struct Times {
    wait: Period,
    lease: Period,
    max_run: Period,
    replay_for: Period,
    remember_for: Period,
}

impl Times {
    fn check(&self, at: &[Step], max_wait: Period, mistakes: &mut Mistakes) {
        let pairs = [
            ("wait", self.wait, "max_wait", max_wait),
            ("lease", self.lease, "max_run", self.max_run),
            ("replay_for", self.replay_for, "remember_for", self.remember_for),
        ];
        for (short, shorter, long, longer) in pairs {
            if shorter > longer {
                let path = [at, &[Key(short)]].concat();
                mistakes.add(
                    &path,
                    format!("{short} ({shorter}) is longer than {long} ({longer})"),
                    format!("lower {short} to {longer} or less, or raise {long} to {shorter} or more"),
                );
            }
        }
    }
}

pub(super) fn positive(path: &[Step], key: &str, period: Period, mistakes: &mut Mistakes) {
    if period.is_zero() {
        mistakes.add(
            path,
            format!("{key} is zero"),
            format!("give a time, such as {key} = \"30s\""),
        );
    }
}

fn limits(config: &Config, mistakes: &mut Mistakes) {
    let limits = &config.limits;
    for (key, number) in [
        ("connections", limits.connections),
        ("in_flight", limits.in_flight),
        ("http2_streams", limits.http2_streams),
    ] {
        if number == 0 {
            mistakes.add(
                &[Key("limits"), Key(key)],
                format!("limits.{key} is zero: nothing could be served"),
                "give at least 1",
            );
        }
    }
    if limits.request_bytes < limits.request_body {
        mistakes.add(
            &[Key("limits"), Key("request_bytes")],
            format!(
                "limits.request_bytes ({}) is less than limits.request_body ({}): the largest request could never be read",
                limits.request_bytes, limits.request_body
            ),
            format!("raise request_bytes to {} or more, or lower request_body", limits.request_body),
        );
    }
    if limits.workers > 1024 {
        mistakes.add(
            &[Key("limits"), Key("workers")],
            format!("{} workers are more than any machine has cores", limits.workers),
            "leave it out for one a core",
        );
    }
    if !(8192..=16 << 20).contains(&limits.head.0) {
        mistakes.add(
            &[Key("limits"), Key("head")],
            format!("limits.head is {}", limits.head),
            "give between 8 KiB and 16 MiB",
        );
    }
    if limits.answer.0 > 256 << 20 || limits.request_body.0 > 1 << 30 {
        let key = if limits.answer.0 > 256 << 20 {
            "answer"
        } else {
            "request_body"
        };
        mistakes.add(
            &[Key("limits"), Key(key)],
            format!("limits.{key} is larger than what can be held in memory safely"),
            "give at most 256 MiB for an answer and 1 GiB for a request body",
        );
    }
}

fn jwt(config: &Config, mistakes: &mut Mistakes) {
    let is_jwt = |scope: &Option<ScopeSource>| matches!(scope, Some(ScopeSource::Jwt(_)));
    let (secret, jwks) = (&config.jwt.secret_file, &config.jwt.jwks_file);
    let wanted = is_jwt(&config.scope) || config.routes.iter().any(|route| is_jwt(&route.scope));
    if secret.is_some() && jwks.is_some() {
        mistakes.add(
            &[Key("jwt"), Key("secret_file")],
            "jwt.secret_file and jwt.jwks_file are both given: which one signs?",
            "keep one of them",
        );
    } else if wanted && secret.is_none() && jwks.is_none() {
        mistakes.add(
            &[Key("scope")],
            "a jwt: scope needs something to verify JWTs with",
            "write [jwt] with secret_file = \"jwt.secret\" (HS256) or jwks_file = \"jwks.json\" (RS256, ES256, EdDSA), \
             or give --jwt-secret-file or --jwt-jwks-file",
        );
    } else if !wanted && (secret.is_some() || jwks.is_some()) {
        mistakes.add(
            &[Key("jwt")],
            "JWTs can be verified, but no scope uses them",
            "write scope = \"jwt:sub\", or remove [jwt]",
        );
    }
    let files = [("secret_file", secret), ("jwks_file", jwks)];
    for (key, file) in files {
        if let Some(file) = file {
            readable(&[Key("jwt"), Key(key)], file.path(), mistakes);
        }
    }
}

fn tls(config: &Config, mistakes: &mut Mistakes) {
    let tls = &config.tls;
    let halves = [
        ("cert", &tls.cert, "key", &tls.key),
        ("key", &tls.key, "cert", &tls.cert),
    ];
    for (given, file, missing, other) in halves {
        if file.is_some() && other.is_none() {
            mistakes.add(
                &[Key("tls"), Key(given)],
                format!("tls.{given} is given without tls.{missing}"),
                format!("write {missing} = \"FILE.pem\" beside it"),
            );
        }
    }
    for (key, file) in [
        ("cert", &tls.cert),
        ("key", &tls.key),
        ("upstream_ca", &tls.upstream_ca),
    ] {
        if let Some(file) = file {
            readable(&[Key("tls"), Key(key)], file.path(), mistakes);
        }
    }
}

fn readable(at: &[Step], file: &Path, mistakes: &mut Mistakes) {
    if let Err(error) = std::fs::File::open(file) {
        mistakes.add(
            at,
            format!("cannot read {}: {error}", file.display()),
            "check the path and its permissions",
        );
    }
}

/// A directory that is missing or cannot be written in is found before anything starts; the file itself is the
/// store's business.
fn store(config: &Config, mistakes: &mut Mistakes) {
    let StoreUrl::Sqlite(path) = &config.store else { return };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let help =
        "give a file in a directory that this user can write in, such as store = \"sqlite:/var/lib/hapax/hapax.db\"";
    match std::fs::metadata(directory) {
        Err(error) => mistakes.add(
            &[Key("store")],
            format!("the directory of {} cannot be used: {error}", config.store),
            help,
        ),
        Ok(found) if !found.is_dir() => mistakes.add(
            &[Key("store")],
            format!(
                "{} is not a directory, so {} cannot be in it",
                directory.display(),
                config.store
            ),
            help,
        ),
        Ok(_) if path.is_dir() => mistakes.add(&[Key("store")], format!("{} is a directory", path.display()), help),
        Ok(_) => {
            let opened = if path.exists() {
                std::fs::OpenOptions::new().append(true).open(path).map(|_| ())
            } else {
                tempfile::tempfile_in(directory).map(|_| ())
            };
            if let Err(error) = opened {
                mistakes.add(
                    &[Key("store")],
                    format!("{} cannot be written: {error}", config.store),
                    help,
                );
            }
        }
    }
}
