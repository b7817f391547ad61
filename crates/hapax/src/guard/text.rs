//! The statements' texts.

use super::verdict::{AGAIN, ALREADY_APPLIED, APPLIED, NULL_KEY, REJECTED, STALE};
use super::{Guard, Kind};

/// How parameters and null-safe comparison are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Postgres,
    Sqlite,
}

impl Dialect {
    fn value(self, number: usize) -> String {
        match self {
            Self::Postgres => format!("${number}"),
            Self::Sqlite => format!("?{number}"),
        }
    }

    fn is(self) -> &'static str {
        match self {
            Self::Postgres => "IS NOT DISTINCT FROM",
            Self::Sqlite => "IS",
        }
    }
}

impl Guard<'_> {
    /// The statement for PostgreSQL: gives one row, or none if there is none.
    pub(super) fn postgres_text(&self) -> String {
        let text = Text::new(self, Dialect::Postgres);
        let given = match self.kind {
            Kind::Transition { .. } | Kind::UpdateIfNewer { .. } => String::new(),
            Kind::UpsertIfNewer { .. } | Kind::InsertOrGet => format!("hapax_given AS ({}), ", text.given()),
        };
        format!(
            "WITH {given}hapax_done AS ({}) SELECT * FROM hapax_done UNION ALL {}",
            text.write(),
            text.look(" AND NOT EXISTS (SELECT 1 FROM hapax_done)")
        )
    }

    /// The statements for SQLite: one that writes, and gives the row if it did, and one that tells why not.
    pub(super) fn sqlite_texts(&self) -> [String; 2] {
        let text = Text::new(self, Dialect::Sqlite);
        [text.write(), text.look("")]
    }

    /// What the values are for, in their order.
    pub(super) fn parameters(&self) -> Vec<String> {
        let own = |name: &&str| (*name).to_owned();
        let mut names: Vec<String> = self.key.iter().map(own).collect();
        let mut past = 0;
        match self.kind {
            Kind::Transition { state, past: states } => {
                names.extend([format!("{state} from"), format!("{state} to")]);
                past = states;
            }
            Kind::UpdateIfNewer { version } | Kind::UpsertIfNewer { version } => names.push(version.to_owned()),
            Kind::InsertOrGet => {}
        }
        names.extend(self.set.iter().map(own));
        names.extend((0..past).map(|_| "a state past it".to_owned()));
        names
    }
}

struct Text<'a> {
    guard: &'a Guard<'a>,
    dialect: Dialect,
    /// The table, and its name alone, which qualifies columns: SQLite takes a quoted name of no column for a string
    /// unless it is qualified.
    table: String,
    name: String,
}

impl<'a> Text<'a> {
    fn new(guard: &'a Guard<'a>, dialect: Dialect) -> Self {
        let name = quoted(guard.table);
        let table = match guard.schema {
            Some(schema) => format!("{}.{name}", quoted(schema)),
            None => name.clone(),
        };
        Self {
            guard,
            dialect,
            table,
            name,
        }
    }

    fn column(&self, name: &str) -> String {
        format!("{}.{}", self.name, quoted(name))
    }

    fn value(&self, number: usize) -> String {
        self.dialect.value(number)
    }

    /// The number of the first value of `set`.
    fn first_set(&self) -> usize {
        let own = match self.guard.kind {
            Kind::Transition { .. } => 2,
            Kind::UpdateIfNewer { .. } | Kind::UpsertIfNewer { .. } => 1,
            Kind::InsertOrGet => 0,
        };
        self.guard.key.len() + own + 1
    }

    /// The columns that are written, with their values.
    fn written(&self) -> Vec<(&str, String)> {
        let first = self.guard.key.len() + 1;
        let own = match self.guard.kind {
            Kind::Transition { state, .. } => Some((state, self.value(first + 1))),
            Kind::UpdateIfNewer { version } | Kind::UpsertIfNewer { version } => Some((version, self.value(first))),
            Kind::InsertOrGet => None,
        };
        let set = self.guard.set.iter().enumerate();
        let set = set.map(|(at, name)| (*name, self.value(self.first_set() + at)));
        own.into_iter().chain(set).collect()
    }

    fn key(&self) -> String {
        let equal = |(at, name): (usize, &&str)| format!("{} = {}", self.column(name), self.value(at + 1));
        join(self.guard.key.iter().enumerate().map(equal), " AND ")
    }

    fn null_key(&self) -> String {
        let is_null = |(at, name): (usize, &&str)| match self.dialect {
            Dialect::Postgres => format!("hapax_given.{} IS NULL", quoted(name)),
            Dialect::Sqlite => format!("{} IS NULL", self.value(at + 1)),
        };
        join(self.guard.key.iter().enumerate().map(is_null), " OR ")
    }

    /// The row that is inserted: columns and values.
    fn inserted(&self) -> (String, String) {
        let key = self.guard.key.iter().enumerate();
        let key = key.map(|(at, name)| (*name, self.value(at + 1)));
        let (names, values): (Vec<_>, Vec<_>) = key
            .chain(self.written())
            .map(|(name, value)| (quoted(name), value))
            .unzip();
        (names.join(", "), values.join(", "))
    }

    /// The row that is inserted, on PostgreSQL: values in a SELECT would have no types but for the table's columns.
    fn given(&self) -> String {
        let (names, values) = self.inserted();
        format!(
            "SELECT {names} FROM {} WHERE false UNION ALL SELECT {values}",
            self.table
        )
    }

