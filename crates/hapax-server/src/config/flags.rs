//! The command line of `hapax serve`, laid over the file.

use clap::Args;

use super::outbox::DatabaseUrl;
use super::receipts::Written;
use super::values::{Address, File, Period, ScopeSource, Status, StoreUrl, UpstreamUrl};
use super::{AfterFailure, Config, Level, LogFormat, Profile};

/// What can be said on the command line. Everything else, and routes, are in the file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Flags {
    /// Where clients connect; with port 0 the system chooses one [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Address>,
    /// Serve /healthz, /readyz and /metrics here, on a loopback address
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
    /// The backend to protect, such as http://127.0.0.1:9000
    #[arg(long, value_name = "URL")]
    upstream: Option<UpstreamUrl>,
    /// Where records live: sqlite:FILE or postgres://USER@HOST/DATABASE [default: sqlite:hapax.db]
    #[arg(long, value_name = "URL", env = "HAPAX_STORE", hide_env_values = true)]
    store: Option<StoreUrl>,
    /// The backend's database, in which it writes receipts
    #[arg(long, value_name = "URL", env = "HAPAX_RECEIPTS", hide_env_values = true)]
    receipts: Option<DatabaseUrl>,
    /// The backend writes a receipt for each operation that has an effect: what is without one did not happen
    #[arg(long)]
    receipts_required: bool,
    /// Look for a receipt before any run: after the store was restored or failed over
    #[arg(long)]
    recovering: bool,
    /// Whose key it is: header:NAME, jwt:CLAIM or none. Required, here or in the file
    #[arg(long, value_name = "SCOPE")]
    scope: Option<ScopeSource>,
    /// How hapax words its own answers [default: ietf]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "ietf|stripe")]
    profile: Option<Profile>,
    /// Refuse POST and PATCH without a key
    #[arg(long)]
    require_key: bool,
    /// How long a duplicate waits for the run in progress [default: 5s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    wait: Option<Period>,
    /// How long a claim holds without a sign of life [default: 30s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    lease: Option<Period>,
    /// The longest time a request can run [default: 15m]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    max_run: Option<Period>,
    /// What a failure becomes that proves nothing: hold (at most once) or retry (at least once) [default: hold]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "hold|retry")]
    after_failure: Option<AfterFailure>,
    /// Statuses that promise that nothing happened [default: 401,403,408,425,429; 503 with Retry-After always does]
    #[arg(long, value_name = "STATUSES", value_delimiter = ',')]
    no_effect: Option<Vec<Status>>,
    /// Statuses that are final beside 2xx, 3xx and 4xx [default: none]
    #[arg(long = "final", value_name = "STATUSES", value_delimiter = ',')]
    final_statuses: Option<Vec<Status>>,
    /// How long an answer can be replayed [default: 24h]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    replay_for: Option<Period>,
    /// How long it is remembered that an operation is done [default: 30d]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    remember_for: Option<Period>,
    /// Accept requests with `Prefer: respond-async`, to be run later
    #[arg(long)]
    respond_async: bool,
    /// File with the key that stored requests are encrypted with: 64 hex digits
    #[arg(long, value_name = "FILE")]
    input_key_file: Option<File>,
    /// How long the backend may take to answer [default: 30s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    upstream_timeout: Option<Period>,
    /// How long requests in flight may take after SIGTERM [default: 30s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    drain_timeout: Option<Period>,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// PEM file with the listener's certificate chain: clients connect by https
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<File>,
    /// PEM file with the private key of --tls-cert
    #[arg(long, value_name = "FILE")]
    tls_key: Option<File>,
    /// PEM file with further authorities that an https backend is trusted by
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<File>,
    /// File with the secret that JWTs are signed with (HS256)
    #[arg(long, value_name = "FILE")]
    jwt_secret_file: Option<File>,
    /// File with the issuer's public keys, a JWK set (RS256, ES256, EdDSA)
    #[arg(long, value_name = "FILE")]
    jwt_jwks_file: Option<File>,
    /// The only issuer of JWTs that is accepted
    #[arg(long, value_name = "ISSUER")]
    jwt_issuer: Option<String>,
    /// The audience that JWTs must name
    #[arg(long, value_name = "AUDIENCE")]
    jwt_audience: Option<String>,
    /// What is logged: off, error, warn, info (one line a request), debug, trace [default: info]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "LEVEL")]
    log: Option<Level>,
    /// How log lines look [default: text]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "text|json")]
    log_format: Option<LogFormat>,
}

