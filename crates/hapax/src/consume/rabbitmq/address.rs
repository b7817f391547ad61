//! Where a RabbitMQ is, and who we are to it.

use std::fmt;
use std::sync::Arc;

use lapin::tcp::OwnedTLSConfig;
use lapin::types::ShortString;
use lapin::uri::AMQPUri;

use super::{RabbitMqOptions, RabbitMqRoute};

/// In seconds: a broker that is silent for twice as long is away.
const HEARTBEAT: u16 = 10;
/// What the names of delay queues add to the queue's fits beside it into AMQP's 255.
const QUEUE_BYTES: usize = 230;

/// Where a RabbitMQ is, and who we are to it. Connects to nothing by itself.
///
/// ```
/// use hapax::consume::RabbitMq;
///
/// let one = RabbitMq::new("amqp://shop:secret@127.0.0.1/orders")?;
/// let cluster = RabbitMq::new("amqps://shop:secret@r1.example.org,amqps://shop:secret@r2.example.org")?;
/// # Ok::<_, hapax::consume::RabbitMqError>(())
/// ```
#[derive(Clone)]
pub struct RabbitMq {
    pub(super) nodes: Vec<AMQPUri>,
    pub(super) tls: OwnedTLSConfig,
    pub(super) label: Arc<str>,
}

/// What makes no sense about RabbitMQ options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RabbitMqError {
    /// The URL makes no sense.
    #[error(
        "{url:?} is no RabbitMQ: {why}; write amqp://USER:PASSWORD@HOST[:PORT][/VHOST], or amqps:// for TLS, several \
         with commas"
    )]
    Url {
        /// The URL without its login.
        url: String,
        /// Why not.
        why: String,
    },
    /// A name of a queue.
    #[error("{0:?} is no name of a queue to consume: 1 to 230 bytes, not of amq.")]
    Queue(String),
    /// A route.
    #[error("the exchange or routing key {0:?} has more than 255 bytes, or a route to a queue has no name")]
    Route(String),
}

impl RabbitMq {
    /// One node, or several of one cluster, with commas between, which are tried in turn. Without a user, `guest`; without
    /// a virtual host, `/`.
    ///
    /// # Errors
    /// [`RabbitMqError::Url`] if it makes no sense.
    pub fn new(url: &str) -> Result<Self, RabbitMqError> {
        let nodes: Vec<_> = url.split(',').map(|url| node(url.trim())).collect::<Result<_, _>>()?;
        let labels: Vec<_> = nodes.iter().map(label).collect();
        Ok(Self {
            nodes,
            tls: OwnedTLSConfig::default(),
            label: labels.join(",").into(),
        })
    }

    /// Believes these authorities (PEM) beside the system's.
    #[must_use]
    pub fn trust(mut self, pem: impl Into<String>) -> Self {
        self.tls.cert_chain = Some(pem.into());
        self
    }
}

/// Not the login.
impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RabbitMq").field(&self.label).finish()
    }
}

fn node(url: &str) -> Result<AMQPUri, RabbitMqError> {
    let no = |why: &str| RabbitMqError::Url {
        url: without_login(url),
        why: why.to_owned(),
    };
    let Some((_, rest)) = url.split_once("://") else {
        return Err(no("it has no protocol"));
    };
    let mut node: AMQPUri = url.parse().map_err(|why: String| no(&why))?;
    // The parser takes an address in brackets for no host.
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        node.authority.host = address.to_owned();
    } else if host.split(':').next() == Some("") {
        return Err(no("it has no host"));
    }
    if node.vhost.is_empty() {
        node.vhost = "/".to_owned();
    }
    if ShortString::try_new(node.vhost.as_str()).is_err() {
        return Err(no("its virtual host has more than 255 bytes"));
    }
    node.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(node)
}

fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // It may be anything.
        return url.rsplit_once('@').map_or(url, |(_, rest)| rest).to_owned();
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or_default();
    format!("{scheme}://{rest}")
}

fn label(node: &AMQPUri) -> String {
    let (scheme, host, port) = (&node.scheme, &node.authority.host, node.authority.port);
    let vhost = match node.vhost.as_str() {
        "/" => String::new(),
        vhost => format!("/{vhost}"),
    };
    match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}{vhost}"),
        false => format!("{scheme}://{host}:{port}{vhost}"),
    }
}

impl RabbitMqOptions {
    pub(super) fn check(&self) -> Result<(), RabbitMqError> {
        if self.queue.is_empty() || self.queue.len() > QUEUE_BYTES || self.queue.starts_with("amq.") {
            return Err(RabbitMqError::Queue(self.queue.clone()));
        }
        self.dead_letters.as_ref().map_or(Ok(()), RabbitMqRoute::check)
    }
}

impl RabbitMqRoute {
    pub(super) fn check(&self) -> Result<(), RabbitMqError> {
        let Self { exchange, routing_key } = self;
        for name in [exchange, routing_key] {
            ShortString::try_new(name.as_str()).map_err(|_| RabbitMqError::Route(name.clone()))?;
        }
        match exchange.is_empty() && routing_key.is_empty() {
            true => Err(RabbitMqError::Route(String::new())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_node_of_a_virtual_host() {
        for (url, host, port, vhost, label) in [
            ("amqp://h", "h", 5672, "/", "amqp://h:5672"),
            ("amqp://u:p@h:1/", "h", 1, "/", "amqp://h:1"),
            ("amqps://u:p@h/a%2fb", "h", 5671, "a/b", "amqps://h:5671/a/b"),
            ("amqp://u:p%40@[::1]:7/%2f", "::1", 7, "/", "amqp://[::1]:7"),
            ("amqp://127.0.0.1", "127.0.0.1", 5672, "/", "amqp://127.0.0.1:5672"),
        ] {
            let at = RabbitMq::new(url).unwrap();
            let node = &at.nodes[0];
            assert_eq!(
                (
                    node.authority.host.as_str(),
                    node.authority.port,
                    node.vhost.as_str(),
                    &*at.label
                ),
                (host, port, vhost, label),
                "{url}"
            );
        }
        assert_eq!(RabbitMq::new("amqp://a, amqp://b").unwrap().nodes.len(), 2);
    }

    #[test]
    fn what_is_no_url_says_why_without_the_password() {
        for url in [
            "",
            "shop:secret@h",
            "amqp:shop:secret@h",
            "http://shop:secret@h",
            "amqp://shop:secret@",
            "amqp://shop:secret@:5672/",
            "amqp://shop:secret@h:x",
            "amqp://shop:secret@h?heartbeat=secret",
            "amqp://h,amqp://shop:secret@",
        ] {
            let error = RabbitMq::new(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{url}: {error}");
            assert!(error.contains("write amqp://"), "{url}: {error}");
        }
        let at = RabbitMq::new("amqp://shop:secret@h").unwrap();
        assert!(!format!("{at:?}").contains("secret"));
    }

    #[test]
    fn names_that_amqp_has_no_room_for_are_refused() {
        for queue in ["", "amq.gen-1", &"q".repeat(231)] {
            assert!(RabbitMqOptions::new(queue).check().is_err(), "{queue}");
        }
        assert!(RabbitMqOptions::new(&"q".repeat(230)).check().is_ok());
        assert!(RabbitMqRoute::queue("").check().is_err());
        assert!(RabbitMqRoute::exchange("e", "").check().is_ok());
        assert!(RabbitMqRoute::exchange("e", &"k".repeat(256)).check().is_err());
    }
}
