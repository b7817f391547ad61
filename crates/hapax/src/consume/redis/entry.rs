//! Entries as Redis gives them, and as messages.

use ::redis::Value;
use bytes::Bytes;
use hapax_core::Timestamp;

use crate::consume::Message;

/// Before this (September 2001) no entry was added: what looks like it is an ID that its producer chose.
const PLAUSIBLE: i64 = 1_000_000_000_000;

/// An entry, with its fields in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) fields: Vec<(Bytes, Bytes)>,
}

/// Entries, and IDs of those that were trimmed while they were pending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) there: Vec<Entry>,
    pub(super) trimmed: Vec<String>,
}

impl Entries {
    /// An answer to `XREADGROUP` of one stream.
    pub(super) fn read(answer: Value) -> Self {
        let mut entries = Self::default();
        let Value::Array(streams) = answer else { return entries };
        for stream in streams {
            if let Value::Array(mut stream) = stream
                && let Some(Value::Array(list)) = stream.pop()
            {
                entries.add(list);
            }
        }
        entries
    }

    /// An answer to `XAUTOCLAIM`, and where to go on.
    pub(super) fn claimed(answer: Value) -> (String, Self) {
        let mut entries = Self::default();
        let Value::Array(parts) = answer else {
            return ("0-0".to_owned(), entries);
        };
        let mut parts = parts.into_iter();
        let cursor = parts.next().and_then(text).unwrap_or_else(|| "0-0".to_owned());
        if let Some(Value::Array(list)) = parts.next() {
            entries.add(list);
        }
        if let Some(Value::Array(deleted)) = parts.next() {
            entries.trimmed.extend(deleted.into_iter().filter_map(text));
        }
        (cursor, entries)
    }

    fn add(&mut self, list: Vec<Value>) {
        for entry in list {
            // Redis 6.2 claims what is trimmed as nothing at all, without saying what it was.
            let Value::Array(parts) = entry else { continue };
            let mut parts = parts.into_iter();
            let Some(id) = parts.next().and_then(text) else {
                continue;
            };
            match parts.next() {
                Some(Value::Array(fields)) => self.there.push(Entry {
                    id,
                    fields: pairs(fields),
                }),
                _ => self.trimmed.push(id),
            }
        }
    }
}

impl Entry {
    pub(super) fn message(&self, stream: &str, payload: &str) -> Message {
        let at = self.fields.iter().position(|(name, _)| **name == *payload.as_bytes());
        let (said, headers) = match at {
            Some(at) => {
                let others = self.fields.iter().enumerate().filter(|(other, _)| *other != at);
                let headers = others.map(|(_, (name, value))| (lossy(name).into(), value.clone()));
                (self.fields[at].1.clone(), headers.collect())
            }
            None => (self.object(), Vec::new()),
        };
        Message {
            subject: stream.into(),
            position: Some(format!("{stream}/{}", self.id).into()),
            key: None,
            headers,
            payload: said,
            published: published(&self.id),
        }
    }

    /// All fields as a JSON object.
    fn object(&self) -> Bytes {
        let fields = self
            .fields
            .iter()
            .map(|(name, value)| (lossy(name), lossy(value).into()));
        let object: serde_json::Map<String, serde_json::Value> = fields.collect();
        serde_json::Value::Object(object).to_string().into()
    }
}

/// When an entry was added, by the server's clock, if its ID says so.
pub(super) fn published(id: &str) -> Option<Timestamp> {
    let millis: i64 = id.split('-').next()?.parse().ok()?;
    (millis >= PLAUSIBLE).then(|| Timestamp::from_millis(millis))
}

/// Fields and values in turns.
pub(super) fn pairs(list: Vec<Value>) -> Vec<(Bytes, Bytes)> {
    let mut list = list.into_iter().map(|value| bytes(value).unwrap_or_default());
    let mut pairs = Vec::with_capacity(list.len() / 2);
    while let (Some(name), Some(value)) = (list.next(), list.next()) {
        pairs.push((name, value));
    }
    pairs
}

pub(super) fn text(value: Value) -> Option<String> {
    bytes(value).map(|bytes| lossy(&bytes))
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) => Some(text.into()),
        Value::Okay => Some("OK".into()),
        Value::Int(number) => Some(number.to_string().into()),
        _ => None,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &[u8]) -> Value {
        Value::BulkString(text.to_vec())
    }

    fn entry(fields: &[(&'static str, &'static [u8])]) -> Entry {
        Entry {
            id: "1700000000000-5".to_owned(),
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).into(), Bytes::from_static(value)))
                .collect(),
        }
    }

    #[test]
    fn one_field_is_the_payload_and_the_others_are_headers() {
        let message =
            entry(&[("Id", b"7"), ("payload", b"\xff{}"), ("payload", b"again"), ("a", b"b")]).message("s", "payload");
        assert_eq!(&message.payload[..], b"\xff{}");
        let names: Vec<_> = message
            .headers
            .iter()
            .map(|(name, value)| (&**name, &value[..]))
            .collect();
        assert_eq!(names, [("Id", &b"7"[..]), ("payload", b"again"), ("a", b"b")]);
        assert_eq!(message.position.as_deref(), Some("s/1700000000000-5"));
        assert_eq!(message.published, Some(Timestamp::from_millis(1_700_000_000_000)));
    }

    #[test]
    fn an_entry_without_it_says_all_its_fields() {
        let message = entry(&[("order", b"7"), ("by", b"ada \"l\"")]).message("s", "payload");
        assert_eq!(&message.payload[..], br#"{"by":"ada \"l\"","order":"7"}"#);
        assert!(message.headers.is_empty());
    }

    #[test]
    fn an_id_that_is_no_time_says_none() {
        assert_eq!(published("17-0"), None);
        assert_eq!(published("x"), None);
        assert_eq!(published("18446744073709551615-1"), None);
    }

    #[test]
    fn what_was_trimmed_is_told_from_what_is_there() {
        let fields = Value::Array(vec![bulk(b"payload"), bulk(b"x")]);
        let list = Value::Array(vec![
            Value::Array(vec![bulk(b"1-0"), fields]),
            Value::Array(vec![bulk(b"2-0"), Value::Nil]),
            Value::Nil,
        ]);
        let answer = Value::Array(vec![bulk(b"5-0"), list.clone(), Value::Array(vec![bulk(b"3-0")])]);
        let (cursor, claimed) = Entries::claimed(answer);
        assert_eq!((cursor.as_str(), claimed.there.len()), ("5-0", 1));
        assert_eq!(claimed.trimmed, ["2-0", "3-0"]);
        let read = Entries::read(Value::Array(vec![Value::Array(vec![bulk(b"s"), list])]));
        assert_eq!((read.there.len(), read.trimmed.len()), (1, 1));
        assert_eq!(Entries::read(Value::Nil), Entries::default());
        assert_eq!(Entries::claimed(Value::Nil).0, "0-0");
    }
}
