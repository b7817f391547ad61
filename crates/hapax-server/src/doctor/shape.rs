//! A table as far as its natural key is concerned, whatever the database.

/// How SQL is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Mysql,
    Sqlite,
}

impl Dialect {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// A name as SQL takes it, whatever is in it.
    pub(super) fn quoted(self, name: &str) -> String {
        match self {
            Self::Mysql => format!("`{}`", name.replace('`', "``")),
            Self::Postgres | Self::Sqlite => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// Names in a list.
    pub(super) fn list<S: AsRef<str>>(self, names: &[S]) -> String {
        let quoted: Vec<String> = names.iter().map(|name| self.quoted(name.as_ref())).collect();
        quoted.join(", ")
    }
}

/// A table of the user's.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) dialect: Dialect,
    /// The schema or database that it is in, if the dialect has any.
    pub(super) schema: Option<String>,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) uniques: Vec<Unique>,
    /// The columns (or expressions) that it is partitioned by; none if it is whole.
    pub(super) partitioned_by: Vec<String>,
    /// It has child tables that its indexes do not reach.
    pub(super) has_heirs: bool,
    /// The server can treat nulls as equal in a unique index.
    pub(super) can_equate_nulls: bool,
    /// The server has collations that compare bytes and pad nothing under the names of MariaDB.
    pub(super) can_pad_none: bool,
}

impl Table {
    /// For people: as it is declared.
    pub(super) fn shown(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// For SQL.
    pub(super) fn sql(&self) -> String {
        let name = self.dialect.quoted(&self.name);
        match &self.schema {
            Some(schema) => format!("{}.{name}", self.dialect.quoted(schema)),
            None => name,
        }
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// Its type, as a definition writes it.
    pub(super) kind: String,
    /// No row can have it null.
    pub(super) not_null: bool,
    /// The database fills it in with something new for each row, in these words.
    pub(super) made: Option<String>,
    /// Why two values that were sent as the same may differ here, or differing ones may be the same.
    pub(super) imprecise: Option<String>,
    /// It is computed from these columns.
    pub(super) computed_from: Vec<String>,
}

/// An index or constraint that lets no two rows be the same.
#[derive(Debug, Clone)]
pub(super) struct Unique {
    pub(super) name: String,
    /// `ALTER TABLE … DROP CONSTRAINT` removes it, not `DROP INDEX`.
    pub(super) is_constraint: bool,
    pub(super) parts: Vec<Part>,
    /// It holds for these rows only.
    pub(super) predicate: Option<String>,
    /// Why the database does not keep it, yet or any more.
    pub(super) invalid: Option<String>,
    /// Two nulls are two values.
    pub(super) nulls_differ: bool,
    pub(super) is_deferrable: bool,
    /// What happens to a row that offends it, where that is no error.
    pub(super) on_conflict: Option<String>,
}

/// What a unique index compares.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Column {
        name: String,
        /// Why it takes differing values for the same (a collation); none if it takes them as they are.
        coarse: Option<String>,
        /// Only so many characters or bytes count.
        prefix: Option<u64>,
    },
    Expression {
        text: String,
        /// The columns that it may read; none known: it may read anything.
        columns: Vec<String>,
    },
}

impl Part {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Column { name, .. } => name,
            Self::Expression { text, .. } => text,
        }
    }
}
