//! Redis.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{Broker, Kind, Login, Place, SharedBroker, TakesLogin, ask, contains, url};
use crate::guard::{Guard, Owner};
use crate::programs::in_path;
use crate::{Error, Result};

/// A Redis that flushes every command to its file before it answers, so that restarts lose nothing. It takes everybody,
/// or who is named at its start (who may do everything; `default` may nothing then, unless it is the one named).
pub type Redis = Broker<RedisServer>;

/// What is Redis's own of [`Redis`].
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
}

impl TakesLogin for RedisServer {}

impl Kind for RedisServer {
    const NAME: &'static str = "Redis";

    fn find() -> Result<Self> {
        in_path("redis-server")
            .map(|program| Self { program })
            .ok_or_else(|| Error::Missing {
                program: "Redis (`redis-server`)".to_owned(),
                searched: "not in PATH".to_owned(),
                install: "`apt-get install redis-server` (or `cargo xtask setup`)".to_owned(),
            })
    }

    fn prepare(&self, place: &Place, _: &Owner) -> Result<Vec<Guard>> {
        let file = place.file("redis.conf");
        fs::write(&file, configuration(place))
            .map(|()| Vec::new())
            .map_err(|source| Error::io(format!("write {}", file.display()), source))
    }

    fn command(&self, place: &Place) -> Command {
        let mut server = Command::new(&self.program);
        server.arg(place.file("redis.conf"));
        server
    }

    /// While it reads its file it answers that it is loading.
    fn answers(place: &Place) -> io::Result<bool> {
        let login = place.login.as_ref().map_or(String::new(), |Login { user, password }| {
            format!("AUTH {user} {password}\r\n")
        });
        let is_last = |answer: &[u8]| contains(answer, b"+PONG\r\n") || contains(answer, b"-");
        let answer = ask(place, format!("{login}PING\r\n").as_bytes(), is_last)?;
        Ok(answer.ends_with(b"+PONG\r\n"))
    }

    fn url(port: u16, login: Option<&Login>) -> String {
        url("redis", port, login)
    }

    fn shared() -> &'static OnceLock<Result<SharedBroker<Self>>> {
        static SHARED: OnceLock<Result<SharedBroker<RedisServer>>> = OnceLock::new();
        &SHARED
    }
}

fn configuration(place: &Place) -> String {
    let users = place.login.as_ref().map_or(String::new(), |Login { user, password }| {
        // A user is declared once.
        let others = if user == "default" { "" } else { "user default off\n" };
        format!("{others}user {user} on >{password} ~* &* +@all\n")
    });
    let port = place.port;
    format!(
        "\
bind 127.0.0.1
port {port}
dir .
appendonly yes
appendfsync always
save \"\"
{users}"
    )
}
