//! Where a NATS server is, and who we are to it.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr, ServerError};

use super::link::{Heard, Link};
use crate::consume::{SourceError, SourceErrorKind};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// A server that does not answer two of these is away.
const PING: Duration = Duration::from_secs(10);

/// Where a NATS server is, and who we are to it. Connects to nothing by itself.
///
/// ```
/// use hapax::consume::Nats;
///
/// let nats = Nats::new("nats://127.0.0.1:4222")?;
/// let cluster = Nats::new("tls://n1.example.org,tls://n2.example.org")?.credentials("/etc/shop/nats.creds");
/// # Ok::<_, hapax::consume::NatsError>(())
/// ```
#[derive(Clone)]
pub struct Nats {
    servers: Vec<ServerAddr>,
    login: Login,
    authorities: Option<PathBuf>,
    inbox_prefix: Option<String>,
    domain: Option<String>,
}

#[derive(Clone)]
enum Login {
    Nobody,
    User(String, String),
    Token(String),
    Credentials(PathBuf),
}

/// What makes no sense about NATS options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NatsError {
    /// The URL makes no sense.
    #[error("{url:?} is no NATS server: {why}; write nats://HOST[:PORT], or tls:// for TLS, several with commas")]
    Url {
        /// The URL without its login.
        url: String,
        /// Why not.
        why: String,
    },
    /// A name of a stream or consumer.
    #[error("{0:?} is no name of a stream or consumer: 1 to 255 characters without spaces, dots, slashes, * and >")]
    Name(String),
    /// A subject.
    #[error(
        "{0:?} is no subject for this: tokens between dots, such as orders.paid, wildcards only where one subscribes"
    )]
    Subject(String),
}

impl Nats {
    /// One server, or several of one cluster, with commas between. A user and password, or a token, may be in the URL.
    ///
    /// # Errors
    /// [`NatsError::Url`] if it makes no sense.
    pub fn new(url: &str) -> Result<Self, NatsError> {
        let (mut servers, mut login) = (Vec::new(), Login::Nobody);
        for url in url.split(',').map(str::trim) {
            let server: ServerAddr = url.parse().map_err(|error: std::io::Error| NatsError::Url {
                url: without_login(url),
                why: error.to_string(),
            })?;
            if !["nats", "tls"].contains(&server.scheme()) || server.host().is_empty() {
                return Err(NatsError::Url {
                    url: without_login(url),
                    why: "no host, or another protocol".to_owned(),
                });
            }
            match (server.username(), server.password()) {
                (Some(user), Some(password)) => login = Login::User(decoded(user), decoded(password)),
                (Some(token), None) => login = Login::Token(decoded(token)),
                (None, _) => {}
            }
            servers.push(server);
        }
        Ok(Self {
            servers,
            login,
            authorities: None,
            inbox_prefix: None,
            domain: None,
        })
    }

    /// Logs in with a user name and a password.
    #[must_use]
    pub fn user(mut self, user: &str, password: &str) -> Self {
        self.login = Login::User(user.to_owned(), password.to_owned());
        self
    }

