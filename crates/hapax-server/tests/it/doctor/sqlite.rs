//! A SQLite file that is bad in every way.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::{Case, ask, check};
use crate::support::hapax;

const CASES: &[Case] = &[
    Case {
        table: "sound",
        make: "CREATE TABLE sound (customer INTEGER NOT NULL, number TEXT NOT NULL, UNIQUE (customer, number))",
        key: &["customer", "number"],
        found: &[],
        part: "",
    },
    Case {
        table: "by_a_part",
        make: "CREATE TABLE by_a_part (customer INTEGER, number TEXT NOT NULL UNIQUE)",
        key: &["customer", "number"],
        found: &[],
        part: "",
    },
    Case {
        table: "no_rowid",
        make: "CREATE TABLE no_rowid (number TEXT PRIMARY KEY) WITHOUT ROWID",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "checked",
        make: "CREATE TABLE checked (number TEXT UNIQUE CHECK (number IS NOT NULL))",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "where_not_null",
        make: "CREATE TABLE where_not_null (number TEXT NOT NULL);;CREATE UNIQUE INDEX wnn ON where_not_null (number) WHERE number IS NOT NULL",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "Mixed Case",
        make: "CREATE TABLE \"Mixed Case\" (\"No.\" TEXT NOT NULL UNIQUE)",
        key: &["no."],
        found: &[],
        part: "",
    },
    Case {
        table: "bare",
        make: "CREATE TABLE bare (customer INTEGER NOT NULL, number TEXT NOT NULL)",
        key: &["customer", "number"],
        found: &["key-unprotected"],
        part: "no unique index or constraint covers it",
    },
    Case {
        table: "wider",
        make: "CREATE TABLE wider (number TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (number, at))",
        key: &["number"],
        found: &["key-unprotected"],
        part: "compares more than the key: at",
    },
    Case {
        table: "nullable",
        make: "CREATE TABLE nullable (customer INTEGER NOT NULL, number TEXT, UNIQUE (customer, number))",
        key: &["customer", "number"],
        found: &["key-nullable"],
        part: "number can be null",
    },
    Case {
        table: "nullable_primary",
        make: "CREATE TABLE nullable_primary (number TEXT PRIMARY KEY)",
        key: &["number"],
        found: &["key-nullable"],
        part: "number can be null",
    },
    Case {
        table: "deleted",
        make: "CREATE TABLE deleted (number TEXT NOT NULL, deleted_at TEXT);;CREATE UNIQUE INDEX d ON deleted (number) WHERE deleted_at IS NULL",
        key: &["number"],
        found: &["key-partial"],
        part: "only for rows with deleted_at IS NULL",
    },
    Case {
        table: "lowered",
        make: "CREATE TABLE lowered (number TEXT NOT NULL);;CREATE UNIQUE INDEX l ON lowered (lower(number))",
        key: &["number"],
        found: &["key-expression"],
        part: "lower(number)",
    },
    Case {
        table: "coalesced",
        make: "CREATE TABLE coalesced (customer INTEGER NOT NULL, number TEXT);;CREATE UNIQUE INDEX c ON coalesced (customer, ifnull(number, ''))",
        key: &["customer", "number"],
        found: &["key-expression"],
        part: "ifnull(number",
    },
    Case {
        table: "generated",
        make: "CREATE TABLE generated (number TEXT NOT NULL, folded TEXT NOT NULL GENERATED ALWAYS AS (upper(number)) STORED UNIQUE)",
        key: &["number"],
        found: &["key-expression"],
        part: "folded",
    },
    Case {
        table: "folding",
        make: "CREATE TABLE folding (number TEXT NOT NULL UNIQUE COLLATE NOCASE)",
        key: &["number"],
        found: &["key-collation"],
        part: "its collation is NOCASE",
    },
    Case {
        table: "replacing",
        make: "CREATE TABLE replacing (number TEXT NOT NULL, UNIQUE (number) ON CONFLICT REPLACE)",
        key: &["number"],
        found: &["key-replaced"],
        part: "ON CONFLICT REPLACE",
    },
    Case {
        table: "rowid_key",
        make: "CREATE TABLE rowid_key (id INTEGER PRIMARY KEY)",
        key: &["id"],
        found: &["key-made-by-database"],
        part: "INTEGER PRIMARY KEY",
    },
    Case {
        table: "untyped",
        make: "CREATE TABLE untyped (number NOT NULL UNIQUE)",
        key: &["number"],
        found: &["key-type"],
        part: "has no type",
    },
    Case {
        table: "seen",
        make: "CREATE VIEW seen AS SELECT 1 AS number",
        key: &["number"],
        found: &["not-a-table"],
        part: "a view",
    },
    Case {
        table: "ordres",
        make: "CREATE TABLE orders (number TEXT NOT NULL PRIMARY KEY)",
        key: &["number"],
        found: &["table-missing"],
        part: "did you mean [guard.\"orders\"]?",
    },
    Case {
        table: "payments",
        make: "CREATE TABLE payments (payment_number TEXT NOT NULL PRIMARY KEY)",
        key: &["payment_numbr"],
        found: &["column-missing"],
        part: "did you mean \"payment_number\"?",
    },
];

