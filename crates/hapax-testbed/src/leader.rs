//! The process that runs all tests of a run, on whose life shared servers hang.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};

use crate::guard::Owner;
use crate::{Error, Result, make_directory, meeting_place};

/// The process that runs all tests of a run: nextest, or cargo under `cargo
/// test`. The start time tells it from a later process with the same id.
pub(crate) struct Leader {
    id: u32,
    start: u64,
}

impl Leader {
    pub(crate) fn of_this_run() -> Option<Self> {
        let id = parent_id();
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        let leads = env::var_os("NEXTEST_RUN_ID").is_some() || name.trim_end() == "cargo";
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name, in brackets, may hold anything; the start time is the
        // 20th field after it.
        let start = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
        leads.then_some(Self { id, start })
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner::Process {
            id: self.id,
            start: self.start,
        }
    }

    /// The URL of the run's server of a kind. If this process is the first to
    /// ask, `start` starts it in the directory that it is given.
    pub(crate) fn meet(
        &self,
        kind: &str,
        answers: impl Fn(&str) -> bool,
        start: impl FnOnce(&Self, &Path) -> Result<String>,
    ) -> Result<String> {
        let place = meeting_place()?.join(format!("run-{}-{}-{kind}", self.id, self.start));
        make_directory(&place)?;
        let _lock = lock(&place.join("lock"))?;
        let note = place.join("url");
        if let Ok(url) = fs::read_to_string(&note)
            && answers(&url)
        {
            return Ok(url);
        }
        let url = start(self, &place)?;
        fs::write(&note, &url).map_err(|source| Error::io(format!("write {}", note.display()), source))?;
        Ok(url)
    }
}

fn lock(path: &PathBuf) -> Result<File> {
    File::create(path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|source| Error::io(format!("lock {}", path.display()), source))
}
