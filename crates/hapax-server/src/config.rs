//! The configuration: one type, from `hapax.toml` and the command line.
//!
//! A value is parsed once, into a type that cannot be invalid ([`values`]); what concerns several values at once is
//! [`check`]ed when all are known. The environment is read by the command line only, and only for what should not be
//! on it: the store's URL. Nothing here opens a socket or a store.

pub(crate) mod broker;
pub(crate) mod check;
pub(crate) mod consume;
pub(crate) mod flags;
pub(crate) mod guard;
pub(crate) mod input;
mod limits;
pub(crate) mod outbox;
pub(crate) mod probe;
mod quota;
pub(crate) mod receipts;
pub(crate) mod retention;
pub(crate) mod retry;
mod runner;
pub(crate) mod source;
#[cfg(test)]
mod tests;
pub(crate) mod values;

use std::path::Path;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use consume::Consume;
use guard::Guards;
use input::Input;
pub(crate) use limits::{Limits, Timeouts};
use outbox::Outbox;
use probe::Probe;
use quota::Quota;
use receipts::{Receipts, Written};
use retry::{Retry, RouteRetry};
use runner::Runner;
pub(crate) use source::{ConfigError, Source};
use values::{
    Address, File, Header, Period, Pointer, RouteName, ScopeSource, Size, Status, StoreUrl, UpstreamUrl, Verb,
};

/// Everything that `hapax serve` can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where clients connect. Port 0 lets the system choose.
    pub(crate) listen: Address,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; nowhere if absent. A loopback address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<Address>,
    /// The backend that is protected. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream: Option<UpstreamUrl>,
    /// Where records live.
    pub(crate) store: StoreUrl,
    /// Whose key a request's key is. Required: it is never implied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<ScopeSource>,
    /// The wire profile of answers that the gateway makes itself.
    pub(crate) profile: Profile,
    /// Refuse requests with a protected method that have no key.
    pub(crate) require_key: bool,
    /// How long a duplicate waits for the run in progress before it is told 409.
    pub(crate) wait: Period,
    /// The longest wait that a client can ask for with `Prefer: wait=N`.
    pub(crate) max_wait: Period,
    /// How long a claim holds without a sign of life from its holder.
    pub(crate) lease: Period,
    /// The longest time that a request can run.
    pub(crate) max_run: Period,
    /// What a failure becomes that proves nothing: `hold` (at most once) or `retry` (at least once).
    pub(crate) after_failure: AfterFailure,
    /// Statuses that promise that nothing happened: a retry runs. 503 with Retry-After always does.
    pub(crate) no_effect: Vec<Status>,
    /// Statuses that are final beside 2xx, 3xx and 4xx: they are replayed like a success.
    #[serde(rename = "final")]
    pub(crate) final_statuses: Vec<Status>,
    /// How long an answer can be replayed.
    pub(crate) replay_for: Period,
    /// How long it is remembered that an operation is done.
    pub(crate) remember_for: Period,
    /// How long clients may come back with a key; as long as answers can be replayed if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_retries_for: Option<Period>,
    /// How long after its death a dead letter may be sent back; as long as it is kept if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redrive_for: Option<Period>,
    /// How long after an attempt was cut off "it is not there" counts; as long as the backend may take to answer if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) settle: Option<Period>,
    /// Accept requests with `Prefer: respond-async` to be run later: their bodies are stored.
    pub(crate) respond_async: bool,
    /// What becomes of a request whose operation cannot be claimed because the store does not answer.
    pub(crate) when_store_is_down: WhenStoreIsDown,
    /// The largest forward jump of the clock that is believed.
    pub(crate) max_clock_step: Period,
    /// Further headers of an answer that are stored and replayed.
    pub(crate) keep_headers: Vec<Header>,
    /// What the backend is told of the client in `X-Forwarded-For` and `X-Forwarded-Proto`.
    pub(crate) forwarded: Forwarded,
    /// Which `Host` the backend sees.
    pub(crate) upstream_host: UpstreamHost,
    /// When the backend is asked again, and when it is left alone.
    pub(crate) retry: Retry,
    /// How the backend is asked what became of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<Probe>,
    /// What one scope may take.
    #[serde(skip_serializing_if = "Quota::is_empty")]
    pub(crate) quota: Quota,
    /// Who runs what was accepted, and looks into what is unknown.
    pub(crate) runner: Runner,
    /// How stored requests are kept.
    #[serde(skip_serializing_if = "Input::is_empty")]
    pub(crate) input: Input,
    /// Bounds of what a peer can make the gateway keep.
    pub(crate) limits: Limits,
    /// How long a peer may take.
    pub(crate) timeouts: Timeouts,
    /// Certificates.
    pub(crate) tls: Tls,
    /// How JWTs are verified, for `scope = "jwt:CLAIM"`.
    pub(crate) jwt: Jwt,
    /// What is logged, and how.
    pub(crate) log: Log,
    /// Natural keys of your own tables, by table: `hapax doctor` sees that a unique index protects each.
    #[serde(skip_serializing_if = "Guards::is_empty")]
    pub(crate) guard: Guards,
    /// How the backend proves what it committed.
    #[serde(skip_serializing_if = "Receipts::is_empty")]
    pub(crate) receipts: Receipts,
    /// What holds for some paths only. The first that matches counts.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Route>,
    /// Effects on other systems, and where they go.
    #[serde(rename = "outbox", skip_serializing_if = "Vec::is_empty")]
    pub(crate) outboxes: Vec<Outbox>,
    /// Messages of brokers, and the endpoints that handle them.
    #[serde(rename = "consume", skip_serializing_if = "Vec::is_empty")]
    pub(crate) consumers: Vec<Consume>,
}

