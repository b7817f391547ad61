//! Publishing so that a success is one: persistent, routed, confirmed.
//!
//! Each message has a channel to itself until it is confirmed: what the broker returns, refuses or closes a channel for
//! is then that message's, whatever order confirmations come in. On a connection of its own, since a broker that is short
//! of memory or disk stops reading from connections that publish, acknowledgements included.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_core::policy::FailureClass;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::protocol::BasicProperties;
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection, ErrorKind};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::connect::{open, silent};
use super::judge::judge;
use super::{RabbitMq, RabbitMqRoute};
use crate::consume::{SourceError, SourceErrorKind};

/// Messages on their way at a time.
const AT_A_TIME: usize = 64;
/// How long a confirmation may take: that of a quorum queue without a majority never comes.
const CONFIRM: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);

/// Why a message was not published, and what that proves.
#[derive(Debug)]
pub(super) struct NotPublished {
    pub(super) class: FailureClass,
    pub(super) error: SourceError,
}

pub(super) struct Publisher {
    at: RabbitMq,
    name: &'static str,
    connected: tokio::sync::Mutex<Connected>,
    /// Open, with nothing on its way.
    idle: Mutex<Vec<(Arc<Connection>, Channel)>>,
    places: Semaphore,
}

#[derive(Default)]
struct Connected {
    connection: Option<Arc<Connection>>,
    /// The last failure to connect, and when: whoever waited for that has waited long enough.
    failed: Option<(Instant, SourceErrorKind, String)>,
}

impl Publisher {
    pub(super) fn new(at: RabbitMq, name: &'static str) -> Self {
        Self {
            at,
            name,
            connected: tokio::sync::Mutex::default(),
            idle: Mutex::new(Vec::new()),
            places: Semaphore::new(AT_A_TIME),
        }
    }

    /// Publishes a message, and returns when the broker has it for good.
    pub(super) async fn publish(
        &self,
        to: &RabbitMqRoute,
        properties: BasicProperties,
        payload: &[u8],
    ) -> Result<(), NotPublished> {
        // It is never closed.
        let _place = self.places.acquire().await;
        let (connection, channel) = self.channel().await.map_err(unsent)?;
        if connection.status().blocked() {
            let text = format!(
                "{}: publish: the broker takes no messages, since it is short of memory or disk",
                self.at.label
            );
            self.keep(connection, channel);
            return Err(NotPublished {
                class: FailureClass::Throttled,
                error: SourceError::new(SourceErrorKind::Unreachable, text),
            });
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let publishing = async {
            let (exchange, key) = (to.exchange.as_str(), to.routing_key.as_str());
            let sent = channel.basic_publish(exchange.into(), key.into(), options, payload, properties);
            sent.await?.await
        };
        match timeout(CONFIRM, publishing).await {
            Ok(Ok(confirmation)) => {
                self.keep(connection, channel);
                self.confirmed(to, confirmation)
            }
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => Err(NotPublished {
                class: FailureClass::Ambiguous,
                error: silent(&self.at.label, "publish"),
            }),
        }
    }

    fn confirmed(&self, to: &RabbitMqRoute, confirmation: Confirmation) -> Result<(), NotPublished> {
        let label = &self.at.label;
        match confirmation {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                let RabbitMqRoute { exchange, routing_key } = to;
                let (missing, advice) = match exchange.is_empty() {
                    true => (format!("there is no queue {routing_key:?}"), "declare it"),
                    false => (
                        format!("exchange {exchange:?} has no queue for {routing_key:?}"),
                        "bind one: `rabbitmqadmin declare binding source=EXCHANGE destination=QUEUE routing_key=KEY`",
                    ),
                };
                let text = format!("{label}: publish: {missing}; {advice}");
                Err(unsent(SourceError::new(SourceErrorKind::Refused, text)))
            }
            // A full queue that refuses rather than drops.
            Confirmation::Nack(None) => {
                let text = format!(
                    "{label}: publish: the broker refused the message: a queue it goes to is full (max-length, \
                     reject-publish) or failed"
                );
                Err(NotPublished {
                    class: FailureClass::Throttled,
                    error: SourceError::new(SourceErrorKind::Unreachable, text),
                })
            }
            Confirmation::NotRequested => Err(NotPublished {
                class: FailureClass::Ambiguous,
                error: silent(label, "publish"),
            }),
        }
    }

