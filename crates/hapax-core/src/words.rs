//! The names of things: scope, name and key make an operation; attempts and fences tell its runs apart.

use std::fmt;

/// Why a text cannot be a [`Scope`], [`Name`] or [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// The text has no bytes.
    #[error("{word} is empty: give 1 to {max} bytes")]
    Empty {
        /// Which word: `scope`, `name` or `key`.
        word: &'static str,
        /// The limit in bytes.
        max: usize,
    },
    /// The text is longer than its limit.
    #[error("{word} has {len} bytes: give at most {max}")]
    TooLong {
        /// Which word.
        word: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The text has a control character (NUL included), which no log or table shows truthfully.
    #[error("{word} has a control character at byte {at}: use printable text")]
    Control {
        /// Which word.
        word: &'static str,
        /// Byte offset of the character.
        at: usize,
    },
}

macro_rules! word {
    ($(#[$doc:meta])* $type:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Box<str>);

        impl $type {
            /// The longest text that is accepted, in bytes of UTF-8.
            pub const MAX_BYTES: usize = 255;

            /// Checks a text: 1 to [`Self::MAX_BYTES`] bytes, no control characters.
            ///
            /// # Errors
            /// [`WordError`] says which rule the text breaks.
            pub fn new(text: impl Into<Box<str>>) -> Result<Self, WordError> {
                let text = text.into();
                check($word, &text)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({:?})"), self.0)
            }
        }
    };
}

word!(
    /// Whose key it is: a tenant, a credential's digest, a consumer group. The same key in two scopes names two
    /// operations.
    Scope,
    "scope"
);
word!(
    /// Which operation: a route, a consumer, an effect. `default` where none is configured.
    Name,
    "name"
);
word!(
    /// The idempotency key: given by the caller, or a message's id, or a natural key of the business data.
    Key,
    "key"
);

fn check(word: &'static str, text: &str) -> Result<(), WordError> {
    const MAX: usize = 255;
    if text.is_empty() {
        return Err(WordError::Empty { word, max: MAX });
    }
    if text.len() > MAX {
        return Err(WordError::TooLong {
            word,
            len: text.len(),
            max: MAX,
        });
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(WordError::Control { word, at }),
        None => Ok(()),
    }
}

/// What is asked for, named by scope, name and key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operation {
    scope: Scope,
    name: Name,
    key: Key,
    id: OperationId,
}

impl Operation {
    /// Names an operation.
    #[must_use]
    pub fn new(scope: Scope, name: Name, key: Key) -> Self {
        let id = OperationId::of(&scope, &name, &key);
        Self { scope, name, key, id }
    }

    /// Whose key it is.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Which operation.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The idempotency key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The fixed-size identity derived from all three.
    #[must_use]
    pub fn id(&self) -> OperationId {
        self.id
    }
}

/// Identity of an operation: the first 16 bytes of BLAKE3 over its length-prefixed scope, name and key.
///
/// 128 bits: to take over another scope's record, one would have to find a second preimage (2^128 work); a mere
/// collision (2^64) can only be made between two keys of one's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId([u8; 16]);

impl OperationId {
    fn of(scope: &Scope, name: &Name, key: &Key) -> Self {
        let mut hasher = blake3::Hasher::new();
        for word in [scope.as_str(), name.as_str(), key.as_str()] {
            // A word has at most 255 bytes, so that one byte holds its length.
            hasher.update(&[word.len() as u8]);
            hasher.update(word.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }

    /// The identity from its bytes, as a store keeps them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Identity of one attempt to claim, drawn at random by the claimer. Repeating a claim with the same attempt after
/// a lost reply wins again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId([u8; 16]);

impl AttemptId {
    /// The identity from 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

macro_rules! hexadecimal {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
    };
}

hexadecimal!(OperationId);
hexadecimal!(AttemptId);

/// The fencing token of a claim: a number that only grows, store-wide, and is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(u64);

impl Fence {
    /// The highest that a store's counter can be raised to ([`Store::raise_fence`](crate::Store::raise_fence)): half of
    /// what it can count, since no counter comes that far by itself.
    pub const HIGHEST_RAISE: Self = Self(1 << 62);

    /// The fence from the store's counter.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
