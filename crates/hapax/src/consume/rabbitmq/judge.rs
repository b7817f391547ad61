//! What an error of the broker means, and what to do about it.

use std::io;

use lapin::{Error, ErrorKind};

use crate::consume::{SourceError, SourceErrorKind};

use SourceErrorKind::{Refused, Unreachable};

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;
const NOT_IMPLEMENTED: u16 = 540;

/// An error while `doing` something at the place `label`.
pub(super) fn judge(label: &str, doing: &str, error: Error) -> SourceError {
    let (kind, advice) = match error.kind() {
        ErrorKind::ProtocolError(error) => replied(error.get_id(), error.get_message().as_str()),
        ErrorKind::IOError(error) => io_failed(error),
        ErrorKind::ParsingError(_) => (
            Refused,
            "a message may have a routing key, property or header name that is not UTF-8: take it out of the queue by other \
             means",
        ),
        ErrorKind::AuthProviderError(_) | ErrorKind::InvalidProtocolVersion(_) | ErrorKind::NoDefaultRuntime => {
            (Refused, "")
        }
        _ => (Unreachable, ""),
    };
    let what = match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    };
    let colon = if advice.is_empty() { "" } else { "; " };
    SourceError::new(kind, format!("{label}: {doing}: {what}{colon}{advice}")).caused_by(error)
}

/// By the reply code, and RabbitMQ's own words where it says two things by one code.
fn replied(code: u16, text: &str) -> (SourceErrorKind, &'static str) {
    match code {
        ACCESS_REFUSED if text.contains("Login was refused") => (
            Refused,
            "check user and password in the URL (the user guest may connect from the broker's own machine only)",
        ),
        ACCESS_REFUSED if text.contains("exclusive use") => (
            Refused,
            "another consumer has the queue for itself: stop it, or consume another queue",
        ),
        ACCESS_REFUSED => (
            Refused,
            "grant the user what it needs: `rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ`; READ must \
             match the queue, CONFIGURE its delay queues QUEUE.hapax.retry.*, WRITE amq.default",
        ),
        // The node that the queue lives on is away.
        NOT_FOUND if text.contains("down or inaccessible") => (Unreachable, ""),
        NOT_FOUND if text.contains("no exchange") => (
            Refused,
            "declare the exchange: `rabbitmqadmin declare exchange name=EXCHANGE type=topic`",
        ),
        NOT_FOUND => (
            Refused,
            "declare the queue: `rabbitmqadmin declare queue name=QUEUE durable=true \
             arguments='{\"x-queue-type\":\"quorum\",\"x-overflow\":\"reject-publish\"}'`, or have the consumer do it by \
             its option `declare`",
        ),
        RESOURCE_LOCKED => (
            Refused,
            "the queue is exclusive to another connection and ends with it: consume a durable queue",
        ),
        // The broker's consumer_timeout.
        PRECONDITION_FAILED if text.contains("timed out") => (
            Unreachable,
            "a message was in hand for longer than the broker's consumer_timeout: all in hand come again; raise it if \
             handlers take that long",
        ),
        PRECONDITION_FAILED if text.contains("message size") => (Refused, "raise the broker's max_message_size"),
        PRECONDITION_FAILED => (
            Refused,
            "the queue is there and was made otherwise: leave `declare` off, or delete the queue when it is empty",
        ),
        NOT_ALLOWED => (
            Refused,
            "check the virtual host in the URL, and the user's permissions for it: `rabbitmqctl add_vhost VHOST`, \
             `rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'`",
        ),
        NOT_IMPLEMENTED => (Refused, "hapax needs RabbitMQ 3.10 or later"),
        _ => (Unreachable, ""),
    }
}

/// Rustls says by these two that a certificate cannot be believed, and that it does not know the host's name.
fn io_failed(error: &io::Error) -> (SourceErrorKind, &'static str) {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => (
            Refused,
            "check the certificate's authority and name, and whether the port speaks TLS",
        ),
        _ => (Unreachable, ""),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn what_waiting_mends_is_told_from_what_a_person_must() {
        for (code, text, kind, advice) in [
            (
                403,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.",
                Refused,
                "password",
            ),
            (
                403,
                "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
                Refused,
                "another consumer",
            ),
            (
                403,
                "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'",
                Refused,
                "set_permissions",
            ),
            (404, "NOT_FOUND - no queue 'q' in vhost '/'", Refused, "x-queue-type"),
            (
                404,
                "NOT_FOUND - no exchange 'e' in vhost '/'",
                Refused,
                "declare exchange",
            ),
            (
                404,
                "NOT_FOUND - home node 'r@h' of durable queue 'q' in vhost '/' is down or inaccessible",
                Unreachable,
                "",
            ),
            (
                405,
                "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'",
                Refused,
                "exclusive",
            ),
            (
                406,
                "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out.",
                Unreachable,
                "consumer_timeout",
            ),
            (
                406,
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q'",
                Refused,
                "declare",
            ),
            (530, "NOT_ALLOWED - vhost x not found", Refused, "virtual host"),
            (
                320,
                "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
                Unreachable,
                "",
            ),
            (541, "INTERNAL_ERROR", Unreachable, ""),
        ] {
            let error = AMQPError::from_id(code, text.into()).unwrap();
            let error = judge("amqp://h:1", "consume q", ErrorKind::ProtocolError(error).into());
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
