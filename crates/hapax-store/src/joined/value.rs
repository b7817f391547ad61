//! What goes into our statements and what comes back, whichever driver carries it.

use bytes::Bytes;

/// A value for a parameter. `None` is NULL of that type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A 64-bit number.
    Int(Option<i64>),
    /// A text.
    Text(Option<&'a str>),
    /// Bytes.
    Bytes(Option<&'a [u8]>),
    /// A truth value; 0 or 1 where the database has none.
    Bool(bool),
}

macro_rules! from {
    ($($type:ty => $variant:ident),+) => {
        $(impl<'a> From<$type> for Value<'a> {
            fn from(value: $type) -> Self {
                Self::$variant(Some(value))
            }
        }

        impl<'a> From<Option<$type>> for Value<'a> {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value)
            }
        })+
    };
}

from!(i64 => Int, &'a str => Text, &'a [u8] => Bytes);

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self::Bytes(Some(value))
    }
}

/// A value in a row. Small numbers and truth values come as 64-bit numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(Box<str>),
    /// Bytes.
    Bytes(Bytes),
}

/// A row: its values in the order of the statement's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Vec<Cell>);

/// What is wrong with a row.
pub(super) type Wrong = &'static str;

impl Row {
    pub(super) fn int(&self, column: usize) -> Result<Option<i64>, Wrong> {
        match self.0.get(column) {
            Some(Cell::Int(number)) => Ok(Some(*number)),
            Some(Cell::Null) => Ok(None),
            _ => Err("a number of another type"),
        }
    }

    pub(super) fn must_int(&self, column: usize) -> Result<i64, Wrong> {
        self.int(column)?.ok_or("a missing number")
    }

    pub(super) fn text(&self, column: usize) -> Result<Option<&str>, Wrong> {
        match self.0.get(column) {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) => Ok(None),
            _ => Err("a text of another type"),
        }
    }

    pub(super) fn bytes(&self, column: usize) -> Result<Option<&Bytes>, Wrong> {
        match self.0.get(column) {
            Some(Cell::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Cell::Null) => Ok(None),
            _ => Err("bytes of another type"),
        }
    }

    pub(super) fn digest<const N: usize>(&self, column: usize) -> Result<[u8; N], Wrong> {
        let bytes = self.bytes(column)?.ok_or("a missing digest")?;
        bytes[..].try_into().map_err(|_| "a digest of another length")
    }
}