impl Flags {
    /// Overrides the file's values. Gives each top-level key that was overridden, with the flag that did it.
    pub(crate) fn apply(&self, config: &mut Config) -> Vec<(&'static str, String)> {
        let mut given = Vec::new();
        let mut note = |key: &'static str, flag: &str, shown: String| given.push((key, format!("{flag} {shown}")));
        macro_rules! take {
            ($($field:ident => $($place:ident).+, $key:literal, $flag:literal;)+) => {
                $(if let Some(value) = &self.$field {
                    note($key, $flag, shown(value));
                    config.$($place).+ = value.clone().into();
                })+
            };
        }
        take! {
            listen => listen, "listen", "--listen";
            admin => admin, "admin", "--admin";
            upstream => upstream, "upstream", "--upstream";
            store => store, "store", "--store";
            scope => scope, "scope", "--scope";
            profile => profile, "profile", "--profile";
            wait => wait, "wait", "--wait";
            lease => lease, "lease", "--lease";
            max_run => max_run, "max_run", "--max-run";
            after_failure => after_failure, "after_failure", "--after-failure";
            no_effect => no_effect, "no_effect", "--no-effect";
            final_statuses => final_statuses, "final", "--final";
            replay_for => replay_for, "replay_for", "--replay-for";
            remember_for => remember_for, "remember_for", "--remember-for";
            upstream_timeout => timeouts.upstream, "timeouts", "--upstream-timeout";
            drain_timeout => timeouts.drain, "timeouts", "--drain-timeout";
            workers => limits.workers, "limits", "--workers";
            tls_cert => tls.cert, "tls", "--tls-cert";
            tls_key => tls.key, "tls", "--tls-key";
            upstream_ca => tls.upstream_ca, "tls", "--upstream-ca";
            jwt_secret_file => jwt.secret_file, "jwt", "--jwt-secret-file";
            jwt_jwks_file => jwt.jwks_file, "jwt", "--jwt-jwks-file";
            jwt_issuer => jwt.issuer, "jwt", "--jwt-issuer";
            jwt_audience => jwt.audience, "jwt", "--jwt-audience";
            log => log.level, "log", "--log";
            log_format => log.format, "log", "--log-format";
        }
        if self.require_key {
            config.require_key = true;
            note("require_key", "--require-key", String::new());
        }
        if let Some(database) = &self.receipts {
            config.receipts.database = Some(database.clone());
            note("receipts", "--receipts", database.to_string());
        }
        if self.receipts_required {
            config.receipts.written = Written::Required;
            note("receipts", "--receipts-required", String::new());
        }
        if self.recovering {
            config.receipts.recovering = true;
            note("receipts", "--recovering", String::new());
        }
        if self.respond_async {
            config.respond_async = true;
            note("respond_async", "--respond-async", String::new());
        }
        if let Some(file) = &self.input_key_file {
            config.input.key_files = vec![file.clone()];
            note("input", "--input-key-file", file.to_string());
        }
        // One longer than the file's maximum was asked for on purpose.
        if let Some(wait) = self.wait
            && wait > config.max_wait
            && config.max_wait == Config::default().max_wait
        {
            config.max_wait = wait;
        }
        given
    }
}

/// A value as it was given, where that is short and no secret.
fn shown(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}