/// What holds for requests with a matching path and method. What is absent is as above all routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The path, such as `/orders`, `/orders/{id}/pay` (one segment) or `/files/{*rest}` (all that follows).
    pub(crate) path: String,
    /// The methods that are protected.
    #[serde(default = "default_methods")]
    pub(crate) methods: Vec<Verb>,
    /// The name of its operations: the same key under two names is two operations.
    pub(crate) name: RouteName,
    /// Refuse requests without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) require_key: Option<bool>,
    /// Whose key it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<ScopeSource>,
    /// Parts of a JSON body that do not count when requests are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ignore: Vec<Pointer>,
    /// The only parts of a JSON body that count when requests are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) select: Vec<Pointer>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wait: Option<Period>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Period>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_run: Option<Period>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_failure: Option<AfterFailure>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_effect: Option<Vec<Status>>,
    /// See above.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub(crate) final_statuses: Option<Vec<Status>>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay_for: Option<Period>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remember_for: Option<Period>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_retries_for: Option<Period>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redrive_for: Option<Period>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) settle: Option<Period>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) respond_async: Option<bool>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) when_store_is_down: Option<WhenStoreIsDown>,
    /// Headers of an answer that are stored here too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keep_headers: Vec<Header>,
    /// The largest request body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_body: Option<Size>,
    /// The largest answer that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Size>,
    /// What is different here. Anything makes the route a destination of its own, with its own budget and breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RouteRetry>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<Probe>,
    /// Whether the backend writes receipts here, where `[receipts]` names a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipts: Option<Written>,
}

pub(crate) fn default_methods() -> Vec<Verb> {
    vec![Verb(http::Method::POST), Verb(http::Method::PATCH)]
}

/// How the gateway words its own answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// The Idempotency-Key draft of the IETF, problem+json.
    Ietf,
    /// What Stripe's client libraries expect.
    Stripe,
}

/// What a failure becomes that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AfterFailure {
    /// Unknown, never run again by guess: at most once.
    Hold,
    /// The next arrival runs it again: at least once.
    Retry,
}

