//! RabbitMQ.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use std::{net::TcpStream, path::Path};

use super::{Broker, Kind, Login, Place, SharedBroker, ask, url};
use crate::error::or_panic;
use crate::guard::{Guard, Owner, Signal};
use crate::programs::{self, Account, command_as, in_path};
use crate::{Error, FreePort, Result};

const HINT: &str = "`apt-get install rabbitmq-server` (or `cargo xtask setup`)";
const DEBIAN: &str = "/usr/lib/rabbitmq/bin";
const EPMD_LIMIT: Duration = Duration::from_secs(20);

/// A RabbitMQ node of its own, without plugins, whose durable queues survive restarts; quorum queues work. Its user
/// `guest` has the password `guest` and the virtual host `/`.
///
/// It takes seconds to start: a test that neither kills nor reconfigures it takes the [shared](Broker::shared) one.
pub type RabbitMq = Broker<RabbitMqServer>;

/// What is RabbitMQ's own of [`RabbitMq`].
#[derive(Debug)]
pub struct RabbitMqServer {
    account: Option<Account>,
    programs: PathBuf,
    epmd: PathBuf,
    /// For the daemon that knows which node has which port, which is this node's alone: a shared one would be started
    /// by whoever comes first, and stay.
    epmd_port: FreePort,
    /// Where other nodes and the tools find this one.
    node_port: FreePort,
}

impl RabbitMq {
    /// Has the server write down which quorum queues there are. By itself it does so seconds after a declaration that it
    /// has confirmed: killed before that, it comes back with a queue that has lost its messages and that hangs whoever
    /// asks for one. To be called between declaring and killing; messages need no such thing. It takes a second or two.
    /// Panics when that fails.
    #[track_caller]
    pub fn flush(&self) {
        self.ctl(&["eval", "[ok = dets:sync(Table) || Table <- dets:all()]."]);
    }

    /// Runs `rabbitmqctl` against the server and gives what it prints. It takes a second or two. Panics when that fails.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut ctl = self.kind.program("rabbitmqctl", &self.place);
        ctl.current_dir(&self.place.directory).arg("--quiet").args(arguments);
        or_panic(programs::run(&mut ctl))
    }
}

impl Kind for RabbitMqServer {
    const NAME: &'static str = "RabbitMQ";

    fn find() -> Result<Self> {
        Ok(Self {
            account: Account::of("rabbitmq", "RabbitMQ", HINT)?,
            programs: find_programs()?,
            epmd: in_path("epmd").ok_or_else(|| missing("epmd", "not in PATH"))?,
            epmd_port: FreePort::try_take()?,
            node_port: FreePort::try_take()?,
        })
    }

    fn account(&self) -> Option<Account> {
        self.account
    }

    fn prepare(&self, place: &Place, owner: &Owner) -> Result<Vec<Guard>> {
        write(&place.file("rabbitmq.conf"), &configuration(place))?;
        write(&place.file("enabled_plugins"), "[].\n")?;
        // In the foreground: what the server starts by itself would outlive it.
        let mut epmd = command_as(self.account, &self.epmd);
        epmd.current_dir(&place.directory);
        epmd.args(["-address", "127.0.0.1", "-port", &self.epmd_port.number().to_string()]);
        let mut guard = Guard::launch(&epmd, Signal::Kill, &place.file("epmd.log"), None, owner)?;
        guard.wait_until("the start of epmd", EPMD_LIMIT, || {
            Ok(TcpStream::connect(self.epmd_port.address()).is_ok())
        })?;
        Ok(vec![guard])
    }

    fn command(&self, place: &Place) -> Command {
        self.program("rabbitmq-server", place)
    }

    /// It listens when all else is up. The answer is a frame with the method "connection, start".
    fn answers(place: &Place) -> io::Result<bool> {
        const START: [u8; 4] = [0, 10, 0, 10];
        let answer = ask(place, b"AMQP\x00\x00\x09\x01", |answer| answer.len() >= 11)?;
        Ok(answer[7..11] == START)
    }

    fn url(port: u16, _: Option<&Login>) -> String {
        let guest = Login {
            user: "guest".to_owned(),
            password: "guest".to_owned(),
        };
        url("amqp", port, Some(&guest)) + "/%2f"
    }

    fn check() -> Result<()> {
        Account::of("rabbitmq", "RabbitMQ", HINT)?;
        in_path("epmd").ok_or_else(|| missing("epmd", "not in PATH"))?;
        find_programs().map(|_| ())
    }

    fn shared() -> &'static OnceLock<Result<SharedBroker<Self>>> {
        static SHARED: OnceLock<Result<SharedBroker<RabbitMqServer>>> = OnceLock::new();
        &SHARED
    }
}

impl RabbitMqServer {
    /// One of RabbitMQ's programs, for the node at `place`; all that it reads and writes is there.
    fn program(&self, name: &str, place: &Place) -> Command {
        let mut program = command_as(self.account, &self.programs.join(name));
        // Its secret is in HOME.
        program.env("HOME", &place.directory);
        for (variable, file) in [
            ("RABBITMQ_CONF_ENV_FILE", "rabbitmq-env.conf"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_MNESIA_BASE", "data"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_SCHEMA_DIR", "schema"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "config"),
            ("RABBITMQ_PID_FILE", "pid"),
        ] {
            program.env(variable, place.file(file));
        }
        program.env("RABBITMQ_NODENAME", format!("hapax-{}@localhost", place.port));
        program.env("RABBITMQ_DIST_PORT", self.node_port.number().to_string());
        program.env("ERL_EPMD_PORT", self.epmd_port.number().to_string());
        program.env("RABBITMQ_CTL_ERL_ARGS", "-start_epmd false");
        program.env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        );
        // Standard output.
        program.env("RABBITMQ_LOGS", "-");
        // The script replaces itself by the server.
        program.env("RUNNING_UNDER_SYSTEMD", "true");
        program.env_remove("NOTIFY_SOCKET");
        program
    }
}

/// Debian's programs in PATH are wrappers that know the system's own server only.
fn find_programs() -> Result<PathBuf> {
    let in_path = in_path("rabbitmq-server").and_then(|file| fs::canonicalize(file).ok());
    let beside = in_path.and_then(|file| file.parent().map(Path::to_owned));
    std::iter::once(PathBuf::from(DEBIAN))
        .chain(beside)
        .find(|place| place.join("rabbitmq-server").is_file())
        .ok_or_else(|| missing("rabbitmq-server", &format!("not in {DEBIAN}, not in PATH")))
}

fn missing(program: &str, searched: &str) -> Error {
    Error::Missing {
        program: format!("RabbitMQ (`{program}`)"),
        searched: searched.to_owned(),
        install: HINT.to_owned(),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(|source| Error::io(format!("write {}", file.display()), source))
}

fn configuration(place: &Place) -> String {
    let address = place.address();
    format!(
        "\
listeners.tcp.1 = {address}
log.console.level = info
# A full disk would stop publishers, and hang a test.
disk_free_limit.absolute = 1MB
"
    )
}
