//! What a crash test runs on: the shop, a store, and gateways that are started again and again on the same port.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hapax::core::Store;
use hapax::failpoint::Failpoint;
use hapax::store::postgres::{PostgresOptions, PostgresStore};
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use hapax_testbed::{Database, FreePort, Postgres};
use rustix::process::Signal;
use tempfile::{NamedTempFile, TempDir};

use super::client::SCOPE;
use crate::support::{Gateway, PATIENCE, Process, ShopServer, program, sqlite};

/// Short, so that what a kill left behind ends soon; long enough for a heartbeat on a busy machine.
pub(super) const LEASE: Duration = Duration::from_millis(500);

/// Operations that a gateway's runner has in flight at the most.
pub(super) const RUNS: u64 = 16;

/// What has no flag. What other processes left is looked for more often than leases end.
const CONFIG: &str = "\
respond_async = true
[runner]
concurrency = 16
poll = '100ms'
";

/// What a lapsed claim becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Hold,
    Retry,
}

/// Where records live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreKind {
    Sqlite,
    Postgres,
}

enum StoreHome {
    Sqlite(TempDir),
    Postgres(Database),
}

pub(super) struct Rig {
    pub(super) shop: ShopServer,
    pub(super) mode: Mode,
    home: StoreHome,
    config: NamedTempFile,
}

impl Rig {
    pub(super) fn new(kind: StoreKind, mode: Mode) -> Self {
        Self::configured(kind, mode, "")
    }

    /// One whose gateways' configuration says more.
    pub(super) fn configured(kind: StoreKind, mode: Mode, more: &str) -> Self {
        let home = match kind {
            StoreKind::Sqlite => StoreHome::Sqlite(tempfile::tempdir().unwrap()),
            StoreKind::Postgres => StoreHome::Postgres(Postgres::shared().database()),
        };
        let mut config = NamedTempFile::new().unwrap();
        write!(config, "{CONFIG}{more}").unwrap();
        Self {
            shop: ShopServer::start(),
            mode,
            home,
            config,
        }
    }

    /// What the records are, looked at beside the gateway.
    pub(super) async fn store(&self) -> Arc<dyn Store> {
        match &self.home {
            StoreHome::Sqlite(directory) => {
                let file = directory.path().join("hapax.db");
                Arc::new(SqliteStore::open(file, SqliteOptions::default()).unwrap())
            }
            StoreHome::Postgres(database) => {
                let options = PostgresOptions::default();
                Arc::new(PostgresStore::connect(database.url(), options).await.unwrap())
            }
        }
    }

    /// A gateway before the shop, killed at the `n`th hit of a failpoint if one is given.
    pub(super) fn gateway(&self, port: &FreePort, failpoint: Option<(Failpoint, u64)>) -> Gateway {
        start(armed(failpoint), &self.arguments(port, self.shop.addr))
    }

    /// A gateway before another backend.
    pub(super) fn gateway_before(&self, port: &FreePort, backend: SocketAddr) -> Gateway {
        start(armed(None), &self.arguments(port, backend))
    }

    /// A gateway that is still starting.
    pub(super) fn starting(&self, port: &FreePort) -> Process {
        let arguments = self.arguments(port, self.shop.addr);
        Process::spawn(armed(None).args(["serve", "--with-parent"]).args(arguments))
    }

    pub(super) fn store_url(&self) -> String {
        match &self.home {
            StoreHome::Sqlite(directory) => sqlite(directory.path()),
            StoreHome::Postgres(database) => database.url().to_owned(),
        }
    }

    fn arguments(&self, port: &FreePort, backend: SocketAddr) -> Vec<String> {
        let mode = match self.mode {
            Mode::Hold => "hold",
            Mode::Retry => "retry",
        };
        let lease = format!("{}ms", LEASE.as_millis());
        [
            ("--listen", port.address().to_string()),
            ("--upstream", format!("http://{backend}")),
            ("--store", self.store_url()),
            ("--scope", format!("header:{SCOPE}")),
            ("--after-failure", mode.to_owned()),
            ("--lease", lease),
            ("--wait", "100ms".to_owned()),
            ("--config", self.config.path().display().to_string()),
            ("--log", "error".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }
}

fn armed(failpoint: Option<(Failpoint, u64)>) -> Command {
    let mut command = program();
    if let Some((failpoint, hits)) = failpoint {
        command.env("HAPAX_FAILPOINT", format!("{}:{hits}", failpoint.name()));
    }
    command
}

fn start(command: Command, arguments: &[String]) -> Gateway {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Gateway::start_with(command, &arguments)
}

/// Waits until a process has ended by itself; `None` if it does not.
pub(super) fn ended(process: &mut Process) -> Option<ExitStatus> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if process.child.try_wait().unwrap().is_some() {
            // Now it does not take long, and all that it wrote is there.
            return Some(process.wait());
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Asserts that a process was killed, and that it had not complained before.
#[track_caller]
pub(super) fn assert_killed(process: &Process, status: ExitStatus) {
    let killed = Some(Signal::KILL.as_raw());
    assert_eq!(
        status.signal(),
        killed,
        "it ended otherwise, {status}: {}",
        process.log()
    );
    assert!(!process.log().contains("panicked"), "{}", process.log());
}

/// SplitMix64: chance enough for a plan, the same for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`.
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    pub(super) fn millis(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.roll(below))
    }
}
