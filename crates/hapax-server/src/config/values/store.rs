//! The URL of a store, which may hold a password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// Where records live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    Sqlite(PathBuf),
    /// The connection URL, password included.
    Postgres(String),
    /// Forgets everything when the process ends.
    Memory,
}

text_value!(
    StoreUrl,
    "a store: \"sqlite:FILE\" or \"postgres://USER@HOST/DATABASE\"",
    "sqlite:hapax.db"
);

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write sqlite:FILE (such as sqlite:hapax.db) or postgres://USER@HOST/DATABASE";
        if let Some(path) = text.strip_prefix("sqlite:") {
            // `sqlite:///absolute/path` as other tools write it.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(format!("{text:?} names no file; {WRITE}"));
            }
            if path.contains(":memory:") || path.contains('?') {
                return Err(format!("{text:?} is no file; {WRITE}"));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        Err(format!("{:?} is no store; {WRITE}", redact(text)))
    }
}

/// Without the password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&redact(url)),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

/// A URL with `***` for its password, in the authority and among the parameters, and for a token of NATS.
pub(crate) fn redact(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, query)) => (url, Some(query)),
        None => (url, None),
    };
    let mut shown = match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => match url[scheme + 3..at].split_once(':') {
            Some((user, _)) => format!("{}{user}:***{}", &url[..scheme + 3], &url[at..]),
            // Alone it is a token there.
            None if matches!(&url[..scheme], "nats" | "tls") => format!("{}***{}", &url[..scheme + 3], &url[at..]),
            None => url.to_owned(),
        },
        _ => url.to_owned(),
    };
    for (i, pair) in query.iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if i == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if name.eq_ignore_ascii_case("password") => {
                shown.push_str(name);
                shown.push_str("=***");
            }
            _ => shown.push_str(pair),
        }
    }
    shown
}
