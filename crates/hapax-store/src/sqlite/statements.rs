//! The store's SQL, and the writer's prepared statements.

use rusqlite::{Connection, PrepFlags, Statement};

/// Prepares a statement that lives as long as its connection. Told so, SQLite leaves the connection's small memory to
/// what each run needs, which is a tenth of a cycle's work.
pub(super) fn prepare<'c>(connection: &'c Connection, sql: &str) -> rusqlite::Result<Statement<'c>> {
    connection.prepare_with_flags(sql, PrepFlags::SQLITE_PREPARE_PERSISTENT)
}

pub(super) const RECORD: &str = include_str!("sql/record.sql");
pub(super) const LIST: &str = include_str!("sql/list.sql");
pub(super) const LIST_OPEN: &str = include_str!("sql/list_open.sql");
pub(super) const LIST_GROUP: &str = include_str!("sql/list_group.sql");
pub(super) const GROUP_STRETCH: &str = include_str!("sql/group_stretch.sql");
pub(super) const OPEN_STRETCH: &str = include_str!("sql/open_stretch.sql");
pub(super) const NEXT_POSITION: &str = include_str!("sql/next_position.sql");
pub(super) const SUMMARY: &str = include_str!("sql/summary.sql");
pub(super) const NAMESPACES: &str = include_str!("sql/namespaces.sql");
pub(super) const NAMESPACE_COUNT: &str = include_str!("sql/namespace_count.sql");
pub(super) const RECIPE_TEXT: &str = include_str!("sql/recipe_text.sql");
pub(super) const AUDIT: &str = include_str!("sql/audit.sql");
pub(super) const AUDIT_OF: &str = include_str!("sql/audit_of.sql");
pub(super) const CENSUS: &str = include_str!("sql/census.sql");
pub(super) const CENSUS_LAPSED: &str = include_str!("sql/census_lapsed.sql");
pub(super) const CENSUS_SCOPES: &str = include_str!("sql/census_scopes.sql");
pub(super) const META: &str = include_str!("sql/meta.sql");

macro_rules! statements {
    ($($name:ident: $file:literal),+ $(,)?) => {
        /// What the writer runs, prepared once a connection.
        pub(super) struct Statements<'c> {
            pub(super) begin: Statement<'c>,
            pub(super) commit: Statement<'c>,
            pub(super) rollback: Statement<'c>,
            $(pub(super) $name: Statement<'c>),+
        }

        impl<'c> Statements<'c> {
            pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
                Ok(Self {
                    // The write lock is taken at the start: a transaction that begins by reading cannot always get it
                    // later.
                    begin: prepare(connection, "BEGIN IMMEDIATE")?,
                    commit: prepare(connection, "COMMIT")?,
                    rollback: prepare(connection, "ROLLBACK")?,
                    $($name: prepare(connection, include_str!(concat!("sql/", $file)))?),+
                })
            }
        }
    };
}

statements! {
    claim_fresh: "claim_fresh.sql",
    claim_again: "claim_again.sql",
    enqueue_fresh: "enqueue_fresh.sql",
    renew: "renew.sql",
    finish_first: "finish_first.sql",
    write: "write.sql",
    tend: "tend.sql",
    next_woken: "next_woken.sql",
    taken_before: "taken_before.sql",
    wake_later: "wake_later.sql",
    line_before: "line_before.sql",
    pass_turn: "pass_turn.sql",
    audit_add: "audit_add.sql",
    look_again: "look_again.sql",
    forget: "forget.sql",
    record: "record.sql",
    record_at: "record_at.sql",
    known: "known.sql",
    summary: "summary.sql",
    summary_at: "summary_at.sql",
    due: "due.sql",
    namespace_add: "namespace_add.sql",
    namespace_count: "namespace_count.sql",
    recipe_find: "recipe_find.sql",
    recipe_add: "recipe_add.sql",
    meta: "meta.sql",
    meta_update: "meta_update.sql",
}
