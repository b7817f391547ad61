//! One server for all tests of a run, whichever process they are in.

use std::path::Path;
use std::sync::OnceLock;

use super::server::Server;
use super::{MariaDatabase, MariaDb, sql};
use crate::error::or_panic;
use crate::leader::Leader;
use crate::{Error, FreePort, Result, make_directory};

/// The server that the tests of one run share; each takes a
/// [database](SharedMariaDb::database) of its own. The first test to ask
/// starts it, and it lives as long as the run's leader: nextest, or cargo under
/// `cargo test`. A test binary run by hand leads itself.
#[derive(Debug)]
pub struct SharedMariaDb {
    url: String,
    // Ends with the process, which is when a static goes.
    _own: Option<MariaDb>,
}

impl SharedMariaDb {
    pub(super) fn get() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<SharedMariaDb>> = OnceLock::new();
        SHARED.get_or_init(Self::find).as_ref().map_err(|error| Error::Failed {
            what: "the shared MariaDB".to_owned(),
            status: "it could not be had".to_owned(),
            output: error.to_string(),
        })
    }

    fn find() -> Result<Self> {
        let (url, own) = match Leader::of_this_run() {
            Some(leader) => {
                let answers = |url: &str| sql::query(url, "SELECT 1").is_ok();
                (leader.meet("mariadb", answers, start_for)?, None)
            }
            None => {
                let own = MariaDb::try_start()?;
                (own.url(), Some(own))
            }
        };
        Ok(Self { url, _own: own })
    }

    /// Creates an empty database that is the caller's alone, until dropped.
    /// Panics when that fails.
    #[track_caller]
    pub fn database(&self) -> MariaDatabase {
        or_panic(MariaDatabase::create(&self.url))
    }
}

fn start_for(leader: &Leader, place: &Path) -> Result<String> {
    let directory = place.join(format!("mariadb-{}", std::process::id()));
    make_directory(&directory)?;
    let server = Server::create(&directory)?;
    let port = FreePort::try_take()?;
    server.start(port.number(), &leader.owner(), place)?;
    Ok(sql::url(port.number(), "mysql"))
}
