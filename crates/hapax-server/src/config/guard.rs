//! `[guard."TABLE"]`: natural keys of the user's own tables, for `hapax doctor`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::values::text_value;

/// Tables and what makes a row of each the same row.
pub(crate) type Guards = BTreeMap<TableName, Guard>;

/// What is known of a table of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guard {
    /// The columns that together are the same for a repetition, and for nothing else.
    pub(crate) natural_key: NaturalKey,
}

/// One or more names of columns, none of them twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct NaturalKey(Vec<String>);

impl NaturalKey {
    pub(crate) fn columns(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for NaturalKey {
    type Error = String;

    fn try_from(columns: Vec<String>) -> Result<Self, String> {
        const WRITE: &str = "write natural_key = [\"customer_id\", \"client_order_id\"]";
        if columns.is_empty() {
            return Err(format!("a natural key of no columns; {WRITE}"));
        }
        for (at, column) in columns.iter().enumerate() {
            if column.is_empty() || column.contains('\0') {
                return Err(format!("{column:?} is no name of a column; {WRITE}"));
            }
            if columns[..at].contains(column) {
                return Err(format!("the column {column:?} twice; name each column of the key once"));
            }
        }
        Ok(Self(columns))
    }
}

/// `table` or `schema.table`, as the database's catalog spells them; a part with a dot in it in double quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableName {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

text_value!(
    TableName,
    "a table such as \"orders\" or \"shop.orders\"",
    "shop.orders"
);

impl FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no table; write [guard.\"orders\"] or [guard.\"shop.orders\"]");
        let mut parts = parts(text).ok_or_else(wrong)?;
        let table = parts.pop().ok_or_else(wrong)?;
        let schema = parts.pop();
        if !parts.is_empty() {
            return Err(wrong());
        }
        Ok(Self { schema, table })
    }
}

/// The dotted parts of a name, quotes taken off; `None` if there is an empty one or a stray quote.
fn parts(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut end = quoted.find('"')?;
            while quoted[end + 1..].starts_with('"') {
                end += 2 + quoted[end + 2..].find('"')?;
            }
            part = quoted[..end].replace("\"\"", "\"");
            rest = &quoted[end + 1..];
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            part = rest[..end].to_owned();
            rest = &rest[end..];
            if part.contains('"') {
                return None;
            }
        }
        if part.is_empty() || part.contains('\0') {
            return None;
        }
        parts.push(part);
        if rest.is_empty() {
            return Some(parts);
        }
        rest = rest.strip_prefix('.')?;
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &str| match part.contains(['.', '"']) {
            true => format!("\"{}\"", part.replace('"', "\"\"")),
            false => part.to_owned(),
        };
        if let Some(schema) = &self.schema {
            write!(f, "{}.", part(schema))?;
        }
        f.write_str(&part(&self.table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Source;

    #[test]
    fn tables_are_read_and_written() {
        for (text, schema, table) in [
            ("orders", None, "orders"),
            ("shop.orders", Some("shop"), "orders"),
            ("\"a.b\".orders", Some("a.b"), "orders"),
            ("\"a\"\"b\"", None, "a\"b"),
            ("Shop.Order Lines", Some("Shop"), "Order Lines"),
        ] {
            let name: TableName = text.parse().unwrap();
            assert_eq!((name.schema.as_deref(), &*name.table), (schema, table), "{text}");
            assert_eq!(name.to_string(), text);
        }
        for text in ["", ".", "a.", ".a", "a.b.c", "\"a", "\"a\"b", "a\"b"] {
            assert!(text.parse::<TableName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_has_columns_and_each_once() {
        let config = Source::of("[guard.\"shop.orders\"]\nnatural_key = [\"customer_id\", \"client_order_id\"]")
            .parse()
            .unwrap();
        let (table, guard) = config.guard.first_key_value().unwrap();
        assert_eq!(table.to_string(), "shop.orders");
        assert_eq!(guard.natural_key.columns(), ["customer_id", "client_order_id"]);
        let again = Source::of(&config.to_toml().unwrap()).parse().unwrap();
        assert_eq!(again.guard, config.guard);
        for (text, part) in [
            ("[guard.orders]\nnatural_key = []", "no columns"),
            ("[guard.orders]\nnatural_key = [\"a\", \"b\", \"a\"]", "\"a\" twice"),
            ("[guard.orders]\nnatural_key = [\"\"]", "no name of a column"),
            ("[guard.orders]\nnatural_keys = [\"a\"]", "did you mean `natural_key`?"),
            ("[guard.orders]", "`natural_key` is missing"),
            ("[guard.\"a.b.c\"]\nnatural_key = [\"a\"]", "is no table"),
        ] {
            let error = Source::of(text).parse().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
