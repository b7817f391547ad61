//! Reads the idempotency key out of a request's head.
//!
//! A quoted RFC 9651 string and the bare form that clients send are the same key. Parameters after a quoted key are
//! checked for their syntax and ignored, as RFC 9651 has it for parameters that a field does not define; the bare form
//! has none, since `;` cannot be in it.

use std::fmt;

use hapax_core::Key;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The request field that carries the key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What CGI, WSGI and their like cannot tell from [`IDEMPOTENCY_KEY`].
pub(super) const UNDERSCORED: HeaderName = HeaderName::from_static("idempotency_key");

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// The field is there, but names no key.
    Empty,
    /// The key is longer than [`Key::MAX_BYTES`].
    TooLong,
    /// A byte that is not visible ASCII.
    NotAscii,
    /// More than one key in a field.
    List,
    /// Starts as a quoted string, but is none.
    Quoting,
    /// A `;` after a bare key.
    BareParameters,
    /// A quotation mark within a bare key.
    StrayQuote,
    /// Two fields with different keys.
    Different,
    /// The key comes in a trailer.
    Trailer,
    /// The field's name is spelt with an underscore.
    Underscore,
    /// `Connection` names a field that must reach the other end.
    ProtectedField(String),
}

impl fmt::Display for KeyError {
    /// What is wrong and what to do next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Idempotency-Key is empty. Send 1 to 255 visible ASCII characters, such as a UUID."),
            Self::TooLong => f.write_str("Idempotency-Key is longer than 255 bytes. Send a shorter one, such as a UUID."),
            Self::NotAscii => f.write_str(
                "Idempotency-Key has a byte that is not visible ASCII. Send letters, digits and hyphens, such as a UUID.",
            ),
            Self::List => f.write_str("Idempotency-Key is a list. Send exactly one key; quote it if it has a comma in it."),
            Self::Quoting => f.write_str(
                "Idempotency-Key starts with a quotation mark but is no string of RFC 9651. Close the quotation mark and \
                 escape only \\\" and \\\\ within, or send the key without quotation marks.",
            ),
            Self::BareParameters => {
                f.write_str("Idempotency-Key has a semicolon outside quotation marks. Quote the key if it has one in it.")
            }
            Self::StrayQuote => f.write_str(
                "Idempotency-Key has a quotation mark within an unquoted key. Quote the whole key and escape it as \\\".",
            ),
            Self::Different => f.write_str("Idempotency-Key was sent twice with different keys. Send exactly one."),
            Self::Trailer => f.write_str(
                "Idempotency-Key came in a trailer, where it is too late to protect anything. Send it as a header.",
            ),
            Self::Underscore => f.write_str(
                "Idempotency_Key, with an underscore, protects nothing, and some backends take it for Idempotency-Key. Send \
                 Idempotency-Key, with a hyphen, alone.",
            ),
            Self::ProtectedField(name) => write!(
                f,
                "Connection names {name}, so that the next hop would drop it. Take it out of the Connection header."
            ),
        }
    }
}

impl std::error::Error for KeyError {}

/// The key of a request; `None` if it has none.
///
/// # Errors
/// [`KeyError`] if there is no telling which key is meant.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<Key>, KeyError> {
    let mut found: Option<Key> = None;
    for value in headers.get_all(IDEMPOTENCY_KEY) {
        let key = parse(value.as_bytes())?;
        match &found {
            Some(first) if *first != key => return Err(KeyError::Different),
            _ => found = Some(key),
        }
    }
    Ok(found)
}

/// The key in a field's value: bare, or a quoted string with optional parameters.
///
/// # Errors
/// [`KeyError`] says which rule it breaks.
pub(super) fn parse(value: &[u8]) -> Result<Key, KeyError> {
    let value = value.trim_ascii();
    if value.first() == Some(&b'"') {
        return parse_quoted(value);
    }
    for byte in value {
        match byte {
            b',' => return Err(KeyError::List),
            b';' => return Err(KeyError::BareParameters),
            b'"' => return Err(KeyError::StrayQuote),
            0x21..=0x7e => {}
            _ => return Err(KeyError::NotAscii),
        }
    }
    checked(std::str::from_utf8(value).map_err(|_| KeyError::NotAscii)?)
}

fn parse_quoted(value: &[u8]) -> Result<Key, KeyError> {
    if value.iter().any(|byte| !matches!(byte, 0x20..=0x7e)) {
        return Err(KeyError::NotAscii);
    }
    let item: sfv::Item = match sfv::Parser::new(value).parse() {
        Ok(item) => item,
        Err(_) if sfv::Parser::new(value).parse::<sfv::List>().is_ok() => return Err(KeyError::List),
        Err(_) => return Err(KeyError::Quoting),
    };
    checked(item.bare_item.as_string().ok_or(KeyError::Quoting)?.as_str())
}

fn checked(text: &str) -> Result<Key, KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    // Only visible ASCII and spaces come here, so that its length is all that can be wrong.
    Key::new(text).map_err(|_| KeyError::TooLong)
}

/// Refuses a head that says "drop this field" of a field that must not be dropped, or announces the key as a trailer.
///
/// # Errors
/// [`KeyError::ProtectedField`], [`KeyError::Trailer`].
pub(super) fn check_head(headers: &HeaderMap, scope_header: Option<&HeaderName>) -> Result<(), KeyError> {
    for token in tokens(headers, &CONNECTION) {
        if is_protected(token, scope_header) {
            return Err(KeyError::ProtectedField(
                String::from_utf8_lossy(token).to_ascii_lowercase(),
            ));
        }
    }
    if tokens(headers, &TRAILER).any(|token| token.eq_ignore_ascii_case(IDEMPOTENCY_KEY.as_str().as_bytes())) {
        return Err(KeyError::Trailer);
    }
    Ok(())
}

/// The comma-separated tokens of all fields of a name.
pub(super) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value: &HeaderValue| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn is_protected(token: &[u8], scope_header: Option<&HeaderName>) -> bool {
    const PROTECTED: [HeaderName; 7] = [
        IDEMPOTENCY_KEY,
        AUTHORIZATION,
        CONTENT_TYPE,
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        COOKIE,
        HOST,
    ];
    PROTECTED
        .iter()
        .chain(scope_header)
        .any(|name| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
        || token
            .get(..6)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"hapax-"))
}

#[cfg(test)]
mod tests;
