//! Where the database is and how to speak with it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::{StoreError, StoreErrorKind};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::clock::Clock;

/// What a URL does not say.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Connections that carry claims, renewals and finishes in batches. Five more are opened when needed: for reads, for
    /// lists and corrections, two for runners, for the sweeper.
    pub connections: usize,
    /// Use prepared statements and session settings. `false` (or `prepare=false` in the URL) works through any pooler
    /// in transaction mode, at the price of planning each statement again.
    pub prepare: bool,
    /// Bring an older (or no) schema up to date when connecting; otherwise it is refused.
    pub migrate: bool,
    /// Refuse a server that loses acknowledged commits in a crash (`fsync` or `synchronous_commit` off); otherwise
    /// warn.
    pub require_durable: bool,
    /// The longest time that a statement may take.
    pub statement_timeout: Duration,
    /// The longest time that a statement may wait for another transaction's lock. Ignored without `prepare`.
    pub lock_timeout: Duration,
    /// Guards the database's clock, or replaces it in tests.
    pub clock: Clock,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections: 2,
            prepare: true,
            migrate: true,
            require_durable: true,
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            clock: Clock::default(),
        }
    }
}

/// A database that connections can be opened to.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: Option<MakeRustlsConnect>,
    /// Host and database for messages; never the password.
    pub(super) label: String,
    pub(super) prepare: bool,
    pub(super) require_durable: bool,
    pub(super) statement_timeout: Duration,
}

impl Target {
    pub(super) fn new(url: &str, options: &PostgresOptions) -> Result<Self, StoreError> {
        let (url, ours) = take_ours(url)?;
        // The parser's errors name options, never values.
        let mut config: Config = url
            .parse()
            .map_err(|e: tokio_postgres::Error| invalid("the database URL cannot be read").caused_by(e))?;
        let label = label(&config);
        let tls = choose_tls(&mut config, ours.root_cert.as_deref(), &label)?;
        let prepare = options.prepare && ours.prepare;
        if prepare {
            config.options(session_settings(&config, options));
        }
        if config.get_application_name().is_none() {
            config.application_name("hapax");
        }
        config.connect_timeout(config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(5)));
        config.keepalives_idle(Duration::from_secs(30));
        Ok(Self {
            config,
            tls,
            label,
            prepare,
            require_durable: options.require_durable,
            statement_timeout: options.statement_timeout,
        })
    }
}

/// Statements join a handful of given ids to an index, whatever the size of the table: a plan made while it was empty
/// must be that one too, so the others are ruled out, and planning happens once a connection. Queues are read in the
/// order of their index, of which only the beginning is needed: no bitmaps.
fn session_settings(config: &Config, options: &PostgresOptions) -> String {
    format!(
        "{} -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={} \
         -c default_transaction_isolation=read\\ committed -c plan_cache_mode=force_generic_plan \
         -c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off",
        config.get_options().unwrap_or_default(),
        options.statement_timeout.as_millis(),
        options.lock_timeout.as_millis(),
        options.statement_timeout.as_millis(),
    )
}

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, message)
}

struct Ours {
    prepare: bool,
    root_cert: Option<String>,
}

/// Takes the parameters out of the URL that the driver does not know.
fn take_ours(url: &str) -> Result<(String, Ours), StoreError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(invalid(
            "the database URL is not of PostgreSQL: write postgres://user:password@host:5432/database",
        ));
    }
    let mut ours = Ours {
        prepare: true,
        root_cert: None,
    };
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), ours));
    };
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("prepare", "true")) => {}
            Some(("prepare", "false")) => ours.prepare = false,
            Some(("prepare", _)) => return Err(invalid("prepare in the database URL must be true or false")),
            Some(("sslrootcert", "system")) => {}
            Some(("sslrootcert", path)) => ours.root_cert = Some(path.replace("%2F", "/").replace("%2f", "/")),
            // Certificates are verified in any case.
            Some(("sslmode", "verify-full" | "verify-ca")) => rest.push("sslmode=require"),
            _ => rest.push(pair),
        }
    }
    let url = if rest.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", rest.join("&"))
    };
    Ok((url, ours))
}

