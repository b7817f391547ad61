//! A data directory and how to run a server on it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::PostgresOptions;
use crate::guard::{Guard, Owner, Signal};
use crate::programs::{self, Account, command_as, run};
use crate::{Error, Result};

const START_LIMIT: Duration = Duration::from_secs(60);

/// The programs that a server needs.
#[derive(Debug)]
pub(super) struct Binaries {
    initdb: PathBuf,
    postgres: PathBuf,
    pg_isready: PathBuf,
}

impl Binaries {
    pub(super) fn find() -> Result<Self> {
        Account::for_postgres()?;
        programs::postgres("psql")?;
        Ok(Self {
            initdb: programs::postgres("initdb")?,
            postgres: programs::postgres("postgres")?,
            pg_isready: programs::postgres("pg_isready")?,
        })
    }
}

#[derive(Debug)]
pub(super) struct Cluster {
    binaries: Binaries,
    account: Option<Account>,
    directory: PathBuf,
    settings: Vec<(String, String)>,
}

impl Cluster {
    /// Makes an empty cluster below `directory`, which exists.
    pub(super) fn create(directory: &Path, options: &PostgresOptions) -> Result<Self> {
        let account = Account::for_postgres()?;
        let cluster = Self {
            binaries: Binaries::find()?,
            account,
            directory: directory.to_owned(),
            settings: settings(options),
        };
        if let Some(Account { user, group }) = account {
            chown(directory, Some(user), Some(group))
                .map_err(|source| Error::io(format!("give {} to postgres", directory.display()), source))?;
        }
        let mut initdb = command_as(account, &cluster.binaries.initdb);
        initdb.current_dir(directory).arg("--pgdata").arg(cluster.data());
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync"]);
        initdb.args(["--locale=C", "--encoding=UTF8", "--no-instructions"]);
        run(&mut initdb)?;
        Ok(cluster)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Runs a server, and returns when it accepts connections. It ends when
    /// the owner does; then `leftovers` is removed.
    pub(super) fn start(&self, port: u16, owner: &Owner, leftovers: &Path) -> Result<Guard> {
        let mut server = command_as(self.account, &self.binaries.postgres);
        server.current_dir(&self.directory).arg("-D").arg(self.data());
        server.args([OsStr::new("-p"), OsStr::new(&port.to_string())]);
        for (name, value) in &self.settings {
            server.args(["-c", &format!("{name}={value}")]);
        }
        let log = self.directory.join("server.log");
        // Quit = shut down at once: nobody will want the data again.
        let mut guard = Guard::launch(&server, Signal::Quit, &log, Some(leftovers), owner)?;
        guard.wait_until("the start of PostgreSQL", START_LIMIT, || self.accepts(port))?;
        Ok(guard)
    }

    fn accepts(&self, port: u16) -> Result<bool> {
        Command::new(&self.binaries.pg_isready)
            .args([
                "--host=127.0.0.1",
                "--username=postgres",
                "--dbname=postgres",
                "--timeout=1",
            ])
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map(|status| status.success())
            .map_err(|source| Error::io("run pg_isready", source))
    }

    /// The segment of System V shared memory of a server that could not
    /// remove it. A server that ended in good order removed the file too.
    pub(super) fn left_segment(&self) -> Option<String> {
        let lock = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let segment = lock.lines().nth(6)?.split_whitespace().nth(1)?;
        Some(segment.to_owned())
    }
}

fn settings(options: &PostgresOptions) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("max_connections", "300"),
        ("fsync", if options.fsync { "on" } else { "off" }),
        // In the data directory, so that a killed server leaves nothing elsewhere.
        ("dynamic_shared_memory_type", "mmap"),
        // Test databases come and go; waiting for a spread checkpoint is idle time.
        ("checkpoint_completion_target", "0.1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    settings.extend(options.settings.iter().cloned());
    settings
}