    /// What it proves that a channel or connection ended under a message.
    fn failed(&self, error: lapin::Error) -> NotPublished {
        let class = match error.kind() {
            ErrorKind::ProtocolError(said) if said.get_message().as_str().contains("message size") => {
                FailureClass::Final
            }
            // The channel had this message only, and the broker says that it did nothing.
            _ if error.is_amqp_soft_error() => FailureClass::Unsent,
            // The channel was over before.
            ErrorKind::InvalidChannelState(..) | ErrorKind::SerialisationError(_) => FailureClass::Unsent,
            _ => FailureClass::Ambiguous,
        };
        NotPublished {
            class,
            error: judge(&self.at.label, "publish", error),
        }
    }

    /// Declares a durable queue.
    pub(super) async fn declare(&self, queue: &str, arguments: FieldTable) -> Result<(), SourceError> {
        let connection = self.connection().await?;
        let doing = format!("declare queue {queue}");
        let declaring = async {
            let channel = connection.create_channel().await?;
            let options = QueueDeclareOptions::durable();
            channel.queue_declare(queue.into(), options, arguments).await
        };
        match timeout(CONFIRM, declaring).await {
            Ok(declared) => declared.map(drop).map_err(|error| judge(&self.at.label, &doing, error)),
            Err(_) => Err(silent(&self.at.label, &doing)),
        }
    }

    async fn channel(&self) -> Result<(Arc<Connection>, Channel), SourceError> {
        loop {
            let idle = self.idle().pop();
            match idle {
                Some((connection, channel)) if connection.status().connected() && channel.status().connected() => {
                    return Ok((connection, channel));
                }
                // Its connection was lost.
                Some(_) => {}
                None => break,
            }
        }
        let connection = self.connection().await?;
        let opening = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        match timeout(CONNECT, opening).await {
            Ok(Ok(channel)) => Ok((connection, channel)),
            Ok(Err(error)) => Err(judge(&self.at.label, "open a channel", error)),
            Err(_) => Err(silent(&self.at.label, "open a channel")),
        }
    }

    async fn connection(&self) -> Result<Arc<Connection>, SourceError> {
        let asked = Instant::now();
        let mut connected = self.connected.lock().await;
        if let Some(connection) = connected.connection.as_ref().filter(|had| had.status().connected()) {
            return Ok(Arc::clone(connection));
        }
        if let Some((at, kind, text)) = &connected.failed
            && *at >= asked
        {
            return Err(SourceError::new(*kind, text.as_str()));
        }
        let opened = timeout(CONNECT, open(&self.at, self.name)).await;
        match opened.unwrap_or_else(|_| Err(silent(&self.at.label, "connect"))) {
            Ok(connection) => {
                let connection = Arc::new(connection);
                connected.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                connected.failed = Some((Instant::now(), error.kind(), error.to_string()));
                Err(error)
            }
        }
    }

    fn keep(&self, connection: Arc<Connection>, channel: Channel) {
        self.idle().push((connection, channel));
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Arc<Connection>, Channel)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection; the next message makes a new one.
    pub(super) async fn close(&self) {
        self.idle().clear();
        if let Some(connection) = self.connected.lock().await.connection.take() {
            // It ends anyway.
            let _ = connection.close(200, "closed".into()).await;
        }
    }
}

fn unsent(error: SourceError) -> NotPublished {
    NotPublished {
        class: FailureClass::Unsent,
        error,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use hapax_testbed::RabbitMq as Server;

    use super::*;

    /// The broker confirms several messages of a channel at a time, in no order that says which of them it returned.
    #[tokio::test]
    async fn a_message_without_a_queue_is_not_taken_for_another() {
        let publisher = Publisher::new(RabbitMq::new(&Server::shared().url()).unwrap(), "test");
        let queue = format!("publish-{}", std::process::id());
        // A classic queue is fast enough to be confirmed together with what has no queue.
        publisher.declare(&queue, FieldTable::default()).await.unwrap();
        let routes = [RabbitMqRoute::queue(&queue), RabbitMqRoute::queue("no-such-queue")];
        for _ in 0..20 {
            let sends = (0..500).map(|number: usize| {
                let to = &routes[number % 2];
                publisher.publish(to, BasicProperties::default(), b"")
            });
            for (number, end) in join_all(sends).await.into_iter().enumerate() {
                assert_eq!(end.is_ok(), number % 2 == 0, "{number}: {end:?}");
            }
        }
    }
}
