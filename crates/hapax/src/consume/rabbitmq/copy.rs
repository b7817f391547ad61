//! Copies of a message: one that waits for its time, one for the dead letters.
//!
//! A copy says where the message was published and what its publisher alone may say, in headers of ours. It does not say
//! which queues to copy it to (`CC`): that was done.

use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::message::{Original, number};

const OURS: &str = "Hapax-Retry-";
const RETRIES: &str = "Hapax-Retry-Count";
const EXCHANGE: &str = "Hapax-Retry-Exchange";
const ROUTING_KEY: &str = "Hapax-Retry-Routing-Key";
/// The broker refuses messages of another user.
const USER_ID: &str = "Hapax-Retry-User-Id";
/// It would come back too early.
const EXPIRATION: &str = "Hapax-Retry-Expiration";

const DEAD_REASON: &str = "Hapax-Dead-Reason";
const DEAD_EXCHANGE: &str = "Hapax-Dead-Exchange";
const DEAD_ROUTING_KEY: &str = "Hapax-Dead-Routing-Key";
/// All headers of a message share one frame.
const REASON_BYTES: usize = 1_024;

const PERSISTENT: u8 = 2;

/// Whether a header is of a copy, not of the message.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

/// What the headers of a copy say.
pub(super) struct Kept {
    pub(super) retries: u32,
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) user_id: Option<ShortString>,
    pub(super) expiration: Option<ShortString>,
}

impl Kept {
    /// `None` if they are no copy's.
    pub(super) fn take(headers: Option<&FieldTable>) -> Option<Self> {
        let headers = headers?.inner();
        let text = |name: &str| match headers.get(name) {
            Some(AMQPValue::LongString(text)) => {
                let text = std::str::from_utf8(text.as_bytes()).ok()?;
                ShortString::try_new(text).ok()
            }
            _ => None,
        };
        let retries = number(headers.get(RETRIES)?)?;
        Some(Self {
            retries: u32::try_from(retries).ok()?,
            exchange: text(EXCHANGE)?,
            routing_key: text(ROUTING_KEY)?,
            user_id: text(USER_ID),
            expiration: text(EXPIRATION),
        })
    }
}

impl Original {
    /// The properties of a copy that comes back later.
    pub(super) fn to_retry(&self) -> BasicProperties {
        let mut headers = self.headers.clone();
        let retries = self.retries.saturating_add(1);
        headers.insert(RETRIES.into(), AMQPValue::LongLongInt(retries.into()));
        for (name, value) in [
            (EXCHANGE, Some(&self.exchange)),
            (ROUTING_KEY, Some(&self.routing_key)),
            (USER_ID, self.user_id.as_ref()),
            (EXPIRATION, self.expiration.as_ref()),
        ] {
            if let Some(value) = value {
                headers.insert(name.into(), text(value.as_str()));
            }
        }
        self.with(headers)
    }

    /// The properties of a copy for the dead letters.
    pub(super) fn to_dead(&self, reason: &str) -> BasicProperties {
        let mut headers = self.headers.clone();
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
        headers.insert(DEAD_REASON.into(), text(reason));
        headers.insert(DEAD_EXCHANGE.into(), text(self.exchange.as_str()));
        headers.insert(DEAD_ROUTING_KEY.into(), text(self.routing_key.as_str()));
        self.with(headers)
    }

    fn with(&self, headers: FieldTable) -> BasicProperties {
        self.properties
            .clone()
            .with_headers(headers)
            .with_delivery_mode(PERSISTENT)
    }
}

/// Properties without headers, and without what only the publisher may say.
pub(super) fn bare(properties: &BasicProperties) -> BasicProperties {
    let mut bare = BasicProperties::default();
    for (value, with) in [
        (
            properties.content_type(),
            BasicProperties::with_content_type as fn(_, _) -> _,
        ),
        (properties.content_encoding(), BasicProperties::with_content_encoding),
        (properties.correlation_id(), BasicProperties::with_correlation_id),
        (properties.reply_to(), BasicProperties::with_reply_to),
        (properties.message_id(), BasicProperties::with_message_id),
        (properties.kind(), BasicProperties::with_type),
        (properties.app_id(), BasicProperties::with_app_id),
    ] {
        if let Some(value) = value {
            bare = with(bare, value.clone());
        }
    }
    if let Some(priority) = properties.priority() {
        bare = bare.with_priority(*priority);
    }
    if let Some(timestamp) = properties.timestamp() {
        bare = bare.with_timestamp(*timestamp);
    }
    bare
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[cfg(test)]
mod tests {
    use lapin::message::Delivery;

    use super::*;

    #[test]
    fn a_reason_that_no_frame_holds_is_cut_between_characters() {
        let delivery = Delivery::mock(1, "e".into(), "k".into(), false, Vec::new());
        let (original, _) = Original::of(delivery, "");
        let dead = original.to_dead(&"ü".repeat(100_000));
        let headers = dead.headers().as_ref().unwrap().inner();
        assert_eq!(headers[DEAD_REASON], text(&"ü".repeat(512)));
        assert_eq!(headers[DEAD_ROUTING_KEY], text("k"));
    }

    #[test]
    fn headers_that_only_look_like_ours_make_no_copy() {
        let mut headers = FieldTable::default();
        headers.insert(RETRIES.into(), AMQPValue::LongLongInt(1));
        assert!(Kept::take(Some(&headers)).is_none());
        headers.insert(EXCHANGE.into(), text("e"));
        headers.insert(ROUTING_KEY.into(), text(&"k".repeat(256)));
        assert!(Kept::take(Some(&headers)).is_none());
        headers.insert(ROUTING_KEY.into(), text("k"));
        assert!(Kept::take(Some(&headers)).is_some());
        headers.insert(RETRIES.into(), AMQPValue::LongLongInt(-1));
        assert!(Kept::take(Some(&headers)).is_none());
    }
}