    /// The statement that writes, with the row that it wrote.
    fn write(&self) -> String {
        let text = match self.guard.kind {
            Kind::Transition { state, .. } => self.update(&format!("{} = {}", self.column(state), self.own_value())),
            Kind::UpdateIfNewer { version } => self.update(&self.is_older(version, &self.own_value())),
            Kind::UpsertIfNewer { version } => {
                let set = self.written().into_iter().map(|(name, _)| quoted(name));
                let set = join(set.map(|name| format!("{name} = excluded.{name}")), ", ");
                let older = self.is_older(version, &format!("excluded.{}", quoted(version)));
                let nulls = self.null_key();
                self.insert(&format!("NOT ({nulls})"), &format!("DO UPDATE SET {set} WHERE {older}"))
            }
            // What is there is looked for first: a conflict would cost a number of the table's sequence.
            Kind::InsertOrGet => {
                let (table, key, nulls) = (&self.table, self.key(), self.null_key());
                let absent = format!("NOT ({nulls}) AND NOT EXISTS (SELECT 1 FROM {table} WHERE {key})");
                self.insert(&absent, "DO NOTHING")
            }
        };
        format!("{text} RETURNING {}, '{APPLIED}' AS hapax_answer", self.returning())
    }

    fn update(&self, condition: &str) -> String {
        let (table, key) = (&self.table, self.key());
        let set = self.written().into_iter();
        let set = join(set.map(|(name, value)| format!("{} = {value}", quoted(name))), ", ");
        format!(
            "UPDATE {table} SET {set} WHERE {key} AND {condition} AND 1 = (SELECT count(*) FROM {table} WHERE {key})"
        )
    }

    fn insert(&self, condition: &str, conflict: &str) -> String {
        let (names, values) = self.inserted();
        let row = match self.dialect {
            Dialect::Postgres => format!("SELECT {names} FROM hapax_given"),
            Dialect::Sqlite => format!("SELECT {values}"),
        };
        let key = join(self.guard.key.iter().map(|name| quoted(name)), ", ");
        let table = &self.table;
        format!("INSERT INTO {table} ({names}) {row} WHERE {condition} ON CONFLICT ({key}) {conflict}")
    }

    /// The value after the key's: `from`, or the version.
    fn own_value(&self) -> String {
        self.value(self.guard.key.len() + 1)
    }

    fn is_older(&self, version: &str, value: &str) -> String {
        let version = self.column(version);
        format!("({version} IS NULL OR {version} < {value})")
    }

    fn returned(&self) -> Vec<&str> {
        match (self.guard.returning, self.guard.kind) {
            ([], Kind::Transition { state: own, .. })
            | ([], Kind::UpdateIfNewer { version: own } | Kind::UpsertIfNewer { version: own }) => vec![own],
            ([], Kind::InsertOrGet) => self.guard.key.to_vec(),
            (asked, _) => asked.to_vec(),
        }
    }

    fn returning(&self) -> String {
        join(self.returned().into_iter().map(|name| self.column(name)), ", ")
    }

    /// The statement that tells why nothing was written.
    fn look(&self, condition: &str) -> String {
        let (table, key, returning) = (&self.table, self.key(), self.returning());
        let answer = self.answer();
        let looked = format!("SELECT {returning}, {answer} AS hapax_answer FROM {table} WHERE {key}{condition}");
        match self.guard.kind {
            Kind::Transition { .. } | Kind::UpdateIfNewer { .. } => looked,
            Kind::UpsertIfNewer { .. } | Kind::InsertOrGet => {
                let nulls = vec!["NULL"; self.returned().len()].join(", ");
                let from = match self.dialect {
                    Dialect::Postgres => " FROM hapax_given",
                    Dialect::Sqlite => "",
                };
                let is_null = self.null_key();
                format!("{looked} UNION ALL SELECT {nulls}, '{NULL_KEY}'{from} WHERE {is_null}")
            }
        }
    }

    fn answer(&self) -> String {
        let own = self.own_value();
        let same = self.same();
        match self.guard.kind {
            Kind::Transition { state, past } => {
                let state = self.column(state);
                let to = self.value(self.guard.key.len() + 2);
                let first = self.first_set() + self.guard.set.len();
                let past = (first..first + past).map(|number| format!("{state} = {}", self.value(number)));
                let past = join(past.map(|past| format!(" WHEN {past} THEN '{STALE}'")), "");
                format!(
                    "CASE WHEN {state} = {to}{same} THEN '{ALREADY_APPLIED}'{past} WHEN {state} = {own} THEN '{AGAIN}' \
                     ELSE '{REJECTED}' END"
                )
            }
            Kind::UpdateIfNewer { version } | Kind::UpsertIfNewer { version } => {
                let version = self.column(version);
                format!(
                    "CASE WHEN {version} > {own} THEN '{STALE}' WHEN {version} = {own}{same} THEN '{ALREADY_APPLIED}' \
                     WHEN {version} IS NULL OR {version} < {own} THEN '{AGAIN}' ELSE '{REJECTED}' END"
                )
            }
            Kind::InsertOrGet => format!("CASE WHEN true{same} THEN '{ALREADY_APPLIED}' ELSE '{REJECTED}' END"),
        }
    }

    fn same(&self) -> String {
        let is = self.dialect.is();
        let written = self.written();
        let same = written.iter().filter(|(name, _)| self.guard.same.contains(name));
        join(
            same.map(|(name, value)| format!(" AND {} {is} {value}", self.column(name))),
            "",
        )
    }
}

fn join(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

/// A name, in double quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
