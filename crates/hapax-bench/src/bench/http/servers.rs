//! The upstream and the gateway, as processes of their own that end with this one.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use hapax_testbed::{FreePort, Guard, Signal};

use crate::bench::World;
use crate::error::Result;
use crate::options::Options;
use crate::place::Place;

const START_LIMIT: Duration = Duration::from_secs(30);

/// The server that does the work.
pub(crate) struct Upstream(Server);

impl Upstream {
    pub(crate) fn start(world: &World) -> Result<Self> {
        let port = FreePort::try_take()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["upstream", &port.address().to_string()]);
        Ok(Self(Server::start(command, port, world)?))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.port.address()
    }
}

/// `hapax serve` before an upstream.
pub(crate) struct Gateway(Server);

impl Gateway {
    pub(crate) async fn start(options: &Options, world: &World, upstream: &Upstream, place: &Place) -> Result<Self> {
        Self::before(options, world, upstream.address(), place, &[]).await
    }

    /// Before any address, with further arguments.
    pub(crate) async fn before(
        options: &Options,
        world: &World,
        upstream: SocketAddr,
        place: &Place,
        arguments: &[&str],
    ) -> Result<Self> {
        if !options.server.is_file() {
            let shown = options.server.display();
            return Err(
                format!("there is no {shown}: build it (`cargo build -p hapax-server`), or give --server").into(),
            );
        }
        let port = FreePort::try_take()?;
        let mut command = Command::new(&options.server);
        command.args(["serve", "--scope", "none", "--log", "warn"]);
        command.args(["--listen", &port.address().to_string()]);
        command.args(["--upstream", &format!("http://{upstream}")]);
        command.args(["--store", &place.url()]);
        command.args(arguments);
        command.current_dir(world.files.path());
        Ok(Self(Server::start(command, port, world)?))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.port.address()
    }

    pub(crate) fn process(&self) -> u32 {
        self.0.guard.id()
    }
}

struct Server {
    guard: Guard,
    port: FreePort,
}

impl Server {
    fn start(command: Command, port: FreePort, world: &World) -> Result<Self> {
        let log = world.files.path().join(format!("{}.log", port.number()));
        let mut guard = Guard::spawn(&command, Signal::Terminate, &log)?;
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(port.address()).is_err() {
            let ended = guard.ended();
            if ended.is_some() || Instant::now() > deadline {
                let shown = command.get_program().display();
                let why = std::fs::read_to_string(&log).unwrap_or_default();
                let end = ended.map_or("does not listen".to_owned(), |status| format!("ended with {status}"));
                return Err(format!("{shown} {end}: {why}").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { guard, port })
    }
}