/// What becomes of protected requests while the store is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WhenStoreIsDown {
    /// 503 with Retry-After.
    Refuse,
    /// They reach the backend without protection: duplicates run twice.
    RunUnprotected,
}

/// What becomes of `X-Forwarded-For` and `X-Forwarded-Proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Forwarded {
    /// The client's address is added to what it sent.
    Append,
    /// Nothing that the client sent is believed: for a gateway that faces clients.
    Replace,
    /// They are left alone.
    Off,
}

/// Which `Host` the backend sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UpstreamHost {
    /// The one that the client sent.
    Client,
    /// The one in the URL of the backend.
    Upstream,
}

/// Certificates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// PEM file with the listener's certificate chain. With `key`, clients connect by https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<File>,
    /// PEM file with the private key of `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<File>,
    /// PEM file with the authorities that an https backend is trusted by, beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_ca: Option<File>,
}

/// Verification of JWTs. Either `secret_file` or `jwks_file`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Jwt {
    /// File with the secret shared with the issuer (HS256), at least 32 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<File>,
    /// File with the issuer's public keys as a JWK set (RS256, ES256, EdDSA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jwks_file: Option<File>,
    /// The only issuer (`iss`) that is accepted; any that signs with the key if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// The audience (`aud`) that must be named; not looked at if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<String>,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// The least important level that is logged. `info` has one line a request.
    pub(crate) level: Level,
    /// How lines look.
    pub(crate) format: LogFormat,
}

/// Importance of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Nothing at all.
    Off,
    /// What needs a person.
    Error,
    /// What may need one.
    Warn,
    /// One line a request.
    Info,
    /// What happens to operations.
    Debug,
    /// All there is.
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        let no_effect = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_EARLY,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        Self {
            listen: Address(([127, 0, 0, 1], 7700).into()),
            admin: None,
            upstream: None,
            store: StoreUrl::Sqlite("hapax.db".into()),
            scope: None,
            profile: Profile::Ietf,
            require_key: false,
            wait: Period::seconds(5),
            max_wait: Period::seconds(30),
            lease: Period::seconds(30),
            max_run: Period::seconds(15 * 60),
            after_failure: AfterFailure::Hold,
            no_effect: no_effect.map(Status).to_vec(),
            final_statuses: Vec::new(),
            replay_for: Period::seconds(DAY),
            remember_for: Period::seconds(30 * DAY),
            client_retries_for: None,
            redrive_for: None,
            settle: None,
            respond_async: false,
            when_store_is_down: WhenStoreIsDown::Refuse,
            max_clock_step: Period::seconds(300),
            keep_headers: Vec::new(),
            forwarded: Forwarded::Append,
            upstream_host: UpstreamHost::Client,
            retry: Retry::default(),
            probe: None,
            quota: Quota::default(),
            runner: Runner::default(),
            input: Input::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            tls: Tls::default(),
            jwt: Jwt::default(),
            log: Log::default(),
            guard: Guards::new(),
            routes: Vec::new(),
            outboxes: Vec::new(),
            consumers: Vec::new(),
            receipts: Receipts::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: LogFormat::Text,
        }
    }
}

impl Config {
    /// Reads a file, lays the command line over it, and checks the whole. Without a file: `hapax.toml` is not looked
    /// for, so that what runs never depends on the directory that it is started in.
    ///
    /// # Errors
    /// Every mistake, each with its place and what to write instead.
    pub(crate) fn load(file: Option<&Path>, flags: &flags::Flags) -> Result<Self, ConfigError> {
        let source = match file {
            Some(file) => Source::read(file)?,
            None => Source::none(),
        };
        let mut config = source.parse()?;
        let overridden = flags.apply(&mut config);
        check::check(&config).map_err(|mistakes| source.explain(&mistakes, &overridden))?;
        Ok(config)
    }

    /// The effective configuration as TOML. Passwords are not shown.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// The JSON Schema of the file, pretty-printed.
    pub(crate) fn schema() -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&schemars::schema_for!(Self))
    }
}
