//! One server for all tests of a run, whichever process they are in.

use std::env;
use std::path::Path;
use std::sync::OnceLock;

use super::cluster::Cluster;
use super::{Database, Postgres, sql};
use crate::error::or_panic;
use crate::leader::Leader;
use crate::{Error, FreePort, Result, make_directory};

const VARIABLE: &str = "HAPAX_TEST_POSTGRES";

/// The server that the tests of one run share; each takes a
/// [database](SharedPostgres::database) of its own.
///
/// It is the one that `HAPAX_TEST_POSTGRES` names (a URL whose user may create
/// databases). Without that variable the first test to ask starts one, which
/// lives as long as the run's leader: nextest, or cargo under `cargo test`. A
/// test binary run by hand leads itself.
#[derive(Debug)]
pub struct SharedPostgres {
    url: String,
    // Ends with the process, which is when a static goes.
    _own: Option<Postgres>,
}

impl SharedPostgres {
    pub(super) fn get() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<SharedPostgres>> = OnceLock::new();
        SHARED.get_or_init(Self::find).as_ref().map_err(|error| Error::Failed {
            what: "the shared PostgreSQL".to_owned(),
            status: "it could not be had".to_owned(),
            output: error.to_string(),
        })
    }

    fn find() -> Result<Self> {
        if let Some(url) = env::var_os(VARIABLE) {
            let url = url.to_string_lossy().into_owned();
            sql::query(&url, "SELECT 1")?;
            return Ok(Self { url, _own: None });
        }
        match Leader::of_this_run() {
            Some(leader) => Ok(Self {
                url: meet(&leader)?,
                _own: None,
            }),
            None => {
                let own = Postgres::options().try_start()?;
                Ok(Self {
                    url: own.url(),
                    _own: Some(own),
                })
            }
        }
    }

    /// The URL of the server's maintenance database. Tests take a
    /// [database](SharedPostgres::database) instead.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates an empty database that is the caller's alone, until dropped.
    /// Panics when that fails.
    #[track_caller]
    pub fn database(&self) -> Database {
        or_panic(self.try_database())
    }

    /// Creates an empty database that is the caller's alone, until dropped.
    pub fn try_database(&self) -> Result<Database> {
        Database::create(&self.url)
    }
}

/// The URL of the leader's server, which is started if this process is the
/// first to ask.
fn meet(leader: &Leader) -> Result<String> {
    leader.meet("postgres", |url| sql::query(url, "SELECT 1").is_ok(), start_for)
}

fn start_for(leader: &Leader, place: &Path) -> Result<String> {
    let directory = place.join(format!("postgres-{}", std::process::id()));
    make_directory(&directory)?;
    let cluster = Cluster::create(&directory, &Postgres::options())?;
    let port = FreePort::try_take()?;
    cluster.start(port.number(), &leader.owner(), place)?;
    Ok(sql::url(port.number()))
}
