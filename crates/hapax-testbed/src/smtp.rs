//! A mail server that keeps what it accepts: aiosmtpd, with STARTTLS or TLS and a login if asked.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::or_panic;
use crate::guard::{Guard, Owner, Signal};
use crate::programs::in_path;
use crate::{Error, FreePort, Result};

const START_LIMIT: Duration = Duration::from_secs(20);
const PROGRAM: &str = include_str!("smtp.py");

/// How a mail server protects its connections: by a certificate and its key, PEM files.
#[derive(Clone, Copy, Debug)]
pub enum MailTls<'a> {
    /// Not at all.
    None,
    /// It takes nothing before STARTTLS.
    StartTls(&'a Path, &'a Path),
    /// From the start.
    Tls(&'a Path, &'a Path),
}

/// A mail server of the caller's own, ended when dropped or when its process dies.
#[derive(Debug)]
pub struct MailServer {
    _guard: Guard,
    port: FreePort,
    directory: TempDir,
}

impl MailServer {
    /// Starts a server that takes mail of whoever logs in with these, or of anybody. Panics, saying what to install, when
    /// that fails.
    #[track_caller]
    pub fn start(tls: MailTls<'_>, login: Option<(&str, &str)>) -> Self {
        or_panic(Self::try_start(tls, login))
    }

    /// Like [`MailServer::start`], giving the error.
    pub fn try_start(tls: MailTls<'_>, login: Option<(&str, &str)>) -> Result<Self> {
        let python = Self::find()?;
        let directory = tempfile::Builder::new()
            .prefix("hapax-mail-")
            .tempdir()
            .map_err(|source| Error::io("make a directory for a mail server", source))?;
        let port = FreePort::try_take()?;
        let (protection, certificate, key) = match tls {
            MailTls::None => ("none", Path::new(""), Path::new("")),
            MailTls::StartTls(certificate, key) => ("starttls", certificate, key),
            MailTls::Tls(certificate, key) => ("tls", certificate, key),
        };
        let (user, password) = login.unwrap_or_default();
        let mut server = Command::new(python);
        server.args(["-c", PROGRAM]).arg(port.number().to_string());
        server.arg(messages(&directory)).arg(protection);
        server.arg(certificate).arg(key).args([user, password]);
        let log = directory.path().join("server.log");
        let path = Some(directory.path());
        let mut guard = Guard::launch(&server, Signal::Kill, &log, path, &Owner::This)?;
        guard.wait_until("the start of the mail server", START_LIMIT, || {
            Ok(TcpStream::connect(port.address()).is_ok())
        })?;
        Ok(Self {
            _guard: guard,
            port,
            directory,
        })
    }

    /// Whether aiosmtpd is installed; the error says how to get it.
    pub fn check_installed() -> Result<()> {
        Self::find().map(|_| ())
    }

    /// A Python that has aiosmtpd: the distribution's, if it is not the one in PATH.
    fn find() -> Result<PathBuf> {
        let has = |python: &PathBuf| {
            let mut import = Command::new(python);
            let output = import.args(["-c", "import aiosmtpd.smtp"]).output();
            output.is_ok_and(|output| output.status.success())
        };
        let places = [Some(PathBuf::from("/usr/bin/python3")), in_path("python3")];
        places.into_iter().flatten().find(has).ok_or_else(|| Error::Missing {
            program: "the Python module `aiosmtpd`".to_owned(),
            searched: "neither /usr/bin/python3 nor the python3 in PATH has it".to_owned(),
            install: "`apt-get install python3-aiosmtpd` (or `cargo xtask setup`)".to_owned(),
        })
    }

    /// Where it listens, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// What it has accepted, in its order: JSON objects with `from`, `to`, `tls`, `user`, `text`.
    pub fn messages(&self) -> Vec<String> {
        let kept = fs::read_to_string(messages(&self.directory)).unwrap_or_default();
        let whole = kept.rfind('\n').map_or("", |end| &kept[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

fn messages(directory: &TempDir) -> PathBuf {
    directory.path().join("messages.jsonl")
}
