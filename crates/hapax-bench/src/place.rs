//! A place where a store keeps its records, with what the store's contract does not offer: loading many at once,
//! cutting back, weighing.

mod postgres;
mod sqlite;

use std::path::PathBuf;
use std::sync::Arc;

use hapax::core::Store;
use hapax::store::postgres::PostgresOptions;
use hapax::store::{Clock, PostgresStore, SqliteOptions, SqliteStore};

use crate::error::Result;

pub(crate) use postgres::{connect, server_of, settle};

/// Where.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

/// How old loaded records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Done, their answer kept for a long time.
    Kept,
    /// Done long ago: the sweeper forgets them as soon as it looks.
    Expired,
}

impl Place {
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// As `hapax serve --store` takes it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// The store in this place, with the options that users get.
    pub(crate) async fn open(&self, clock: Clock) -> Result<Arc<dyn Store>> {
        Ok(match self {
            Self::Sqlite(path) => {
                let options = SqliteOptions {
                    clock,
                    ..SqliteOptions::default()
                };
                Arc::new(SqliteStore::open(path, options)?)
            }
            Self::Postgres(url) => {
                let options = PostgresOptions {
                    clock,
                    ..PostgresOptions::default()
                };
                Arc::new(PostgresStore::connect(url, options).await?)
            }
        })
    }

    /// Puts `count` done records there by SQL, past the store, which must be closed. Makes the schema.
    pub(crate) async fn load(&self, count: u64, age: Age) -> Result<()> {
        drop(self.open(Clock::default()).await?);
        match self {
            Self::Sqlite(path) => sqlite::load(path, count, age),
            Self::Postgres(url) => postgres::load(url, count, age).await,
        }
    }

    /// The position of the youngest record.
    pub(crate) async fn last_position(&self) -> Result<i64> {
        self.number(LAST_POSITION).await
    }

    /// Records that are done.
    pub(crate) async fn count_done(&self) -> Result<i64> {
        self.number(&format!("{COUNT} WHERE state = 'done'")).await
    }

    /// Records up to a position.
    pub(crate) async fn count_to(&self, position: i64) -> Result<i64> {
        self.number(&format!("{COUNT} WHERE position <= {position}")).await
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        match self {
            Self::Sqlite(path) => sqlite::number(path, sql),
            Self::Postgres(url) => postgres::number(url, sql).await,
        }
    }

    /// Brings what was loaded to rest, as a database that has been up for a while: what it would do about it later is
    /// no part of what is measured.
    pub(crate) async fn settle(&self) -> Result<()> {
        match self {
            Self::Sqlite(path) => sqlite::settle(path),
            Self::Postgres(url) => postgres::settle(url).await,
        }
    }

    /// Removes what came after a position, and tidies up.
    pub(crate) async fn cut_back(&self, position: i64) -> Result<()> {
        match self {
            Self::Sqlite(path) => sqlite::cut_back(path, position),
            Self::Postgres(url) => postgres::cut_back(url, position).await,
        }
    }

    /// Records, and bytes on disk with indexes (of SQLite: once the store is closed).
    pub(crate) async fn weigh(&self) -> Result<(i64, i64)> {
        match self {
            Self::Sqlite(path) => Ok((
                sqlite::number(path, COUNT)?,
                i64::try_from(std::fs::metadata(path)?.len())?,
            )),
            Self::Postgres(url) => {
                let bytes = postgres::number(url, "SELECT pg_total_relation_size('hapax_record')").await?;
                Ok((postgres::number(url, COUNT).await?, bytes))
            }
        }
    }
}

const LAST_POSITION: &str = "SELECT coalesce(max(position), 0) FROM hapax_record";
const COUNT: &str = "SELECT count(*) FROM hapax_record";

/// Columns of a loaded record: `since`, `look_at`, `replay_for`, `remember_for`, in milliseconds.
fn times(age: Age, number: i64) -> (i64, i64, i64, i64) {
    const THEN: i64 = 1_600_000_000_000;
    const YEARS: i64 = 3_000_000_000_000;
    match age {
        Age::Kept => (THEN + number, THEN + YEARS + number, YEARS, YEARS),
        Age::Expired => (THEN + number, THEN + number, 1, 1),
    }
}