/// TLS for what leaves the machine, unless the URL says `sslmode=disable`.
fn choose_tls(
    config: &mut Config,
    root_cert: Option<&str>,
    label: &str,
) -> Result<Option<MakeRustlsConnect>, StoreError> {
    match config.get_ssl_mode() {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer if stays_here(config) => {
            config.ssl_mode(SslMode::Disable);
            return Ok(None);
        }
        _ => {
            config.ssl_mode(SslMode::Require);
        }
    }
    let mut roots = rustls::RootCertStore::empty();
    match root_cert {
        Some(path) => {
            let unusable = |e: &dyn std::fmt::Display| invalid(format!("sslrootcert {path} cannot be used: {e}"));
            for cert in CertificateDer::pem_file_iter(path).map_err(|e| unusable(&e))? {
                roots.add(cert.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(invalid(format!(
            "there is no certificate to verify {label} with: install the system's CA certificates, write \
             sslrootcert=FILE in the URL, or sslmode=disable to go without TLS"
        )));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid("TLS cannot be set up").caused_by(e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(tls)))
}

/// Whether every host is this machine.
fn stays_here(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

fn label(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let hosts: Vec<_> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(index)),
            #[cfg(unix)]
            Host::Unix(path) => format!("{} (port {})", path.display(), port(index)),
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("(default)");
    format!("PostgreSQL database {database:?} at {}", hosts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, StoreError> {
        Target::new(url, &PostgresOptions::default())
    }

    #[test]
    fn only_what_leaves_the_machine_needs_tls() {
        for (url, mode) in [
            ("postgres://u:p@localhost/d", SslMode::Disable),
            ("postgres://u:p@127.0.0.2:1/d", SslMode::Disable),
            ("postgres://u@%2Ftmp%2Fx/d", SslMode::Disable),
            ("postgresql://u@db.example/d?sslmode=disable", SslMode::Disable),
            ("postgres://u@db.example/d?hostaddr=127.0.0.1", SslMode::Disable),
        ] {
            assert_eq!(target(url).map(|t| t.config.get_ssl_mode()).unwrap(), mode, "{url}");
        }
        let pem = tempfile_with(
            &rcgen::generate_simple_self_signed(["ca".to_owned()])
                .unwrap()
                .cert
                .pem(),
        );
        for url in [
            "postgres://u@db.example/d",
            "postgres://u@localhost,db.example/d",
            "postgres://u@localhost/d?hostaddr=10.0.0.1",
            "postgres://u@db.example/d?sslmode=prefer",
            "postgres://u@localhost/d?sslmode=verify-full",
        ] {
            let separator = if url.contains('?') { '&' } else { '?' };
            let url = format!("{url}{separator}sslrootcert={}", pem.path().display());
            let target = target(&url).unwrap();
            assert_eq!(target.config.get_ssl_mode(), SslMode::Require, "{url}");
            assert!(target.tls.is_some(), "{url}");
        }
    }

    fn tempfile_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn messages_never_show_the_password() {
        for url in [
            "mysql://u:s3cret@h/d",
            "postgres://u:s3cret@h/d?prepare=maybe",
            "postgres://u:s3cret@h/d?nonsense=1",
            "postgres://u:s3cret@h:port/d",
            "postgres://u:s3cret@h/d?sslrootcert=/nowhere/at/all",
        ] {
            let error = target(url).err().unwrap();
            assert_eq!(error.kind(), StoreErrorKind::Invalid, "{url}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
        let target = target("postgres://u:s3cret@localhost:99/d?prepare=false").unwrap();
        assert_eq!(target.label, "PostgreSQL database \"d\" at localhost:99");
        assert!(!target.prepare);
        assert!(
            target.config.get_options().is_none(),
            "a pooler refuses session settings"
        );
    }
}
