//! What a record carries along for whoever runs it or reads it later.

use std::fmt;

use bytes::Bytes;

/// What an operation is run with when nobody asks: a request in the form of the door that took it in, perhaps
/// encrypted. Opaque to stores.
#[derive(Clone, PartialEq, Eq)]
pub struct Input(pub Bytes);

/// Not the bytes: they are the user's.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} bytes)", self.0.len())
    }
}

/// What a failed run said of itself: one line, at most [`Self::MAX_BYTES`] bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LastError(Box<str>);

impl LastError {
    /// The longest text that is kept, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 1000;

    /// Keeps what fits of a text, with control characters as spaces.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let end = text.floor_char_boundary(Self::MAX_BYTES);
        // A control character can take two bytes, a space never takes more.
        Self(text[..end].replace(char::is_control, " ").into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text without what differs from one failure of a kind to the next: each word with a digit in it, such as an
    /// identifier, becomes `#`. Numbers of up to three digits stay, since a status tells failures apart.
    #[must_use]
    pub fn signature(&self) -> String {
        let words = self.0.split_inclusive(|c: char| !c.is_alphanumeric());
        let mut signature = String::with_capacity(self.0.len());
        for word in words {
            let end = word.trim_end_matches(|c: char| !c.is_alphanumeric()).len();
            let (word, tail) = word.split_at(end);
            let status = word.len() <= 3 && word.bytes().all(|byte| byte.is_ascii_digit());
            let varies = !status && word.contains(|c: char| c.is_ascii_digit());
            signature.push_str(if varies { "#" } else { word });
            signature.push_str(tail);
        }
        signature
    }
}

impl fmt::Display for LastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Only its length: it may quote what the user sent.
impl fmt::Debug for LastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LastError({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_error_is_one_bounded_line() {
        let line = LastError::new("a\nb\0c\u{85}d");
        assert_eq!((line.as_str(), line.to_string().as_str()), ("a b c d", "a b c d"));
        let long = "é".repeat(600);
        assert_eq!(LastError::new(&long).as_str(), "é".repeat(500));
        assert_eq!(LastError::new(&format!("x{long}")).as_str().len(), 999);
    }

    #[test]
    fn a_signature_leaves_out_what_differs() {
        for (text, signature) in [
            ("status 503 from 10.0.0.7:9000", "status 503 from 10.0.0.7:#"),
            ("order ord_81f3 is locked", "order ord_# is locked"),
            ("no such table: points", "no such table: points"),
            ("", ""),
        ] {
            assert_eq!(LastError::new(text).signature(), signature);
        }
    }

    #[test]
    fn neither_is_shown_by_debug() {
        assert_eq!(format!("{:?}", Input(Bytes::from_static(b"secret"))), "Input(6 bytes)");
        assert_eq!(format!("{:?}", LastError::new("secret")), "LastError(6 bytes)");
    }
}
