//! NATS with JetStream.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{Broker, Kind, Login, Place, SharedBroker, TakesLogin, ask, check_packaged, contains, packaged, url};
use crate::Result;
use crate::guard::{Guard, Owner};

const PROGRAM: &str = "the NATS server";

/// A NATS server with JetStream, whose streams are in files and so survive restarts. It takes everybody, or who is
/// named at its start.
///
/// ```no_run
/// use hapax_testbed::Nats;
///
/// let mut nats = Nats::start();
/// println!("{}", nats.url()); // nats://127.0.0.1:…
/// nats.kill();
/// nats.restart();
/// ```
pub type Nats = Broker<NatsServer>;

/// What is NATS's own of [`Nats`].
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
}

impl TakesLogin for NatsServer {}

impl Kind for NatsServer {
    const NAME: &'static str = "NATS";

    fn find() -> Result<Self> {
        packaged(PROGRAM, "bin/nats-server").map(|program| Self { program })
    }

    fn check() -> Result<()> {
        check_packaged(PROGRAM)
    }

    fn prepare(&self, _: &Place, _: &Owner) -> Result<Vec<Guard>> {
        Ok(Vec::new())
    }

    fn command(&self, place: &Place) -> Command {
        let mut server = Command::new(&self.program);
        server.args(["--addr", "127.0.0.1", "--port", &place.port.to_string()]);
        server.arg("--jetstream").arg("--store_dir").arg(place.file("data"));
        if let Some(Login { user, password }) = &place.login {
            server.args(["--user", user, "--pass", password]);
        }
        server
    }

    /// JetStream itself has to answer.
    fn answers(place: &Place) -> io::Result<bool> {
        let login = place.login.as_ref().map_or(String::new(), |Login { user, password }| {
            format!(r#","user":"{user}","pass":"{password}""#)
        });
        let question = format!("CONNECT {{\"verbose\":false{login}}}\r\nSUB up 1\r\nPUB $JS.API.INFO up 0\r\n\r\n");
        let answer = ask(place, question.as_bytes(), |answer| {
            answer.ends_with(b"}\r\n") || contains(answer, b"-ERR")
        })?;
        Ok(contains(&answer, b"account_info_response") && !contains(&answer, b"\"error\""))
    }

    fn url(port: u16, login: Option<&Login>) -> String {
        url("nats", port, login)
    }

    fn shared() -> &'static OnceLock<Result<SharedBroker<Self>>> {
        static SHARED: OnceLock<Result<SharedBroker<NatsServer>>> = OnceLock::new();
        &SHARED
    }
}
