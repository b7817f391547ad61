//! Which database is meant.

use std::path::PathBuf;
use std::str::FromStr;

use crate::config::values::redact;

/// A database to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The URL, password included.
    Postgres(String),
    /// The URL, password included.
    Mysql(String),
    Sqlite(SqliteFile),
}

/// A file, and what the URL says of connections to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqliteFile {
    pub(super) path: PathBuf,
    pub(super) parameters: Vec<(String, String)>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:FILE";
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "postgres" | "postgresql" => Ok(Self::Postgres(text.to_owned())),
            "mysql" | "mariadb" => Ok(Self::Mysql(text.to_owned())),
            "sqlite" | "file" => {
                let rest = &text[scheme.len() + 1..];
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path == ":memory:" {
                    return Err(format!("{text:?} names no file; {WRITE}"));
                }
                let pairs = query.split('&').filter(|pair| !pair.is_empty());
                let parameters = pairs
                    .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                Ok(Self::Sqlite(SqliteFile {
                    path: PathBuf::from(path),
                    parameters,
                }))
            }
            _ => Err(format!("{:?} is no database; {WRITE}", redact(text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_told_apart() {
        let file = |path: &str, parameters: &[(&str, &str)]| {
            let parameters = parameters
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect();
            Target::Sqlite(SqliteFile {
                path: PathBuf::from(path),
                parameters,
            })
        };
        for (text, target) in [
            ("sqlite:a.db", file("a.db", &[])),
            ("sqlite:///tmp/a.db", file("/tmp/a.db", &[])),
            (
                "file:a.db?_sync=0&mode=ro",
                file("a.db", &[("_sync", "0"), ("mode", "ro")]),
            ),
            ("postgres://u@h/d", Target::Postgres("postgres://u@h/d".to_owned())),
            ("mysql://u@h/d", Target::Mysql("mysql://u@h/d".to_owned())),
            ("mariadb://u@h/d", Target::Mysql("mariadb://u@h/d".to_owned())),
        ] {
            assert_eq!(text.parse::<Target>().unwrap(), target, "{text}");
        }
        for text in ["", "a.db", "sqlite:", "sqlite::memory:", "oracle://u:s3cret@h/d"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains("write ") && !error.contains("s3cret"), "{error}");
        }
    }
}
