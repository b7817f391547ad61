//! nginx as a plain reverse proxy, to measure against.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::or_panic;
use crate::guard::{Guard, Signal};
use crate::{Error, FreePort, Result, programs};

const START_LIMIT: Duration = Duration::from_secs(20);

/// An nginx of the caller's own, ended when dropped or when its process dies.
#[derive(Debug)]
pub struct Nginx {
    guard: Guard,
    port: FreePort,
    _directory: TempDir,
}

impl Nginx {
    /// Starts nginx as a reverse proxy in front of `upstream`: kept-alive
    /// connections on both sides, one worker a core, no access log. Panics,
    /// saying what to install, when that fails.
    #[track_caller]
    pub fn start(upstream: SocketAddr) -> Self {
        or_panic(Self::try_start(upstream))
    }

    /// Like [`Nginx::start`], giving the error.
    pub fn try_start(upstream: SocketAddr) -> Result<Self> {
        let program = Self::find()?;
        let directory = tempfile::Builder::new()
            .prefix("hapax-nginx-")
            .tempdir()
            .map_err(|source| Error::io("make a directory for nginx", source))?;
        let port = FreePort::try_take()?;
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration(&directory, &port, upstream))
            .map_err(|source| Error::io(format!("write {}", file.display()), source))?;

        let log = directory.path().join("server.log");
        let mut nginx = Command::new(program);
        nginx
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"]);
        let path = Some(directory.path());
        let owner = crate::guard::Owner::This;
        let mut guard = Guard::launch(&nginx, Signal::Terminate, &log, path, &owner)?;
        guard.wait_until("the start of nginx", START_LIMIT, || {
            Ok(TcpStream::connect(port.address()).is_ok())
        })?;
        Ok(Self {
            guard,
            port,
            _directory: directory,
        })
    }

    /// Whether nginx is installed; the error says how to get it.
    pub fn check_installed() -> Result<()> {
        Self::find().map(|_| ())
    }

    fn find() -> Result<std::path::PathBuf> {
        let debian = std::path::PathBuf::from("/usr/sbin/nginx");
        programs::in_path("nginx")
            .or_else(|| debian.is_file().then_some(debian))
            .ok_or_else(|| Error::Missing {
                program: "nginx".to_owned(),
                searched: "not in PATH, not in /usr/sbin".to_owned(),
                install: "`apt-get install nginx` (or `cargo xtask setup`)".to_owned(),
            })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The master's process id; the workers are its children.
    pub fn id(&self) -> u32 {
        self.guard.id()
    }
}

fn configuration(directory: &TempDir, port: &FreePort, upstream: SocketAddr) -> String {
    let place = directory.path().display();
    let listen = port.address();
    // Workers of a root master change to `nobody`, who may not enter the directory.
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    format!(
        "\
{user}
daemon off;
worker_processes auto;
pid {place}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    client_max_body_size 64m;
    keepalive_requests 1000000000;
    upstream backend {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen} backlog=4096;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
        }}
    }}
}}
"
    )
}
