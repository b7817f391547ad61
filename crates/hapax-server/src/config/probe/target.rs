//! The request of a probe: a method that changes nothing, and a path with places for the operation's names.

use std::fmt;
use std::str::FromStr;

use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

/// `GET /orders/by-key/{key}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeRequest {
    pub(crate) method: Method,
    pub(crate) parts: Vec<Part>,
}

/// A piece of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Place(Placeholder),
}

/// What is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// The idempotency key.
    Key,
    /// The name of the operation: the route's.
    Name,
    /// The operation's id, as the backend was told in `Hapax-Operation`.
    Operation,
}

impl Placeholder {
    const ALL: [Self; 3] = [Self::Key, Self::Name, Self::Operation];

    fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Name => "name",
            Self::Operation => "operation",
        }
    }
}

impl ProbeRequest {
    /// The path and query, with every place filled in, percent-encoded.
    pub(crate) fn path(&self, fill: impl Fn(Placeholder) -> String) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Place(place) => {
                    for byte in fill(*place).bytes() {
                        match byte {
                            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                                path.push(char::from(byte));
                            }
                            _ => path.push_str(&format!("%{byte:02X}")),
                        }
                    }
                }
            }
        }
        path
    }
}

impl FromStr for ProbeRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write a method and a path, such as GET /orders/by-key/{key}";
        let (method, path) = text
            .trim()
            .split_once(' ')
            .ok_or_else(|| format!("{text:?} is no request; {WRITE}"))?;
        let method = match method {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            _ => {
                return Err(format!(
                    "a probe cannot be a {method} request, which may change something; write GET or HEAD"
                ));
            }
        };
        let path = path.trim();
        if !path.starts_with('/') || path.contains([' ', '#']) || !path.is_ascii() {
            return Err(format!("{path:?} is no path; {WRITE}"));
        }
        let parts = parts(path)?;
        let names_one = |part: &Part| matches!(part, Part::Place(Placeholder::Key | Placeholder::Operation));
        if !parts.iter().any(names_one) {
            return Err(format!(
                "the probe {text:?} asks the same for every operation; put {{key}} or {{operation}} where it says which"
            ));
        }
        let request = Self { method, parts };
        request
            .path(|_| "x".to_owned())
            .parse::<http::Uri>()
            .map_err(|error| format!("{path:?} is no path ({error}); {WRITE}"))?;
        Ok(request)
    }
}

fn parts(path: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = path;
    while let Some(open) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(open);
        let word = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let known = word.and_then(|(word, _)| Placeholder::ALL.into_iter().find(|place| place.as_str() == word));
        let (Some((_, after)), Some(place)) = (word, known) else {
            let wrong = word.map_or(after, |(word, _)| word);
            return Err(format!(
                "the placeholder {wrong:?} is not known; write {{key}}, {{name}} or {{operation}}"
            ));
        };
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Place(place));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

impl fmt::Display for ProbeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.method)?;
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Place(place) => write!(f, "{{{}}}", place.as_str())?,
            }
        }
        Ok(())
    }
}

impl Serialize for ProbeRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ProbeRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for ProbeRequest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProbeRequest".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "GET or HEAD, and a path with {key}, {name} or {operation}",
            "examples": ["GET /orders/by-key/{key}"]
        })
    }
}
