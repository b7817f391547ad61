//! From what AMQP delivers to a message, as it was first published.

use bytes::Bytes;
use hapax_core::Timestamp;
use lapin::message::Delivery;
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, DecimalValue, FieldTable, ShortString};

use super::copy::{self, Kept};
use crate::consume::Message;

/// How often the broker has given it, by its own count.
const DELIVERY_COUNT: &str = "x-delivery-count";
const DEATHS: &str = "x-death";
/// What a broker notes of the queue that a message waited in.
const FIRST_DEATH: &str = "x-first-death-";
const FIRST_DEATH_QUEUE: &str = "x-first-death-queue";
const LAST_DEATH: &str = "x-last-death-";
/// Queues to copy a message to as well, which was done when it was published.
const COPIES: [&str; 2] = ["CC", "BCC"];

/// A message as it was first published, whichever detours it took.
#[derive(Clone)]
pub(super) struct Original {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    /// Without headers, and without what only its publisher may say.
    pub(super) properties: BasicProperties,
    pub(super) headers: FieldTable,
    pub(super) user_id: Option<ShortString>,
    pub(super) expiration: Option<ShortString>,
    pub(super) payload: Bytes,
    /// How often it was put off.
    pub(super) retries: u32,
}

impl Original {
    /// What was published, and whether it may have been delivered before. `delays` is what the names of delay queues begin
    /// with.
    pub(super) fn of(delivery: Delivery, delays: &str) -> (Self, bool) {
        let properties = &delivery.properties;
        let mut headers = FieldTable::default();
        let kept = Kept::take(properties.headers().as_ref());
        let mut redelivered = delivery.redelivered || kept.is_some();
        for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
            let text = name.as_str();
            match text {
                DELIVERY_COUNT => redelivered |= number(value).is_some_and(|count| count > 0),
                DEATHS => redelivered = true,
                _ if COPIES.contains(&text) => {}
                _ if kept.is_some() && (copy::is_ours(text) || is_of_the_wait(text, properties, delays)) => {}
                _ => {
                    headers.insert(name.clone(), value.clone());
                }
            }
        }
        let bare = copy::bare(properties);
        let payload = delivery.data.into();
        let original = match kept {
            Some(kept) => Self {
                exchange: kept.exchange,
                routing_key: kept.routing_key,
                user_id: kept.user_id,
                expiration: kept.expiration,
                retries: kept.retries,
                properties: bare,
                headers,
                payload,
            },
            None => Self {
                exchange: delivery.exchange,
                routing_key: delivery.routing_key,
                user_id: properties.user_id().clone(),
                expiration: properties.expiration().clone(),
                retries: 0,
                properties: bare,
                headers,
                payload,
            },
        };
        (original, redelivered)
    }

    /// Its properties first, by their names in AMQP, then its headers that are no tables or lists.
    pub(super) fn message(&self) -> Message {
        let properties = &self.properties;
        let mut message = Message::new(self.routing_key.as_str(), self.payload.clone());
        for (name, value) in [
            ("message-id", properties.message_id()),
            ("correlation-id", properties.correlation_id()),
            ("content-type", properties.content_type()),
            ("content-encoding", properties.content_encoding()),
            ("type", properties.kind()),
            ("app-id", properties.app_id()),
            ("reply-to", properties.reply_to()),
            ("user-id", &self.user_id),
            ("expiration", &self.expiration),
        ] {
            if let Some(value) = value {
                message = message.header(name, value.to_string());
            }
        }
        if let Some(priority) = properties.priority() {
            message = message.header("priority", priority.to_string());
        }
        if let Some(seconds) = properties.timestamp() {
            message = message.header("timestamp", seconds.to_string());
            let milliseconds = i64::try_from(*seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
            message.published = Some(Timestamp::from_millis(milliseconds));
        }
        for (name, value) in self.headers.inner() {
            if let Some(value) = bytes(value) {
                message = message.header(name.as_str(), value);
            }
        }
        message
    }
}

/// Whether a header was added by the broker when our copy came back.
fn is_of_the_wait(name: &str, properties: &BasicProperties, delays: &str) -> bool {
    let queue = properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.inner().get(FIRST_DEATH_QUEUE));
    let ours = matches!(queue, Some(AMQPValue::LongString(queue)) if queue.as_bytes().starts_with(delays.as_bytes()));
    name.starts_with(LAST_DEATH) || (ours && name.starts_with(FIRST_DEATH))
}

pub(super) fn number(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => *number,
        _ => return None,
    })
}

