//! Which message it is: the producer's own identity, so that a copy is recognised however it came.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hapax_core::{Fingerprint, Key, RecipeId};

use super::TextOf;
use super::message::Message;
use crate::http::{Pointer, canonical_json, json_text};

/// What the fingerprint of a message covers.
pub(super) const RECIPE: &str = "message: payload, canonical where it is JSON";

/// Where the identity of a message stands.
#[derive(Clone)]
pub enum Identity {
    /// In a header, such as `Nats-Msg-Id`.
    Header(Box<str>),
    /// CloudEvents' `source` and `id`: in headers as the bindings have them (`ce-id`, `ce_id`, `cloudEvents:id`), or in
    /// the JSON of the structured mode.
    CloudEvents,
    /// At a JSON pointer into the payload: a string or a number.
    Json(Pointer),
    /// Its place in the broker's log. The last resort: the same event published twice stands in two places.
    Position,
    /// By a function of the user's.
    By(TextOf),
}

impl Identity {
    /// By a function, which gives `None` if the message has no identity.
    pub fn by(of: impl Fn(&Message) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(of))
    }

    /// The key of a message. A text that is no [`Key`] (longer than 255 bytes, control characters) is replaced by its
    /// digest.
    ///
    /// # Errors
    /// [`NoIdentity`] says what the message lacks.
    pub fn of(&self, message: &Message) -> Result<Key, NoIdentity> {
        let found = match self {
            Self::Header(name) => message.text(name).map(str::to_owned),
            Self::CloudEvents => cloud_event(message),
            Self::Json(pointer) => json_text(&message.payload, pointer),
            Self::Position => message.position.as_ref().map(|position| position.to_string()),
            Self::By(of) => of(message),
        };
        let text = found.filter(|text| !text.is_empty()).ok_or_else(|| NoIdentity {
            looked_for: self.to_string(),
        })?;
        Ok(key_of(&text))
    }
}

/// Both parts in one key: sources are URI references, which have no spaces.
fn cloud_event(message: &Message) -> Option<String> {
    const PREFIXES: [&str; 4] = ["ce-", "ce_", "cloudEvents:", "cloudEvents_"];
    let header = |name: &str| {
        let found = PREFIXES
            .iter()
            .find_map(|prefix| message.text(&format!("{prefix}{name}")));
        found.map(str::to_owned)
    };
    let (source, id) = match (header("source"), header("id")) {
        (Some(source), Some(id)) => (source, id),
        _ => {
            let at = |pointer| json_text(&message.payload, &Pointer::new(pointer).ok()?);
            (at("/source")?, at("/id")?)
        }
    };
    (!source.is_empty() && !id.is_empty()).then(|| format!("{source} {id}"))
}

/// A text as a key.
#[allow(clippy::expect_used, reason = "hexadecimal digits are within the rules")]
fn key_of(text: &str) -> Key {
    Key::new(text).unwrap_or_else(|_| {
        let digest = blake3::hash(text.as_bytes()).to_hex();
        Key::new(format!("blake3:{digest}")).expect("hexadecimal digits are within the rules")
    })
}

/// A message that has no identity where its consumer looks for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message has no identity: looked for {looked_for}; let its producer set it, or name another place for it")]
pub struct NoIdentity {
    looked_for: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::CloudEvents => f.write_str("cloudevents"),
            Self::Json(pointer) => write!(f, "json:{}", pointer.as_str()),
            Self::Position => f.write_str("position"),
            Self::By(_) => f.write_str("a function of the consumer"),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// A text that names no place for an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no place for an identity: {why}; write header:NAME, cloudevents, json:/pointer or position")]
pub struct IdentityError {
    given: String,
    why: String,
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let error = |why: String| IdentityError {
            given: text.to_owned(),
            why,
        };
        match text.split_once(':') {
            None if text == "cloudevents" => Ok(Self::CloudEvents),
            None if text == "position" => Ok(Self::Position),
            Some(("header", "")) => Err(error("the header has no name".to_owned())),
            Some(("header", name)) => Ok(Self::Header(name.into())),
            Some(("json", pointer)) => Pointer::new(pointer)
                .map(Self::Json)
                .map_err(|why| error(why.to_string())),
            _ => Err(error("it is none of the four".to_owned())),
        }
    }
}

