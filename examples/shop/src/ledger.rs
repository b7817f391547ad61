//! The oracle: reads the shop's database from outside and counts what really happened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::shop::Error;

/// One committed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// `order`, `payment` or `points`.
    pub kind: String,
    /// The row's id, unique within its kind.
    pub id: i64,
    /// `Idempotency-Key` as received, quotes included.
    pub key: Option<String>,
    /// `Hapax-Operation` as received.
    pub operation: Option<String>,
    /// `Hapax-Fence` as received.
    pub fence: Option<String>,
    /// When the row was written: milliseconds since 1970 by SQLite's clock.
    pub created_ms: i64,
}

impl Effect {
    /// The key without the quotes and escapes of its quoted form, so that both forms of one key
    /// count as one.
    pub fn bare_key(&self) -> Option<String> {
        self.key.as_deref().map(bare)
    }
}

/// Effects that share a kind and a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Double {
    /// `order`, `payment` or `points`.
    pub kind: String,
    /// The key in its bare form.
    pub key: String,
    /// Two or more, in the order of their ids.
    pub effects: Vec<Effect>,
}

/// A read-only view of a shop's database, which may be in use, closed, or left by a killed shop.
/// Each call sees one consistent state.
#[derive(Debug)]
pub struct Ledger {
    conn: Connection,
    path: PathBuf,
}

impl Ledger {
    /// Opens the database at `path`.
    ///
    /// # Errors
    /// Where there is no readable shop database at `path`.
    pub fn open(path: impl AsRef<Path>) -> Result<Ledger, Error> {
        let path = path.as_ref().to_owned();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |source| Error::Database {
            path: path.clone(),
            doing: "opening",
            source,
        };
        let conn = Connection::open_with_flags(&path, flags).map_err(failed)?;
        let ledger = Ledger { conn, path };
        // SQLite opens lazily: asking once makes a wrong file an error here.
        ledger.total_effects()?;
        Ok(ledger)
    }

    /// How many effects there are, with and without a key.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub fn total_effects(&self) -> Result<u64, Error> {
        self.conn
            .query_row("SELECT count(*) FROM effect", [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(|source| self.failed(source))
    }

    /// Every effect, by kind and id.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub fn effects(&self) -> Result<Vec<Effect>, Error> {
        self.read_effects().map_err(|source| self.failed(source))
    }

    /// How many effects each key had, over all kinds; keys in their bare form. Effects without a
    /// key are left out.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub fn effects_by_key(&self) -> Result<BTreeMap<String, u64>, Error> {
        let mut counts = BTreeMap::new();
        for key in self.effects()?.iter().filter_map(Effect::bare_key) {
            *counts.entry(key).or_default() += 1;
        }
        Ok(counts)
    }

    /// The keys that had more than one effect of the same kind. Clients that share a key by
    /// chance are not told apart: give every operation of a test a key of its own.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub fn doubles(&self) -> Result<Vec<Double>, Error> {
        let mut groups: BTreeMap<(String, String), Vec<Effect>> = BTreeMap::new();
        for effect in self.effects()? {
            if let Some(key) = effect.bare_key() {
                groups.entry((effect.kind.clone(), key)).or_default().push(effect);
            }
        }
        let doubles = groups.into_iter().filter(|(_, effects)| effects.len() > 1);
        Ok(doubles
            .map(|((kind, key), effects)| Double { kind, key, effects })
            .collect())
    }

    /// Pieces of `item` left, or `None` where the shop does not sell it.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub fn stock_left(&self, item: &str) -> Result<Option<i64>, Error> {
        let sql = "SELECT on_hand FROM stock WHERE item = ?1";
        self.conn
            .query_row(sql, [item], |row| row.get(0))
            .optional()
            .map_err(|source| self.failed(source))
    }

    fn read_effects(&self) -> rusqlite::Result<Vec<Effect>> {
        let sql = "SELECT kind, id, idempotency_key, operation, fence, created_ms
                   FROM effect ORDER BY kind, id";
        let mut statement = self.conn.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Effect {
                kind: row.get(0)?,
                id: row.get(1)?,
                key: row.get(2)?,
                operation: row.get(3)?,
                fence: row.get(4)?,
                created_ms: row.get(5)?,
            })
        })?;
        rows.collect()
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Database {
            path: self.path.clone(),
            doing: "reading effects",
            source,
        }
    }
}

/// Text that is no quoted string is its own bare form.
fn bare(key: &str) -> String {
    let inner = key.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else { return key.to_owned() };
    let mut bare = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => bare.extend(chars.next()),
            c => bare.push(c),
        }
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn quoted_and_bare_keys_are_the_same() {
        let table = [
            ("k-1", "k-1"),
            (r#""k-1""#, "k-1"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r#"""#, r#"""#),
            (r#""open"#, r#""open"#),
            ("", ""),
        ];
        for (received, expected) in table {
            assert_eq!(bare(received), expected, "{received}");
        }
    }
}
