//! What is to be done elsewhere: its name, its key, its payload.

use bytes::{BufMut, Bytes, BytesMut};
use hapax_core::{Fingerprint, Input, Key, Name, Operation, OperationId, RecipeId, Scope, WordError};

/// The scope of every outbox entry: an outbox belongs to one database, and so to one tenant.
pub const SCOPE: &str = "outbox";
/// Payloads may be this large (1 MiB), unless [`OutboxOptions`](super::OutboxOptions) says otherwise. A payload is
/// written with its record: what is larger belongs into a file store, with its address in the payload.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// What the fingerprint of an entry covers.
pub(super) const RECIPE: &str = "outbox entry: content type, aggregate, payload";

const LONGEST_CONTENT_TYPE: usize = 255;
/// The first byte of an entry's input.
const VERSION: u8 = 1;

/// An effect on another system, to be delivered by a relay once the transaction that enqueues it has committed.
#[derive(Clone, PartialEq, Eq)]
pub struct Effect {
    name: Name,
    key: Key,
    aggregate: Option<Key>,
    content_type: Box<str>,
    payload: Bytes,
}

/// Why something is no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// Its name, key or aggregate breaks a rule.
    #[error("{what} of the effect: {error}")]
    Word {
        /// `name`, `key` or `aggregate`.
        what: &'static str,
        /// The rule.
        error: WordError,
    },
    /// Its content type is no header value.
    #[error(
        "content type of the effect: {0:?} is no header value: write 1 to 255 visible ASCII characters, such as \
         application/json"
    )]
    ContentType(String),
}

impl Effect {
    /// An effect of that name. `key` identifies it: enqueued twice, it is delivered once. The content type is
    /// `application/json` until [`content_type`](Self::content_type) says otherwise.
    ///
    /// # Errors
    /// [`EffectError`] if the name or the key is empty, longer than 255 bytes, or has a control character.
    pub fn new(name: &str, key: &str, payload: impl Into<Bytes>) -> Result<Self, EffectError> {
        Ok(Self {
            name: Name::new(name).map_err(|error| EffectError::Word { what: "name", error })?,
            key: word("key", key)?,
            aggregate: None,
            content_type: "application/json".into(),
            payload: payload.into(),
        })
    }

    /// What it belongs to, such as `order-7`. The effects of one name and one aggregate are enqueued in their order, and
    /// delivered in it where [`SinkOptions::ordered`](super::SinkOptions::ordered) says so.
    ///
    /// # Errors
    /// [`EffectError`] if it is empty, longer than 255 bytes, or has a control character.
    pub fn aggregate(mut self, aggregate: &str) -> Result<Self, EffectError> {
        self.aggregate = Some(word("aggregate", aggregate)?);
        Ok(self)
    }

    /// What the payload is.
    ///
    /// # Errors
    /// [`EffectError`] if it is no header value of 1 to 255 bytes.
    pub fn content_type(mut self, content_type: &str) -> Result<Self, EffectError> {
        let fits = (1..=LONGEST_CONTENT_TYPE).contains(&content_type.len());
        if !fits || !content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(EffectError::ContentType(content_type.to_owned()));
        }
        self.content_type = content_type.into();
        Ok(self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The bytes to deliver.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The operation whose record it is.
    #[must_use]
    pub fn operation(&self) -> Operation {
        Operation::new(scope(), self.name.clone(), self.key.clone())
    }

    /// What its order belongs to.
    #[must_use]
    pub fn group(&self) -> Option<OperationId> {
        let aggregate = self.aggregate.clone()?;
        // Its own scope, so that no entry's record is an aggregate.
        Some(Operation::new(scope_of_aggregates(), self.name.clone(), aggregate).id())
    }

    pub(super) fn fingerprint(&self, recipe: RecipeId, secret: &[u8; 32]) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        for text in [&*self.content_type, self.aggregate.as_ref().map_or("", Key::as_str)] {
            // At most 255 bytes each.
            hasher.update(&[text.len() as u8]);
            hasher.update(text.as_bytes());
        }
        hasher.update(&self.payload);
        Fingerprint::new(recipe, *hasher.finalize().as_bytes())
    }

