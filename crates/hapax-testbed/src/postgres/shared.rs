//! One server for all tests of a run, whichever process they are in.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::cluster::Cluster;
use super::{Database, Postgres, sql};
use crate::error::or_panic;
use crate::guard::Owner;
use crate::{Error, FreePort, Result, make_directory, meeting_place};

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

/// The process that runs all tests of a run. The start time tells it from a
/// later process with the same id.
struct Leader {
    id: u32,
    start: u64,
}

impl Leader {
    fn of_this_run() -> Option<Self> {
        let id = parent_id();
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        let leads = env::var_os("NEXTEST_RUN_ID").is_some() || name.trim_end() == "cargo";
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name, in brackets, may hold anything; the start time is the
        // 20th field after it.
        let start = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
        leads.then_some(Self { id, start })
    }
}

/// The URL of the leader's server, which is started if this process is the
/// first to ask.
fn meet(leader: &Leader) -> Result<String> {
    let place = meeting_place()?.join(format!("run-{}-{}", leader.id, leader.start));
    make_directory(&place)?;
    let _lock = lock(&place.join("lock"))?;
    let note = place.join("url");
    if let Ok(url) = fs::read_to_string(&note)
        && sql::query(&url, "SELECT 1").is_ok()
    {
        return Ok(url);
    }
    let url = start_for(leader, &place)?;
    fs::write(&note, &url).map_err(|source| Error::io(format!("write {}", note.display()), source))?;
    Ok(url)
}

fn lock(path: &PathBuf) -> Result<File> {
    File::create(path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|source| Error::io(format!("lock {}", path.display()), source))
}

fn start_for(leader: &Leader, place: &Path) -> Result<String> {
    let directory = place.join(format!("postgres-{}", std::process::id()));
    make_directory(&directory)?;
    let cluster = Cluster::create(&directory, &Postgres::options())?;
    let port = FreePort::try_take()?;
    let owner = Owner::Process {
        id: leader.id,
        start: leader.start,
    };
    cluster.start(port.number(), &owner, place)?;
    Ok(sql::url(port.number()))
}