/// Computes fingerprints of payloads under one store's secret.
pub(super) fn fingerprint(secret: &[u8; 32], recipe: RecipeId, payload: &[u8]) -> Fingerprint {
    let key = blake3::derive_key("hapax 2026 message fingerprint v1", secret);
    let mut hasher = blake3::Hasher::new_keyed(&key);
    match canonical_json(payload) {
        Some(canonical) => hasher.update(&[1]).update(canonical.as_bytes()),
        None => hasher.update(&[0]).update(payload),
    };
    Fingerprint::new(recipe, *hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(identity: &str, message: &Message) -> Option<String> {
        let identity: Identity = identity.parse().unwrap();
        identity.of(message).ok().map(|key| key.as_str().to_owned())
    }

    #[test]
    fn an_identity_is_found_where_it_was_said_to_be() {
        let message = Message {
            position: Some("orders/3/42".into()),
            ..Message::new("orders", r#"{"event":{"id":"e1","n":17,"o":{}}}"#).header("Nats-Msg-Id", "m1")
        };
        for (identity, found) in [
            ("header:nats-msg-id", Some("m1")),
            ("header:other", None),
            ("json:/event/id", Some("e1")),
            ("json:/event/n", Some("17")),
            ("json:/event/o", None),
            ("json:/event/none", None),
            ("position", Some("orders/3/42")),
            ("cloudevents", None),
        ] {
            assert_eq!(of(identity, &message).as_deref(), found, "{identity}");
        }
        let by = Identity::by(|message| message.text("Nats-Msg-Id").map(|id| format!("x-{id}")));
        assert_eq!(by.of(&message).unwrap().as_str(), "x-m1");
    }

    #[test]
    fn a_cloud_event_is_known_in_every_binding() {
        for prefix in ["ce-", "ce_", "cloudEvents:", "cloudEvents_", "CE-"] {
            let message = Message::new("a", "")
                .header(&format!("{prefix}id"), "7")
                .header(&format!("{prefix}source"), "/shop");
            assert_eq!(of("cloudevents", &message).as_deref(), Some("/shop 7"), "{prefix}");
        }
        let structured = Message::new("a", r#"{"specversion":"1.0","id":"7","source":"/shop"}"#);
        assert_eq!(of("cloudevents", &structured).as_deref(), Some("/shop 7"));
        let half = Message::new("a", "").header("ce-id", "7");
        assert_eq!(of("cloudevents", &half), None);
    }

    #[test]
    fn what_is_no_key_is_digested() {
        let long = |text: String| of("header:id", &Message::new("a", "").header("id", text)).unwrap();
        let digested = long("x".repeat(256));
        assert!(digested.starts_with("blake3:") && digested.len() == 71, "{digested}");
        assert_ne!(digested, long("x".repeat(257)));
        assert!(long("a\nb".to_owned()).starts_with("blake3:"));
        assert_eq!(long("ü".to_owned()), "ü");
        let none = "header:id"
            .parse::<Identity>()
            .unwrap()
            .of(&Message::new("a", "").header("id", ""));
        assert!(none.unwrap_err().to_string().contains("looked for header:id"));
    }

    #[test]
    fn a_place_that_makes_no_sense_is_named() {
        for text in ["", "header", "header:", "json:", "json:a/b", "ce", "positions"] {
            let error = text.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains("write header:NAME"), "{error}");
        }
    }

    #[test]
    fn order_and_white_space_of_json_do_not_matter() {
        let of = |payload: &str| fingerprint(&[7; 32], RecipeId::new(1), payload.as_bytes());
        assert_eq!(of(r#"{"a":1,"b":2}"#), of(r#"{ "b": 2.0, "a": 1 }"#));
        assert_ne!(of(r#"{"a":1}"#), of(r#"{"a":2}"#));
        assert_ne!(of("a"), of("b"));
        assert_ne!(fingerprint(&[8; 32], RecipeId::new(1), b"a"), of("a"));
    }
}