/// A header's value as text; binary as it is.
fn bytes(value: &AMQPValue) -> Option<Bytes> {
    Some(match value {
        AMQPValue::LongString(text) => Bytes::copy_from_slice(text.as_bytes()),
        AMQPValue::ShortString(text) => Bytes::copy_from_slice(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => Bytes::copy_from_slice(bytes.as_slice()),
        AMQPValue::Boolean(yes) => yes.to_string().into(),
        AMQPValue::Float(number) => number.to_string().into(),
        AMQPValue::Double(number) => number.to_string().into(),
        AMQPValue::DecimalValue(number) => decimal(*number).into(),
        AMQPValue::Timestamp(seconds) => seconds.to_string().into(),
        AMQPValue::Void => Bytes::new(),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => return None,
        number_of_some_width => number(number_of_some_width)?.to_string().into(),
    })
}

fn decimal(number: DecimalValue) -> String {
    let scale = usize::from(number.scale);
    let digits = format!("{:0>width$}", number.value, width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    match scale {
        0 => whole.to_owned(),
        _ => format!("{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{ByteArray, FieldArray};

    use super::*;

    fn delivery(properties: BasicProperties) -> Delivery {
        let mut delivery = Delivery::mock(1, "orders".into(), "orders.paid".into(), false, b"{}".to_vec());
        delivery.properties = properties;
        delivery
    }

    fn table(values: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in values {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn properties_and_header_values_become_headers() {
        let properties = BasicProperties::default()
            .with_message_id("m-1".into())
            .with_content_type("application/json".into())
            .with_type("paid".into())
            .with_user_id("shop".into())
            .with_expiration("60000".into())
            .with_timestamp(1_700_000_000)
            .with_headers(table(&[
                ("text", text("ü")),
                ("yes", AMQPValue::Boolean(true)),
                ("byte", AMQPValue::ShortShortInt(-7)),
                ("long", AMQPValue::LongLongInt(i64::MIN)),
                ("unsigned", AMQPValue::LongUInt(u32::MAX)),
                ("double", AMQPValue::Double(1.5)),
                ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 5 })),
                ("when", AMQPValue::Timestamp(7)),
                ("binary", AMQPValue::ByteArray(ByteArray::from(&[0xff, 0][..]))),
                ("nothing", AMQPValue::Void),
                ("list", AMQPValue::FieldArray(FieldArray::from(vec![text("a")]))),
                ("table", AMQPValue::FieldTable(table(&[("a", text("b"))]))),
            ]));
        let (original, redelivered) = Original::of(delivery(properties), "q.hapax.retry.");
        let message = original.message();
        assert!(!redelivered);
        assert_eq!(&*message.subject, "orders.paid");
        assert_eq!(message.published, Some(Timestamp::from_millis(1_700_000_000_000)));
        for (name, value) in [
            ("message-id", "m-1"),
            ("content-type", "application/json"),
            ("type", "paid"),
            ("user-id", "shop"),
            ("expiration", "60000"),
            ("timestamp", "1700000000"),
            ("text", "ü"),
            ("yes", "true"),
            ("byte", "-7"),
            ("long", "-9223372036854775808"),
            ("unsigned", "4294967295"),
            ("double", "1.5"),
            ("decimal", "0.05"),
            ("when", "7"),
            ("nothing", ""),
        ] {
            assert_eq!(message.text(name), Some(value), "{name}");
        }
        let had: Vec<_> = message.headers.iter().map(|(name, _)| &**name).collect();
        assert!(
            had.contains(&"binary") && !had.contains(&"list") && !had.contains(&"table"),
            "{had:?}"
        );
    }

    #[test]
    fn a_count_or_a_death_says_that_it_came_before() {
        for (name, value, before) in [
            (DELIVERY_COUNT, AMQPValue::LongLongInt(0), false),
            (DELIVERY_COUNT, AMQPValue::LongInt(1), true),
            (DEATHS, AMQPValue::FieldArray(FieldArray::default()), true),
            ("other", AMQPValue::LongInt(1), false),
        ] {
            let properties = BasicProperties::default().with_headers(table(&[(name, value.clone())]));
            let (original, redelivered) = Original::of(delivery(properties), "q.hapax.retry.");
            assert_eq!(redelivered, before, "{name} {value:?}");
            assert!(original.message().text(DELIVERY_COUNT).is_none());
        }
    }

    #[test]
    fn a_timestamp_beyond_time_is_the_last_one() {
        let properties = BasicProperties::default().with_timestamp(u64::MAX);
        let (original, _) = Original::of(delivery(properties), "");
        assert_eq!(original.message().published, Some(Timestamp::from_millis(i64::MAX)));
    }

    #[test]
    fn a_copy_that_waited_is_the_message_that_it_was() {
        let published = BasicProperties::default()
            .with_message_id("m-1".into())
            .with_user_id("shop".into())
            .with_expiration("60000".into())
            .with_headers(table(&[
                ("a", text("b")),
                ("CC", AMQPValue::FieldArray(FieldArray::default())),
            ]));
        let (first, _) = Original::of(delivery(published), "q.hapax.retry.");
        let (mut last, mut retries) = (first.clone(), 0);
        for _ in 0..3 {
            let copy = last.to_retry();
            assert!(copy.user_id().is_none() && copy.expiration().is_none());
            assert_eq!(*copy.delivery_mode(), Some(2));
            let mut headers = copy.headers().clone().unwrap();
            assert!(!headers.contains_key("CC"));
            // What the broker adds on the way.
            headers.insert(DEATHS.into(), AMQPValue::FieldArray(FieldArray::default()));
            headers.insert(FIRST_DEATH_QUEUE.into(), text("q.hapax.retry.1000"));
            headers.insert("x-first-death-reason".into(), text("expired"));
            headers.insert("x-last-death-reason".into(), text("expired"));
            let mut back = delivery(copy.with_headers(headers));
            (back.exchange, back.routing_key) = ("".into(), "q".into());
            let (again, redelivered) = Original::of(back, "q.hapax.retry.");
            retries += 1;
            assert!(redelivered);
            assert_eq!(again.retries, retries);
            assert_eq!(again.exchange.as_str(), "orders");
            assert_eq!(again.message(), first.message());
            last = again;
        }
    }
}
