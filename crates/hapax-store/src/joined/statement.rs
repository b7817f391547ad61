//! Our statements, each for one operation.

use std::borrow::Cow;

/// A statement of ours. Its parameters are numbered from 1.
#[derive(Debug)]
pub struct Statement {
    name: &'static str,
    text: Cow<'static, str>,
    #[cfg(feature = "postgres")]
    types: Vec<::tokio_postgres::types::Type>,
}

impl Statement {
    #[cfg(feature = "sqlite")]
    pub(super) const fn sqlite(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            text: Cow::Borrowed(text),
            #[cfg(feature = "postgres")]
            types: Vec::new(),
        }
    }

    /// The store's statement for many operations, made one for a single operation: a row of values instead of arrays.
    #[cfg(feature = "postgres")]
    pub(super) fn single(sql: &crate::postgres::Sql) -> Self {
        use ::tokio_postgres::types::{Kind, Type};
        let types = sql.types.iter().map(|r#type| match r#type.kind() {
            // Numbers come as 64-bit ones; the statement casts them.
            Kind::Array(Type::INT4) => Type::INT8,
            Kind::Array(member) => member.clone(),
            _ => r#type.clone(),
        });
        Self {
            name: sql.name,
            types: types.collect(),
            text: Cow::Owned(single_row(sql.text)),
        }
    }

    /// A statement of the store that takes no arrays, as it is.
    #[cfg(feature = "postgres")]
    pub(super) fn same(sql: &crate::postgres::Sql) -> Self {
        Self {
            name: sql.name,
            text: Cow::Borrowed(sql.text),
            types: sql.types.to_vec(),
        }
    }

    /// Its file's name without `.sql`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The types of its parameters in PostgreSQL; empty for SQLite.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn types(&self) -> &[::tokio_postgres::types::Type] {
        &self.types
    }
}

/// Makes `unnest($1::bigint[], ...) WITH ORDINALITY AS i(...)` into `(VALUES ($1::bigint, ..., 1::bigint)) AS i(...)`.
/// The planner takes a single row of values for constants.
#[cfg(feature = "postgres")]
fn single_row(text: &str) -> String {
    const UNNEST: &str = "unnest(";
    const ORDINALITY: &str = "WITH ORDINALITY";
    let Some((before, after)) = text.split_once(UNNEST) else {
        return text.to_owned();
    };
    // The arguments hold no brackets of this kind.
    let Some((arrays, after)) = after.split_once(')') else {
        return text.to_owned();
    };
    let values = arrays.replace("[]", "");
    match after.trim_start().strip_prefix(ORDINALITY) {
        Some(after) => format!("{before}(VALUES ({values}, 1::bigint)){after}"),
        None => format!("{before}(VALUES ({values})){after}"),
    }
}
