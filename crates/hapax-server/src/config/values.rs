//! The values of the configuration, each parsed once into a type that cannot be invalid.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hapax::core::Name;
use http::{HeaderName, Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A value that is written as text: `FromStr` reads it, `Display` writes it.
macro_rules! text_value {
    ($type:ident, $expected:literal, $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $expected, "examples": [$example] })
            }
        }
    };
}

pub(super) use text_value;

// After the macro, which they use.
mod measure;
mod store;

pub(crate) use measure::{Period, Size};
pub(crate) use store::{StoreUrl, redact};

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) SocketAddr);

text_value!(
    Address,
    "an IP address and a port such as \"127.0.0.1:7700\"",
    "127.0.0.1:7700"
);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        text.parse().map(Self).map_err(|_| {
            format!("{text:?} is no address; write an IP address and a port, such as 127.0.0.1:7700 or [::1]:7700")
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The backend: `http://HOST:PORT` or `https://HOST:PORT`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpstreamUrl(pub(crate) http::Uri);

text_value!(
    UpstreamUrl,
    "the URL of the backend, such as \"http://127.0.0.1:9000\"",
    "http://127.0.0.1:9000"
);

impl FromStr for UpstreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write http://HOST:PORT or https://HOST:PORT, such as http://127.0.0.1:9000";
        let url: http::Uri = text
            .parse()
            .map_err(|error| format!("{text:?} is no URL ({error}); {WRITE}"))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
            return Err(format!("{text:?} is no URL of a backend; {WRITE}"));
        }
        if url
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(format!("a URL with a user name is not supported; {WRITE}"));
        }
        if url.path_and_query().is_some_and(|path| path != "/") {
            return Err(format!(
                "{text:?} has a path; requests keep the path that the client sent, so {WRITE}"
            ));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

/// Whose key a request's key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScopeSource {
    /// The digest of a header's value.
    Header(HeaderName),
    /// The digest of issuer and claim of a verified JWT.
    Jwt(String),
    /// One tenant.
    None,
}

text_value!(
    ScopeSource,
    "a scope: \"header:NAME\", \"jwt:CLAIM\" or \"none\"",
    "header:Authorization"
);

impl FromStr for ScopeSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write header:NAME (such as header:Authorization), jwt:CLAIM (such as jwt:sub), or none";
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            Some(("header", name)) => name
                .parse()
                .map(Self::Header)
                .map_err(|_| format!("{name:?} is no header name; {WRITE}")),
            Some(("jwt", claim)) if !claim.is_empty() => Ok(Self::Jwt(claim.to_owned())),
            _ => Err(format!("the scope {text:?} is not known; {WRITE}")),
        }
    }
}

impl fmt::Display for ScopeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Jwt(claim) => write!(f, "jwt:{claim}"),
            Self::None => f.write_str("none"),
        }
    }
}

/// The status of a final answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Status(pub(crate) StatusCode);

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.trim()
            .parse::<u16>()
            .ok()
            .filter(|status| (200..600).contains(status))
            .and_then(|status| StatusCode::from_u16(status).ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no final status; write a number from 200 to 599"))
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0.as_u16())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Status;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as 409")
            }
            fn visit_i64<E: Error>(self, status: i64) -> Result<Status, E> {
                status.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl JsonSchema for Status {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 200, "maximum": 599 })
    }
}

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(pub(crate) String);

text_value!(Pointer, "a JSON pointer such as \"/meta/sent_at\"", "/meta/sent_at");

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!(
                "{text:?} is no JSON pointer: it begins with a slash, such as /meta/sent_at"
            ));
        }
        let bad = text
            .match_indices('~')
            .any(|(at, _)| !matches!(text.as_bytes().get(at + 1), Some(b'0' | b'1')));
        if bad {
            return Err(format!(
                "{text:?} is no JSON pointer: write ~0 for a tilde and ~1 for a slash within a name"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A method that a key can protect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verb(pub(crate) Method);

text_value!(Verb, "a method such as \"POST\"", "POST");

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "POST" => Ok(Self(Method::POST)),
            "PATCH" => Ok(Self(Method::PATCH)),
            "PUT" => Ok(Self(Method::PUT)),
            "DELETE" => Ok(Self(Method::DELETE)),
            _ => Err(format!(
                "{text:?} cannot be protected; write POST, PATCH, PUT or DELETE"
            )),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a route's operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteName(pub(crate) Name);

text_value!(RouteName, "a name such as \"create-order\"", "create-order");

impl FromStr for RouteName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Name::new(text).map(Self).map_err(|error| error.to_string())
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header(pub(crate) HeaderName);

text_value!(Header, "a header name such as \"X-Request-Cost\"", "X-Request-Cost");

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is no header name"))
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file, as its path is written; relative to the directory that the program is started in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File(pub(crate) PathBuf);

text_value!(File, "the path of a file", "server.pem");

impl File {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for File {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path of the file is empty".to_owned());
        }
        Ok(Self(PathBuf::from(text)))
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