    /// Logs in with a token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.login = Login::Token(token.to_owned());
        self
    }

    /// Logs in with a credentials file (JWT and seed, as `nsc` writes them), which is read at each connection.
    #[must_use]
    pub fn credentials(mut self, file: impl Into<PathBuf>) -> Self {
        self.login = Login::Credentials(file.into());
        self
    }

    /// Believes the certificate authorities in this PEM file, instead of the system's.
    #[must_use]
    pub fn authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// Takes answers below this subject (`_INBOX`), where the user may not subscribe to the usual one.
    #[must_use]
    pub fn inbox_prefix(mut self, prefix: &str) -> Self {
        self.inbox_prefix = Some(prefix.to_owned());
        self
    }

    /// Uses the JetStream of this domain, where the server itself is a leaf node of another.
    #[must_use]
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.to_owned());
        self
    }

    /// The servers, without logins.
    pub(super) fn label(&self) -> String {
        let servers = self.servers.iter();
        let labels: Vec<_> = servers
            .map(|server| format!("{}://{}:{}", server.scheme(), server.host(), server.port()))
            .collect();
        labels.join(",")
    }

    /// The subject below which JetStream is asked.
    pub(super) fn api(&self) -> String {
        match &self.domain {
            Some(domain) => format!("$JS.{domain}.API"),
            None => "$JS.API".to_owned(),
        }
    }

    pub(super) async fn connect(&self) -> Result<Link, SourceError> {
        let (tell, heard) = tokio::sync::watch::channel(Heard::default());
        let options = self.options().await?.event_callback(move |event| {
            tell.send_modify(|heard| heard.take(&event));
            std::future::ready(())
        });
        match options.connect(self.servers.as_slice()).await {
            Ok(client) => Ok(Link::new(client, heard, self.label(), self.api())),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn options(&self) -> Result<ConnectOptions, SourceError> {
        let options = match &self.login {
            Login::Nobody => ConnectOptions::new(),
            Login::User(user, password) => ConnectOptions::with_user_and_password(user.clone(), password.clone()),
            Login::Token(token) => ConnectOptions::with_token(token.clone()),
            Login::Credentials(file) => ConnectOptions::with_credentials_file(file).await.map_err(|error| {
                let what = format!(
                    "the NATS credentials file {} cannot be used: {error}; write one with `nsc generate creds`",
                    file.display()
                );
                SourceError::new(SourceErrorKind::Refused, what)
            })?,
        };
        let mut options = options
            .name("hapax")
            .connection_timeout(CONNECT)
            .ping_interval(PING)
            // A broken connection is made anew by whoever needs it, and so gives its reason.
            .max_reconnects(self.servers.len());
        if let Some(file) = &self.authorities {
            options = options.add_root_certificates(file.clone());
        }
        if let Some(prefix) = &self.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        Ok(options)
    }

    fn failed(&self, error: async_nats::ConnectError) -> SourceError {
        let at = self.label();
        let (kind, what) = match (error.kind(), cause(&error)) {
            (ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication, _) | (_, Cause::Login) => (
                SourceErrorKind::Refused,
                format!(
                    "NATS at {at} refuses the login: give the user and password, token or credentials of an account there"
                ),
            ),
            (ConnectErrorKind::Tls, _) | (_, Cause::Tls) => (
                SourceErrorKind::Refused,
                format!(
                    "no TLS with NATS at {at}: give the file of the authority that signed its certificate, and the name \
                     that is in it"
                ),
            ),
            (ConnectErrorKind::ServerParse, _) => (SourceErrorKind::Refused, format!("NATS at {at} makes no sense")),
            _ => (
                SourceErrorKind::Unreachable,
                format!("NATS at {at} cannot be reached: {error}"),
            ),
        };
        SourceError::new(kind, what).caused_by(error)
    }
}

enum Cause {
    Login,
    Tls,
    Other,
}

/// What async-nats calls an I/O error and is none.
fn cause(error: &(dyn std::error::Error + 'static)) -> Cause {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(ServerError::AuthorizationViolation) = error.downcast_ref() {
            return Cause::Login;
        }
        if let Some(ServerError::Other(text)) = error.downcast_ref() {
            let text = text.to_ascii_lowercase();
            if text.contains("authentication") || text.contains("authorization") || text.contains("account") {
                return Cause::Login;
            }
        }
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::InvalidData)
        {
            return Cause::Tls;
        }
        next = error.source();
    }
    Cause::Other
}

/// Neither logins nor files.
impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nats").field(&self.label()).finish()
    }
}

fn without_login(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://{host}"),
            None => host.to_owned(),
        },
        None => url.to_owned(),
    }
}

/// A part of a URL with its percent signs resolved.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_or_error_has_a_password() {
        let nats = Nats::new("nats://shop:se%20cret@n1:4000, tls://n2").unwrap();
        assert_eq!(nats.label(), "nats://n1:4000,tls://n2:4222");
        assert!(!format!("{nats:?}").contains("cret"));
        assert!(matches!(nats.login, Login::User(user, password) if user == "shop" && password == "se cret"));
        let token = Nats::new("nats://to%ken@n1").unwrap();
        assert!(matches!(token.login, Login::Token(token) if token == "to%ken"));
        for url in [
            "http://shop:secret@host",
            "nats://shop:secret@:1:2",
            "ws://shop:secret@host",
            "",
        ] {
            let error = Nats::new(url).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("nats://HOST"), "{error}");
        }
    }
}