/// A directory that is on a disk.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn each_way_to_leave_a_key_unprotected_is_found_and_its_sql_mends_it() {
    let directory = directory();
    let file = directory.path().join("shop.db");
    let url = format!("sqlite:{}", file.display());
    check_without_replacing(&url, |sql| Connection::open(&file).unwrap().execute_batch(sql).unwrap());
}

/// What only a table made anew can mend keeps a finding that has SQL, too.
fn check_without_replacing(url: &str, run: impl Fn(&str)) {
    let (replacing, others): (Vec<&Case>, Vec<&Case>) = CASES.iter().partition(|case| case.table == "replacing");
    let copy = |case: &&Case| Case {
        table: case.table,
        make: case.make,
        key: case.key,
        found: case.found,
        part: case.part,
    };
    let others: Vec<Case> = others.iter().map(copy).collect();
    check(url, &others, &run);
    for case in replacing {
        run(case.make);
        let said = ask(url, &super::declare(&[copy(&case)]), &[]);
        assert!(said.finding("key-replaced").text.contains(case.part));
    }
}

#[test]
fn files_that_cannot_be_trusted_are_found() {
    let directory = directory();
    let file = directory.path().join("hapax.db");
    let url = format!("sqlite:{}", file.display());
    assert_eq!(hapax(&["migrate", "--store", &url]).code, 0);
    let sound = ask(&url, "", &[]);
    assert_eq!(sound.codes(), [""; 0], "{:#}", sound.report);
    assert!(
        sound.report["notes"].to_string().contains("hapax_record"),
        "{:#}",
        sound.report
    );

    let said = ask(
        &format!("{url}?_synchronous=OFF&_journal_mode=MEMORY&nolock=1"),
        "",
        &[],
    );
    assert_eq!(said.codes(), ["commit-not-durable", "crash-unsafe", "locking-off"]);

    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    assert!(ask(&url, "", &[]).finding("read-only").text.contains("mode 444"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();

    let open = || Connection::open(&file).unwrap();
    open()
        .execute_batch("UPDATE hapax_meta SET last_now = 9000000000000")
        .unwrap();
    assert!(
        ask(&url, "", &[])
            .finding("clock")
            .text
            .contains("ahead of this machine's clock")
    );
    open()
        .execute_batch("UPDATE hapax_meta SET last_now = 0, last_fence = 9000000000000000000")
        .unwrap();
    assert!(ask(&url, "", &[]).finding("fence-sequence").text.contains("97 %"));
    open().execute_batch("UPDATE hapax_meta SET last_fence = 0").unwrap();
    open()
        .execute_batch("UPDATE hapax_migration SET checksum = 'x' WHERE version = 1")
        .unwrap();
    assert!(ask(&url, "", &[]).finding("schema-version").text.contains("checksum"));
}

#[test]
fn a_log_that_another_database_left_is_found() {
    let directory = directory();
    let (file, other) = (directory.path().join("shop.db"), directory.path().join("other.db"));
    let url = format!("sqlite:{}", file.display());
    let make = |path: &std::path::Path, mode: &str, page: u32| {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {page}; PRAGMA journal_mode = {mode}; CREATE TABLE t (a)"
            ))
            .unwrap();
        connection
    };
    drop(make(&file, "DELETE", 4096));
    assert_eq!(ask(&url, "", &[]).codes(), [""; 0]);
    // Copied while it is in use.
    let live = make(&other, "WAL", 4096);
    let wal = directory.path().join("shop.db-wal");
    fs::copy(directory.path().join("other.db-wal"), &wal).unwrap();
    assert!(
        ask(&url, "", &[])
            .finding("foreign-log")
            .text
            .contains("not in WAL mode")
    );
    drop(live);
    let small = make(&directory.path().join("small.db"), "WAL", 1024);
    fs::copy(directory.path().join("small.db-wal"), &wal).unwrap();
    drop(small);
    assert!(
        ask(&url, "", &[])
            .finding("foreign-log")
            .text
            .contains("1024 bytes, the database's 4096")
    );
    fs::write(&wal, [b'x'; 64]).unwrap();
    assert!(
        ask(&url, "", &[])
            .finding("foreign-log")
            .text
            .contains("it is no write-ahead log")
    );
}
