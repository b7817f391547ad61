//! Where a Redis is, and who we are to it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisResult,
    TlsCertificates, Value, cmd,
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a Redis is, and who we are to it. Connects to nothing by itself.
///
/// ```
/// use hapax::consume::Redis;
///
/// let redis = Redis::new("redis://127.0.0.1:6379/0")?;
/// let guarded = Redis::new("rediss://cache.example.org")?.user("shop", "secret").authorities("/etc/shop/ca.pem");
/// # Ok::<_, hapax::consume::RedisSetupError>(())
/// ```
#[derive(Clone)]
pub struct Redis {
    info: ConnectionInfo,
    authorities: Option<PathBuf>,
}

/// What makes no sense about Redis options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisSetupError {
    /// The URL makes no sense.
    #[error("{url:?} is no Redis: {why}; write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS")]
    Url {
        /// The URL without its login.
        url: String,
        /// Why not.
        why: String,
    },
    /// A key, group or field without a name.
    #[error("the {0} has no name")]
    Empty(&'static str),
    /// A time that is too short to say a word in.
    #[error(
        "min_idle is {0:?}: give at least 1 s, and longer than a handler goes without a pause in which it is heard"
    )]
    MinIdle(Duration),
    /// Dead letters into the stream that they come from.
    #[error("dead letters to {0:?} would come back as messages: name another stream")]
    DeadLetters(String),
}

impl Redis {
    /// A Redis by its URL, which may have a user, a password and the number of a database in it.
    ///
    /// # Errors
    /// [`RedisSetupError::Url`] if it makes no sense.
    pub fn new(url: &str) -> Result<Self, RedisSetupError> {
        let info = url.into_connection_info().map_err(|error| RedisSetupError::Url {
            url: without_login(url),
            why: error.to_string(),
        })?;
        // Answers are read as the second version has them.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        Ok(Self {
            info: info.set_redis_settings(settings),
            authorities: None,
        })
    }

    /// Logs in as a user with a password.
    #[must_use]
    pub fn user(mut self, user: &str, password: &str) -> Self {
        let settings = self.info.redis_settings().clone();
        self.info = self
            .info
            .set_redis_settings(settings.set_username(user).set_password(password));
        self
    }

    /// Believes the certificate authorities in this PEM file, instead of the system's. It is read at each connection.
    #[must_use]
    pub fn authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// The server, without a login.
    pub(super) fn label(&self) -> String {
        let database = match self.info.redis_settings().db() {
            0 => String::new(),
            number => format!("/{number}"),
        };
        match self.info.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => format!("rediss://{host}:{port}{database}"),
            ConnectionAddr::Unix(path) => format!("unix://{}{database}", path.display()),
            other => format!("redis://{other}{database}"),
        }
    }

    /// A connection whose commands are answered within `answer`.
    pub(super) async fn connect(&self, answer: Duration) -> RedisResult<MultiplexedConnection> {
        let client = match &self.authorities {
            Some(file) => {
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(std::fs::read(file)?),
                };
                Client::build_with_tls(self.info.clone(), certificates)?
            }
            None => Client::open(self.info.clone())?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(answer));
        let mut link = client.get_multiplexed_async_connection_with_config(&config).await?;
        // Who has to log in and did not is told so only in answer to a short command: a long one breaks the connection.
        cmd("PING").query_async::<Value>(&mut link).await?;
        Ok(link)
    }
}

/// No login.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.label()).finish()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_or_error_has_a_password() {
        let redis = Redis::new("redis://shop:secret@cache:7000/3?protocol=resp3").unwrap();
        assert_eq!(redis.label(), "redis://cache:7000/3");
        assert!(!format!("{redis:?}").contains("secret"));
        assert_eq!(
            Redis::new("rediss://shop:secret@cache").unwrap().label(),
            "rediss://cache:6379"
        );
        for url in ["http://shop:secret@host", "redis://shop:secret@:x", ""] {
            let error = Redis::new(url).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("redis://["), "{error}");
        }
    }
}
