//! The fingerprint of a request: keyed BLAKE3 over method, path, query, content type, content encoding and body.
//!
//! A JSON body counts in its canonical form (RFC 8785), so that key order, white space and the notation of numbers do
//! not matter, less the fields that the recipe ignores, or only the ones that it selects. Where the canonical form
//! would lose something (see [`json`](self)), and for bodies of any other type or with a content encoding, the bytes
//! count as they are: ignored fields count then too. No body and an empty body are the same, as they are to HTTP/2.

mod json;
mod number;
mod pointer;

use bytes::Bytes;
use hapax_core::{Fingerprint, RecipeId};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Uri};

use json::Json;
pub use pointer::{Pointer, PointerError};

/// What of a request makes its fingerprint, and how. Its text is kept with the records that it made, and is enough to
/// compute their fingerprints again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    fields: Fields,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Fields {
    #[default]
    All,
    But(Vec<Pointer>),
    Only(Vec<Pointer>),
}

impl Recipe {
    /// All of the body.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// All of a JSON body but these fields.
    #[must_use]
    pub fn ignoring(pointers: impl IntoIterator<Item = Pointer>) -> Self {
        Self::of(pointers, Fields::But)
    }

    /// Only these fields of a JSON body.
    #[must_use]
    pub fn selecting(pointers: impl IntoIterator<Item = Pointer>) -> Self {
        Self::of(pointers, Fields::Only)
    }

    fn of(pointers: impl IntoIterator<Item = Pointer>, fields: fn(Vec<Pointer>) -> Fields) -> Self {
        let mut pointers: Vec<_> = pointers.into_iter().collect();
        // One set of fields is one recipe, in whatever order it is written.
        pointers.sort();
        pointers.dedup();
        let fields = if pointers.is_empty() {
            Fields::All
        } else {
            fields(pointers)
        };
        Self { fields }
    }

    /// The text: `v1 json`, `v1 json ignore=/a,/b` or `v1 json select=/a`, with `%`, `,` and all but visible ASCII in
    /// pointers percent-encoded.
    #[must_use]
    pub fn text(&self) -> String {
        let (word, pointers) = match &self.fields {
            Fields::All => return "v1 json".to_owned(),
            Fields::But(pointers) => ("ignore", pointers),
            Fields::Only(pointers) => ("select", pointers),
        };
        let list: Vec<_> = pointers.iter().map(|pointer| encode(pointer.as_str())).collect();
        format!("v1 json {word}={}", list.join(","))
    }

    /// The recipe behind a text; `None` if no version of this program wrote it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("v1 json")?;
        if rest.is_empty() {
            return Some(Self::all());
        }
        let (word, list) = rest.strip_prefix(' ')?.split_once('=')?;
        let pointers: Vec<_> = list
            .split(',')
            .map(|pointer| Pointer::new(&super::percent::decode(pointer)?).ok())
            .collect::<Option<_>>()?;
        match word {
            "ignore" => Some(Self::ignoring(pointers)),
            "select" => Some(Self::selecting(pointers)),
            _ => None,
        }
    }

    /// The body in the form that counts, with a tag that keeps the forms apart.
    fn body<'a>(&self, asked: &'a Asked) -> (u8, std::borrow::Cow<'a, [u8]>) {
        let raw = || (0, asked.body.as_ref().into());
        if !asked.is_json() {
            return raw();
        }
        let Some(mut json) = Json::read(&asked.body) else {
            return raw();
        };
        let mut out = String::with_capacity(asked.body.len());
        match &self.fields {
            Fields::All => json.write(&mut out),
            Fields::But(pointers) => {
                pointers.iter().for_each(|pointer| pointer.remove(&mut json));
                json.write(&mut out);
            }
            Fields::Only(pointers) => pointer::selection(pointers, &json, &mut out),
        }
        (1, out.into_bytes().into())
    }
}

/// What was asked for, as far as it counts.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    content_type: Option<HeaderValue>,
    content_encoding: Option<HeaderValue>,
    body: Bytes,
}

impl Asked {
    pub(super) fn new(parts: &Parts, body: Bytes) -> Self {
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            content_type: parts.headers.get(CONTENT_TYPE).cloned(),
            content_encoding: parts.headers.get(CONTENT_ENCODING).cloned(),
            body,
        }
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether the body is JSON by its type, and not encoded.
    fn is_json(&self) -> bool {
        let encoded = self.content_encoding.as_ref().is_some_and(|value| {
            let value = value.as_bytes().trim_ascii();
            !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
        });
        let Some(content_type) = self.content_type.as_ref().filter(|_| !encoded) else {
            return false;
        };
        let essence = content_type
            .as_bytes()
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        essence.eq_ignore_ascii_case(b"application/json")
            || essence
                .last_chunk::<5>()
                .is_some_and(|end| end.eq_ignore_ascii_case(b"+json"))
    }
}

/// Computes fingerprints under one store's secret.
#[derive(Clone)]
pub(super) struct Fingerprinter {
    key: [u8; 32],
}

impl Fingerprinter {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self {
            key: blake3::derive_key("hapax 2026 http request fingerprint v1", secret),
        }
    }

    pub(super) fn fingerprint(&self, recipe: &Recipe, id: RecipeId, asked: &Asked) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut field = |tag: u8, bytes: &[u8]| {
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(1, asked.method.as_str().as_bytes());
        field(2, asked.uri.path().as_bytes());
        if let Some(query) = asked.uri.query() {
            field(3, query.as_bytes());
        }
        for (tag, header) in [(4, &asked.content_type), (5, &asked.content_encoding)] {
            if let Some(value) = header {
                field(tag, &value.as_bytes().to_ascii_lowercase());
            }
        }
        let (form, body) = recipe.body(asked);
        field(6 + form, &body);
        Fingerprint::new(id, *hasher.finalize().as_bytes())
    }
}

/// The canonical form of a text that is JSON; `None` if it is not, or would lose something.
#[cfg(feature = "consume")]
pub(crate) fn canonical_json(text: &[u8]) -> Option<String> {
    let json = Json::read(text)?;
    let mut out = String::with_capacity(text.len());
    json.write(&mut out);
    Some(out)
}

/// The string or number that a pointer finds in a JSON text.
#[cfg(feature = "consume")]
pub(crate) fn json_text(text: &[u8], pointer: &Pointer) -> Option<String> {
    match pointer.find(&Json::read(text)?)? {
        Json::String(text) | Json::Number(text) => Some(text.to_string()),
        Json::Word(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn encode(pointer: &str) -> String {
    let mut out = String::with_capacity(pointer.len());
    for byte in pointer.bytes() {
        match byte {
            b'%' | b',' => {}
            0x21..=0x7e => {
                out.push(char::from(byte));
                continue;
            }
            _ => {}
        }
        out.push_str(&format!("%{byte:02X}"));
    }
    out
}

#[cfg(test)]
mod tests;
