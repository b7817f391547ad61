//! The store behind a URL.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hapax::core::{Store, StoreError, StoreErrorKind};
use hapax::store::postgres::PostgresOptions;
use hapax::store::sqlite::SqliteOptions;
use hapax::store::{Clock, MemoryStore, PostgresStore, SqliteStore};

use crate::config::values::StoreUrl;
use crate::exit::{Exit, Failure};
use crate::migrate;

/// Opens the store, making it or bringing its schema up to date where need be. Must be called in a runtime that lives
/// as long as the store.
///
/// # Errors
/// The store's, which says what failed, where, and what to do.
pub(crate) async fn open(url: &StoreUrl, max_clock_step: Duration) -> Result<Arc<dyn Store>, StoreError> {
    let clock = Clock::system(max_clock_step);
    Ok(match url {
        StoreUrl::Sqlite(path) => {
            let options = SqliteOptions {
                clock,
                ..SqliteOptions::default()
            };
            Arc::new(SqliteStore::open(path, options)?)
        }
        StoreUrl::Postgres(url) => {
            let options = PostgresOptions {
                clock,
                ..PostgresOptions::default()
            };
            Arc::new(PostgresStore::connect(url, options).await?)
        }
        StoreUrl::Memory => Arc::new(MemoryStore::new(clock, random_secret()?)),
    })
}

/// Opens a store that must be there already, for a look at it: makes nothing and migrates nothing.
///
/// # Errors
/// If there is none, or its schema is not this program's.
pub(crate) async fn open_existing(url: &StoreUrl) -> Result<Arc<dyn Store>, Failure> {
    match url {
        StoreUrl::Memory => {
            let message = "a memory: store lives in the gateway's process only; give sqlite:FILE or postgres://…";
            return Err(Failure::new(Exit::Usage, message));
        }
        StoreUrl::Sqlite(path) => must_exist(path)?,
        StoreUrl::Postgres(_) => {}
    }
    if let Some(missing) = migrate::statuses(url)
        .await?
        .iter()
        .find(|line| line.applied_at.is_none())
    {
        let message = format!(
            "{url} lacks migration {} ({}); run: hapax migrate --store {url}",
            missing.version, missing.name
        );
        return Err(Failure::new(Exit::Unreachable, message));
    }
    Ok(open(url, Clock::DEFAULT_MAX_STEP).await?)
}

/// Refuses a path without a file, which SQLite would make.
///
/// # Errors
/// If there is no file.
pub(crate) fn must_exist(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    let message = format!(
        "there is no store at {}; give the one of the gateway with --store sqlite:FILE, or HAPAX_STORE",
        path.display()
    );
    Err(Failure::new(Exit::Unreachable, message))
}

fn random_secret() -> Result<[u8; 32], StoreError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| {
        StoreError::new(StoreErrorKind::Unavailable, "the system gave no random bytes").caused_by(error)
    })?;
    Ok(secret)
}

/// A runtime for a command that does one thing.
///
/// # Errors
/// If the system refuses it.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot start a runtime: {error}")))
}
