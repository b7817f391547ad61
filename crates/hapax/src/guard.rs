//! Guarded writes to the user's own tables: a message that comes twice, late, or out of order changes nothing.
//!
//! A guard is a table, the key of one row in it, and what has to be so before that row is written. Each is one statement
//! in the caller's transaction, so that nothing comes between the look and the write, and answers with one of four words
//! ([`Guarded`]):
//!
//! | guard | [`Applied`] | [`AlreadyApplied`] | [`Stale`] | [`Rejected`] |
//! |---|---|---|---|---|
//! | [`transition`] | it was in `from` | it is in `to` | it is in a state past `to` | it is in another state, or not there |
//! | [`update_if_newer`] | its version was lower, or null | it has this version | its version is higher | it is not there |
//! | [`upsert_if_newer`] | the same, or it was not there | it has this version | its version is higher | never |
//! | [`insert_or_get`] | it was not there | it is there | never | never |
//!
//! [`same`] lists columns that must have the given values for `AlreadyApplied`; if one differs, what came is not a
//! repetition but something else under the same name, and the answer is `Rejected`.
//!
//! ```no_run
//! # async fn example(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use hapax::guard::{Guard, Guarded};
//! use tokio_postgres::types::Type;
//!
//! const SHIP: Guard = Guard::transition("orders", &["id"], "state").set(&["tracking"]).past(1);
//!
//! let transaction = client.transaction().await?;
//! let told = SHIP
//!     .tokio_postgres(
//!         &transaction,
//!         &[
//!             (&7_i64, Type::INT8),         // id
//!             (&"paid", Type::TEXT),        // from
//!             (&"shipped", Type::TEXT),     // to
//!             (&"T-1", Type::TEXT),         // tracking
//!             (&"delivered", Type::TEXT),   // past `to`
//!         ],
//!     )
//!     .await?;
//! match told.answer {
//!     Guarded::Applied => println!("shipped"),
//!     Guarded::AlreadyApplied | Guarded::Stale => println!("that was known"),
//!     Guarded::Rejected => match told.row {
//!         Some(row) => println!("an order that is {} cannot be shipped", row.get::<_, &str>("state")),
//!         None => println!("there is no such order"),
//!     },
//! }
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Concurrency
//!
//! At READ COMMITTED, a statement whose row another transaction is writing waits for it, looks at what it left, and
//! answers by that. At REPEATABLE READ and SERIALIZABLE the database fails it instead:
//! [`Fault::Conflict`](hapax_store::joined::Fault::Conflict), to be run again from the top. On SQLite, begin with
//! `BEGIN IMMEDIATE`; the reason why nothing was written is read by a second statement, which sees the same.
//!
//! The guards that insert need a unique index on exactly the key's columns; `hapax doctor` looks for it. A guard whose
//! key names several rows writes none of them and fails.
//!
//! [`Applied`]: Guarded::Applied
//! [`AlreadyApplied`]: Guarded::AlreadyApplied
//! [`Stale`]: Guarded::Stale
//! [`Rejected`]: Guarded::Rejected
//! [`transition`]: Guard::transition
//! [`update_if_newer`]: Guard::update_if_newer
//! [`upsert_if_newer`]: Guard::upsert_if_newer
//! [`insert_or_get`]: Guard::insert_or_get
//! [`same`]: Guard::same

mod drivers;
mod error;
#[cfg_attr(
    not(all(feature = "rusqlite", feature = "tokio-postgres")),
    allow(dead_code, reason = "a driver has one dialect")
)]
mod text;
mod verdict;

pub use error::GuardError;

/// What a guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guarded {
    /// The row was written.
    Applied,
    /// It is as if it had been written by this: a repetition.
    AlreadyApplied,
    /// The row is further on than this: what came is late.
    Stale,
    /// It cannot be applied to the row as it is, or there is no row.
    Rejected,
}

/// What a guard says, with the row as it is after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<R> {
    /// What was done.
    pub answer: Guarded,
    /// The columns of [`Guard::returning`], followed by one of hapax's; `None` if there is no row of that key.
    pub row: Option<R>,
}

/// A guarded write. Its names are quoted, and spelt as in the database's catalog; its values are parameters, in this
/// order: the key's, then `from` and `to`, or the version, then those of [`set`](Self::set), then the states
/// [`past`](Self::past) `to`.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    kind: Kind<'a>,
    schema: Option<&'a str>,
    table: &'a str,
    key: &'a [&'a str],
    set: &'a [&'a str],
    same: &'a [&'a str],
    returning: &'a [&'a str],
}

#[derive(Debug, Clone, Copy)]
enum Kind<'a> {
    Transition { state: &'a str, past: usize },
    UpdateIfNewer { version: &'a str },
    UpsertIfNewer { version: &'a str },
    InsertOrGet,
}

impl<'a> Guard<'a> {
    const fn new(kind: Kind<'a>, table: &'a str, key: &'a [&'a str]) -> Self {
        Self {
            kind,
            schema: None,
            table,
            key,
            set: &[],
            same: &[],
            returning: &[],
        }
    }

    /// Moves the row from one state to another.
    #[must_use]
    pub const fn transition(table: &'a str, key: &'a [&'a str], state: &'a str) -> Self {
        Self::new(Kind::Transition { state, past: 0 }, table, key)
    }

    /// Writes the row if its version is lower than the given one. Versions are numbers, or whatever else the database
    /// orders as it was written.
    #[must_use]
    pub const fn update_if_newer(table: &'a str, key: &'a [&'a str], version: &'a str) -> Self {
        Self::new(Kind::UpdateIfNewer { version }, table, key)
    }

    /// The same, and inserts the row if it is not there.
    #[must_use]
    pub const fn upsert_if_newer(table: &'a str, key: &'a [&'a str], version: &'a str) -> Self {
        Self::new(Kind::UpsertIfNewer { version }, table, key)
    }

    /// Inserts a row of this natural key, or gives the one that is there.
    #[must_use]
    pub const fn insert_or_get(table: &'a str, key: &'a [&'a str]) -> Self {
        Self::new(Kind::InsertOrGet, table, key)
    }

    /// The table's schema; PostgreSQL's `search_path` finds it otherwise.
    #[must_use]
    pub const fn in_schema(mut self, schema: &'a str) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Further columns that are written.
    #[must_use]
    pub const fn set(mut self, columns: &'a [&'a str]) -> Self {
        self.set = columns;
        self
    }

    /// Those of the written columns by whose values a repetition is told from something else.
    #[must_use]
    pub const fn same(mut self, columns: &'a [&'a str]) -> Self {
        self.same = columns;
        self
    }

    /// The columns of the row that is given back; else the state, the version, or the key.
    #[must_use]
    pub const fn returning(mut self, columns: &'a [&'a str]) -> Self {
        self.returning = columns;
        self
    }

    /// How many states lie past `to`, of a [`transition`](Self::transition): a row in one of them has been in `to`
    /// already. As many values follow.
    #[must_use]
    pub const fn past(mut self, states: usize) -> Self {
        if let Kind::Transition { state, .. } = self.kind {
            self.kind = Kind::Transition { state, past: states };
        }
        self
    }
}
