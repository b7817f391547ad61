//! A message as consumers see it, whichever broker it comes from.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hapax_core::{Input, Timestamp};

/// The first byte of a stored message. An outbox entry's is 1, that of a sealed input 2.
const VERSION: u8 = 3;
/// Precedes the reason why a message must not be run, and the message.
const DEAD: u8 = 4;

/// A message. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is about, as its broker has it: NATS's subject, RabbitMQ's routing key, Kafka's topic, Redis's stream.
    pub subject: Box<str>,
    /// Where it stands in its broker's log: `ORDERS/17`, `orders/3/42` (topic, partition, offset). `None` where a broker
    /// has no such thing (RabbitMQ). Another message of the same content stands elsewhere.
    pub position: Option<Box<str>>,
    /// Kafka's key: what its partition was chosen by.
    pub key: Option<Bytes>,
    /// Headers and properties, in their order. Names compare without case.
    pub headers: Vec<(Box<str>, Bytes)>,
    /// What it says.
    pub payload: Bytes,
    /// When it was published, by the broker's clock or, failing that, the producer's.
    pub published: Option<Timestamp>,
}

impl Message {
    /// A message without a position, a key or headers.
    #[must_use]
    pub fn new(subject: &str, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.into(),
            position: None,
            key: None,
            headers: Vec::new(),
            payload: payload.into(),
            published: None,
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The first header of that name, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(had, _)| had.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// What its record keeps, to run it again.
    #[must_use]
    pub fn to_input(&self) -> Input {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 8)
            .sum();
        let mut out = BytesMut::with_capacity(64 + self.subject.len() + headers + self.payload.len());
        out.put_u8(VERSION);
        put(&mut out, self.subject.as_bytes());
        put_some(&mut out, self.position.as_ref().map(|position| position.as_bytes()));
        put_some(&mut out, self.key.as_deref());
        out.put_i64(self.published.map_or(i64::MIN, Timestamp::as_millis));
        out.put_u32(self.headers.len() as u32);
        for (name, value) in &self.headers {
            put(&mut out, name.as_bytes());
            put(&mut out, value);
        }
        out.put_slice(&self.payload);
        Input(out.freeze())
    }

    /// The same for a message that must not be run, for this reason: whoever finds it knows.
    pub(super) fn to_dead_input(&self, why: &str) -> Input {
        let message = self.to_input().0;
        let mut out = BytesMut::with_capacity(5 + why.len() + message.len());
        out.put_u8(DEAD);
        put(&mut out, why.as_bytes());
        out.put_slice(&message);
        Input(out.freeze())
    }

    /// The message in a record's input; `None` if it holds something else.
    #[must_use]
    pub fn from_input(input: &Input) -> Option<Self> {
        Self::and_why_not(input).map(|(message, _)| message)
    }

    /// The message in a record's input, and why it must not be run, if so.
    pub(super) fn and_why_not(input: &Input) -> Option<(Self, Option<Box<str>>)> {
        let mut rest = input.0.clone();
        let mut why = None;
        let mut version = rest.try_get_u8().ok()?;
        if version == DEAD {
            why = Some(text(take(&mut rest)?)?);
            version = rest.try_get_u8().ok()?;
        }
        if version != VERSION {
            return None;
        }
        let subject = text(take(&mut rest)?)?;
        let position = match take_some(&mut rest)? {
            Some(position) => Some(text(position)?),
            None => None,
        };
        let key = take_some(&mut rest)?;
        let published = rest.try_get_i64().ok()?;
        let count = rest.try_get_u32().ok()?;
        let mut headers = Vec::new();
        for _ in 0..count {
            headers.push((text(take(&mut rest)?)?, take(&mut rest)?));
        }
        let message = Self {
            subject,
            position,
            key,
            headers,
            payload: rest,
            published: (published != i64::MIN).then(|| Timestamp::from_millis(published)),
        };
        Some((message, why))
    }
}

/// Neither headers nor payload: they are the user's.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject)
            .field("position", &self.position)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Brokers' limits are far below 4 GiB.
fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn put_some(out: &mut BytesMut, bytes: Option<&[u8]>) {
    out.put_u8(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put(out, bytes);
    }
}

fn take(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32().ok()? as usize;
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn take_some(rest: &mut Bytes) -> Option<Option<Bytes>> {
    match rest.try_get_u8().ok()? {
        0 => Some(None),
        1 => take(rest).map(Some),
        _ => None,
    }
}

fn text(bytes: Bytes) -> Option<Box<str>> {
    std::str::from_utf8(&bytes).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            position: Some("ORDERS/17".into()),
            key: Some(Bytes::from_static(b"\xff\x00")),
            published: Some(Timestamp::from_millis(1_700_000_000_000)),
            ..Message::new("orders.paid", "{}")
                .header("Nats-Msg-Id", "a")
                .header("b", &b"\xfe"[..])
        }
    }

    #[test]
    fn an_input_gives_back_what_was_put_in() {
        for message in [message(), Message::new("", ""), Message::new("a", vec![0; 70_000])] {
            assert_eq!(Message::from_input(&message.to_input()), Some(message));
        }
    }

    #[test]
    fn no_other_bytes_make_a_message_or_a_panic() {
        let whole = message().to_input().0;
        let head = whole.len() - message().payload.len();
        for length in 0..head {
            assert_eq!(Message::from_input(&Input(whole.slice(..length))), None, "{length}");
        }
        for at in 0..head {
            let mut bytes = whole.to_vec();
            bytes[at] = 0xff;
            // Whatever it gives, it ends.
            let _ = Message::from_input(&Input(bytes.into()));
        }
        assert_eq!(Message::from_input(&Input(Bytes::from_static(b"\x01\x00"))), None);
    }

    #[test]
    fn headers_are_found_without_case_if_they_are_text() {
        assert_eq!(message().text("nats-msg-id"), Some("a"));
        assert_eq!(message().text("b"), None);
        assert_eq!(message().text("c"), None);
    }
}
