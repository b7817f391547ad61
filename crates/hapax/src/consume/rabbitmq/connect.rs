//! Connections. They do not come back by themselves: whoever needs one makes a new one.

use std::io;
use std::time::Duration;

use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::time::timeout;

use super::RabbitMq;
use super::judge::judge;
use crate::consume::{SourceError, SourceErrorKind};

/// How long TCP and TLS may take.
const CONNECT: Duration = Duration::from_secs(10);
/// A node that accepts and then says nothing for so long is given up, with the thread that waits for it.
const ANSWER: Duration = Duration::from_secs(300);

/// A connection to the first node that gives one.
pub(super) async fn open(at: &RabbitMq, name: &str) -> Result<Connection, SourceError> {
    let mut last = None;
    for node in &at.nodes {
        let connected = timeout(ANSWER, connect(node.clone(), at.tls.clone(), name.to_owned())).await;
        let error = match connected {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => judge(&at.label, "connect", error),
            Err(_) => silent(&at.label, "connect"),
        };
        if error.kind() == SourceErrorKind::Refused {
            return Err(error);
        }
        last = Some(error);
    }
    Err(last.unwrap_or_else(|| silent(&at.label, "connect")))
}

/// The broker does not answer.
pub(super) fn silent(label: &str, doing: &str) -> SourceError {
    let text = format!("{label}: {doing}: no answer");
    SourceError::new(SourceErrorKind::Unreachable, text)
}

async fn connect(node: AMQPUri, tls: OwnedTLSConfig, name: String) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connect = async move |node: AMQPUri, runtime| {
        let connecting = AMQPUriTcpExt::connect_with_config_async(&node, tls.as_ref(), &runtime);
        match timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(lapin::Error::from),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    };
    Connection::connector(node, lapin::runtime::default_runtime()?, connect, properties).await
}