    pub(super) fn input(&self) -> Input {
        let mut input = BytesMut::with_capacity(2 + self.content_type.len() + self.payload.len());
        input.put_u8(VERSION);
        input.put_u8(self.content_type.len() as u8);
        input.put_slice(self.content_type.as_bytes());
        input.put_slice(&self.payload);
        Input(input.freeze())
    }
}

/// Neither the key nor the payload: they are the user's.
impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Effect({}, {} bytes)", self.name, self.payload.len())
    }
}

/// Content type and payload of an entry; `None` if the input is not one of ours.
pub(super) fn opened(input: &Input) -> Option<(Box<str>, Bytes)> {
    let [VERSION, length, rest @ ..] = input.0.as_ref() else {
        return None;
    };
    let content_type = rest.get(..usize::from(*length))?;
    let payload = input.0.slice(2 + content_type.len()..);
    Some((std::str::from_utf8(content_type).ok()?.into(), payload))
}

fn word(what: &'static str, text: &str) -> Result<Key, EffectError> {
    Key::new(text).map_err(|error| EffectError::Word { what, error })
}

#[allow(clippy::expect_used, reason = "a literal within the rules")]
pub(super) fn scope() -> Scope {
    Scope::new(SCOPE).expect("a literal within the rules")
}

#[allow(clippy::expect_used, reason = "a literal within the rules")]
fn scope_of_aggregates() -> Scope {
    Scope::new("outbox aggregate").expect("a literal within the rules")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect() -> Effect {
        Effect::new("order-paid", "order-7", "{}").unwrap()
    }

    #[test]
    fn an_input_gives_back_what_was_put_in() {
        let effect = effect().content_type("text/plain; charset=utf-8").unwrap();
        let (content_type, payload) = opened(&effect.input()).unwrap();
        assert_eq!(
            (&*content_type, payload),
            ("text/plain; charset=utf-8", Bytes::from("{}"))
        );
    }

    #[test]
    fn an_input_of_another_door_is_not_opened() {
        for bytes in [&b""[..], b"\x01", b"\x02\x00", b"\x01\x05abc"] {
            assert_eq!(opened(&Input(Bytes::copy_from_slice(bytes))), None, "{bytes:?}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let error = Effect::new("", "k", "").unwrap_err().to_string();
        assert!(error.starts_with("name of the effect: name is empty"), "{error}");
        let error = Effect::new("n", &"k".repeat(256), "").unwrap_err().to_string();
        assert!(error.starts_with("key of the effect: key has 256 bytes"), "{error}");
        let error = effect().aggregate("a\n").unwrap_err().to_string();
        assert!(error.starts_with("aggregate of the effect: "), "{error}");
        for content_type in ["", "text/ü", "a\r\nb", &"x".repeat(256)] {
            let error = effect().content_type(content_type).unwrap_err().to_string();
            assert!(error.starts_with("content type of the effect: "), "{error}");
        }
    }

    #[test]
    fn the_same_key_with_anything_else_is_another_fingerprint() {
        let (recipe, secret) = (RecipeId::new(1), [7; 32]);
        let of = |effect: &Effect| effect.fingerprint(recipe, &secret);
        let others = [
            Effect::new("order-paid", "order-7", "{ }").unwrap(),
            effect().aggregate("a").unwrap(),
            effect().content_type("text/plain").unwrap(),
        ];
        assert_eq!(of(&effect()), of(&effect()));
        for other in &others {
            assert_ne!(of(&effect()), of(other), "{other:?}");
        }
    }

    #[test]
    fn a_group_is_of_one_name_and_one_aggregate() {
        let group = |name, aggregate| {
            let effect = Effect::new(name, "k", "").unwrap().aggregate(aggregate).unwrap();
            effect.group().unwrap()
        };
        assert_eq!(effect().group(), None);
        assert_eq!(group("a", "1"), group("a", "1"));
        assert_ne!(group("a", "1"), group("a", "2"));
        assert_ne!(group("a", "1"), group("b", "1"));
        let entry = Effect::new("a", "1", "").unwrap().operation().id();
        assert_ne!(group("a", "1"), entry);
    }
}
