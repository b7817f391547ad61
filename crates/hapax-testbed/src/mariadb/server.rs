//! A data directory and how to run a server on it.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::guard::{Guard, Owner, Signal};
use crate::programs::{self, Account, command_as, run};
use crate::{Error, Result};

const START_LIMIT: Duration = Duration::from_secs(60);
/// Where temporary tables are. A server that starts removes all that it finds there, others' included, so that servers
/// must not share it.
const TEMPORARY: &str = "TMPDIR";

#[derive(Debug)]
pub(super) struct Server {
    account: Option<Account>,
    program: PathBuf,
    client: PathBuf,
    directory: PathBuf,
}

impl Server {
    /// Makes an empty data directory below `directory`, which exists.
    pub(super) fn create(directory: &Path) -> Result<Self> {
        let server = Self {
            account: Account::for_mariadb()?,
            program: programs::mariadb("mariadbd")?,
            client: programs::mariadb("mariadb")?,
            directory: directory.to_owned(),
        };
        if let Some(Account { user, group }) = server.account {
            chown(directory, Some(user), Some(group))
                .map_err(|source| Error::io(format!("give {} to mysql", directory.display()), source))?;
        }
        let mut install = command_as(server.account, &programs::mariadb("mariadb-install-db")?);
        install.current_dir(directory).arg("--no-defaults");
        install.arg(format!("--datadir={}", server.data().display()));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.env(TEMPORARY, directory);
        run(&mut install)?;
        Ok(server)
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
        let mut server = command_as(self.account, &self.program);
        let place = self.directory.display();
        server.current_dir(&self.directory).arg("--no-defaults");
        server.env(TEMPORARY, &self.directory);
        server.args([
            format!("--datadir={}", self.data().display()),
            format!("--port={port}"),
            // Where two servers would meet if they shared the default.
            format!("--socket={place}/socket"),
            format!("--pid-file={place}/pid"),
        ]);
        server.args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--max-connections=300",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M",
        ]);
        let log = self.directory.join("server.log");
        // Nobody will want the data again.
        let mut guard = Guard::launch(&server, Signal::Kill, &log, Some(leftovers), owner)?;
        guard.wait_until("the start of MariaDB", START_LIMIT, || self.accepts(port))?;
        Ok(guard)
    }

    fn accepts(&self, port: u16) -> Result<bool> {
        Command::new(&self.client)
            .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root"])
            .args([&format!("--port={port}"), "--execute=SELECT 1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map(|status| status.success())
            .map_err(|source| Error::io("run mariadb", source))
    }
}
