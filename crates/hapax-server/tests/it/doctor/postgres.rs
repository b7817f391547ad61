//! A PostgreSQL that is bad in every way.

use std::cell::RefCell;

use hapax_testbed::Postgres;

use super::{Case, ask, check};
use crate::support::hapax;

const CASES: &[Case] = &[
    Case {
        table: "sound",
        make: "CREATE TABLE sound (customer bigint NOT NULL, number text NOT NULL, UNIQUE (customer, number))",
        key: &["customer", "number"],
        found: &[],
        part: "",
    },
    Case {
        table: "by_a_part",
        make: "CREATE TABLE by_a_part (customer bigint, number text NOT NULL UNIQUE)",
        key: &["customer", "number"],
        found: &[],
        part: "",
    },
    Case {
        table: "included",
        make: "CREATE TABLE included (number text NOT NULL, at date);;CREATE UNIQUE INDEX ON included (number) INCLUDE (at)",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "domained",
        make: "CREATE DOMAIN given AS text NOT NULL;;CREATE TABLE domained (number given UNIQUE)",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "checked",
        make: "CREATE TABLE checked (number text UNIQUE CHECK (number IS NOT NULL))",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "excluded",
        make: "CREATE TABLE excluded (number text NOT NULL, EXCLUDE USING btree (number WITH =))",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "nulls_same",
        make: "CREATE TABLE nulls_same (number text, UNIQUE NULLS NOT DISTINCT (number))",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "where_not_null",
        make: "CREATE TABLE where_not_null (number text NOT NULL);;CREATE UNIQUE INDEX ON where_not_null (number) WHERE number IS NOT NULL",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "Mixed Case",
        make: "CREATE TABLE \"Mixed Case\" (\"No.\" text NOT NULL UNIQUE)",
        key: &["No."],
        found: &[],
        part: "",
    },
    Case {
        table: "bare",
        make: "CREATE TABLE bare (customer bigint NOT NULL, number text NOT NULL);;CREATE INDEX ON bare (customer, number)",
        key: &["customer", "number"],
        found: &["key-unprotected"],
        part: "no unique index or constraint covers it",
    },
    Case {
        table: "wider",
        make: "CREATE TABLE wider (customer bigint NOT NULL, number text NOT NULL, at date NOT NULL, PRIMARY KEY (customer, number, at))",
        key: &["customer", "number"],
        found: &["key-unprotected"],
        part: "compares more than the key: at",
    },
    Case {
        table: "nullable",
        make: "CREATE TABLE nullable (customer bigint NOT NULL, number text, UNIQUE (customer, number))",
        key: &["customer", "number"],
        found: &["key-nullable"],
        part: "number can be null",
    },
    Case {
        table: "deleted",
        make: "CREATE TABLE deleted (number text NOT NULL, deleted_at date);;CREATE UNIQUE INDEX ON deleted (number) WHERE deleted_at IS NULL",
        key: &["number"],
        found: &["key-partial"],
        part: "only for rows with (deleted_at IS NULL)",
    },
    Case {
        table: "where_given",
        make: "CREATE TABLE where_given (number text);;CREATE UNIQUE INDEX ON where_given (number) WHERE number IS NOT NULL",
        key: &["number"],
        found: &["key-nullable"],
        part: "number can be null",
    },
    Case {
        table: "late",
        make: "CREATE TABLE late (number text NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        key: &["number"],
        found: &["key-deferrable"],
        part: "is deferrable",
    },
    Case {
        table: "lowered",
        make: "CREATE TABLE lowered (number text NOT NULL);;CREATE UNIQUE INDEX ON lowered (lower(number))",
        key: &["number"],
        found: &["key-expression"],
        part: "lower(number)",
    },
    Case {
        table: "coalesced",
        make: "CREATE TABLE coalesced (customer bigint NOT NULL, number text);;CREATE UNIQUE INDEX ON coalesced (customer, coalesce(number, ''))",
        key: &["customer", "number"],
        found: &["key-expression"],
        part: "COALESCE(number",
    },
    Case {
        table: "nulled",
        make: "CREATE TABLE nulled (number text NOT NULL);;CREATE UNIQUE INDEX ON nulled (nullif(number, ''))",
        key: &["number"],
        found: &["key-nullable"],
        part: "NULLIF",
    },
    Case {
        table: "other_expression",
        make: "CREATE TABLE other_expression (number text NOT NULL, at date NOT NULL);;CREATE UNIQUE INDEX ON other_expression ((number || at - at))",
        key: &["number"],
        found: &["key-unprotected"],
        part: "compares more than the key",
    },
    Case {
        table: "generated",
        make: "CREATE TABLE generated (number text NOT NULL, folded text NOT NULL GENERATED ALWAYS AS (upper(number)) STORED UNIQUE)",
        key: &["number"],
        found: &["key-expression"],
        part: "folded",
    },
    Case {
        table: "folding",
        make: "CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);;CREATE TABLE folding (number text COLLATE anycase NOT NULL UNIQUE)",
        key: &["number"],
        found: &["key-collation"],
        part: "anycase is nondeterministic",
    },
    Case {
        table: "identity",
        make: "CREATE TABLE identity (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
        key: &["id"],
        found: &["key-made-by-database"],
        part: "an identity column",
    },
    Case {
        table: "uuids",
        make: "CREATE TABLE uuids (id uuid PRIMARY KEY DEFAULT gen_random_uuid())",
        key: &["id"],
        found: &["key-made-by-database"],
        part: "gen_random_uuid()",
    },
    Case {
        table: "amounts",
        make: "CREATE TABLE amounts (amount double precision PRIMARY KEY)",
        key: &["amount"],
        found: &["key-type"],
        part: "floating point",
    },
    Case {
        table: "parts",
        make: "CREATE TABLE parts (number text NOT NULL, at date NOT NULL, UNIQUE (number, at)) PARTITION BY RANGE (at)",
        key: &["number", "at"],
        found: &[],
        part: "",
    },
    Case {
        table: "half_parts",
        make: "CREATE TABLE half_parts (number text NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);;CREATE TABLE half_parts_1 PARTITION OF half_parts DEFAULT;;CREATE UNIQUE INDEX half ON ONLY half_parts (number, at)",
        key: &["number", "at"],
        found: &["key-invalid-index"],
        part: "it is invalid",
    },
    Case {
        table: "heirs",
        make: "CREATE TABLE heirs (number text NOT NULL UNIQUE);;CREATE TABLE heirs_1 () INHERITS (heirs)",
        key: &["number"],
        found: &["key-inherited"],
        part: "INHERITS",
    },
    Case {
        table: "unlogged",
        make: "CREATE UNLOGGED TABLE unlogged (number text PRIMARY KEY)",
        key: &["number"],
        found: &["unlogged"],
        part: "UNLOGGED",
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
        make: "CREATE TABLE orders (number text PRIMARY KEY)",
        key: &["number"],
        found: &["table-missing"],
        part: "did you mean [guard.\"orders\"]?",
    },
    Case {
        table: "invoices",
        make: "CREATE SCHEMA billing;;CREATE TABLE billing.invoices (number text PRIMARY KEY)",
        key: &["number"],
        found: &["table-missing"],
        part: "did you mean [guard.\"billing.invoices\"]?",
    },
    Case {
        table: "billing.payments",
        make: "CREATE TABLE billing.payments (number text PRIMARY KEY)",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "payments",
        make: "CREATE TABLE payments (payment_number text PRIMARY KEY)",
        key: &["payment_numbr"],
        found: &["column-missing"],
        part: "did you mean \"payment_number\"?",
    },
];

#[test]
fn each_way_to_leave_a_key_unprotected_is_found_and_its_sql_mends_it() {
    let database = Postgres::shared().database();
    check(database.url(), CASES, |sql| {
        database.query(sql);
    });
}

#[test]
fn a_partitioned_table_gets_its_keys_in_a_table_of_their_own() {
    let database = Postgres::shared().database();
    database.query(
        "CREATE TABLE parts (number text NOT NULL, at date NOT NULL, UNIQUE (number, at)) PARTITION BY RANGE (at)",
    );
    let said = ask(database.url(), "[guard.parts]\nnatural_key = [\"number\"]\n", &[]);
    let found = said.finding("key-unprotected");
    assert!(
        found.text.contains("[guard.\\\"public.parts_natural_key\\\"]"),
        "{}",
        found.text
    );
    for sql in &found.sql {
        database.query(sql);
    }
    let after = ask(
        database.url(),
        "[guard.\"public.parts_natural_key\"]\nnatural_key = [\"number\"]\n",
        &[],
    );
    assert_eq!(after.codes(), [""; 0]);
}

#[test]
fn an_index_whose_building_failed_is_found() {
    let database = Postgres::shared().database();
    database.query("CREATE TABLE orders (number text NOT NULL)");
    database.query("INSERT INTO orders VALUES ('n-1'), ('n-1')");
    let failed =
        std::panic::catch_unwind(|| database.query("CREATE UNIQUE INDEX CONCURRENTLY broken ON orders (number)"));
    assert!(failed.is_err());
    let config = "[guard.orders]\nnatural_key = [\"number\"]\n";
    let found = ask(database.url(), config, &[]).finding("key-invalid-index");
    assert!(
        found.text.contains("broken covers it, but it is invalid"),
        "{}",
        found.text
    );
    database.query("DELETE FROM orders");
    found.sql.iter().for_each(|sql| drop(database.query(sql)));
    assert_eq!(ask(database.url(), config, &[]).codes(), [""; 0]);
}

#[test]
fn settings_that_lose_commits_are_found_wherever_they_are_made() {
    let server = Postgres::start();
    for setting in [
        "full_page_writes = off",
        "synchronous_commit = off",
        "default_transaction_isolation = serializable",
    ] {
        server.query(&format!("ALTER SYSTEM SET {setting}"));
    }
    server.query("SELECT pg_reload_conf()");
    let url = server.url();
    let ask = || ask(&url, "", &[]);
    server.query("CREATE ROLE hasty; ALTER ROLE hasty SET synchronous_commit = off");
    server.query("ALTER ROLE hasty IN DATABASE postgres SET default_transaction_isolation = 'repeatable read'");
    server.query("ALTER ROLE hasty SET default_transaction_read_only = on");
    // The server reads its file again when it comes to it.
    let until = std::time::Instant::now() + crate::support::PATIENCE;
    let mut said = ask();
    while said.findings().len() < 6 {
        assert!(std::time::Instant::now() < until, "{:#}", said.report);
        said = ask();
    }
    let places: Vec<(String, String)> = said.findings().into_iter().map(|f| (f.code, f.place)).collect();
    for (code, place) in [
        ("crash-unsafe", "full_page_writes"),
        ("commit-not-durable", "synchronous_commit"),
        ("commit-not-durable", "synchronous_commit of role hasty"),
        ("isolation", "default_transaction_isolation"),
        (
            "isolation",
            "default_transaction_isolation of role hasty in database postgres",
        ),
        ("read-only", "default_transaction_read_only of role hasty"),
    ] {
        assert!(
            places.contains(&(code.to_owned(), place.to_owned())),
            "no {code} {place}: {places:?}"
        );
    }
    assert_eq!(places.len(), 6, "{places:?}");
    for found in said.findings() {
        found.sql.iter().for_each(|sql| drop(server.query(sql)));
    }
    while !ask().codes().is_empty() {
        assert!(std::time::Instant::now() < until, "{:#}", ask().report);
    }
    server.query("ALTER ROLE ALL SET synchronous_commit = off");
    let found = ask().finding("commit-not-durable");
    assert_eq!(found.sql, ["ALTER ROLE ALL RESET synchronous_commit;"]);
}

#[test]
fn a_setting_of_the_command_line_is_not_mended_by_sql() {
    let server = Postgres::options()
        .fsync(false)
        .set("synchronous_commit", "off")
        .start();
    let said = ask(&server.url(), "", &[]);
    assert_eq!(said.codes(), ["commit-not-durable", "crash-unsafe"]);
    for found in said.findings() {
        assert!(
            found.sql.is_empty() && found.text.contains("the server's command line"),
            "{}",
            found.text
        );
    }
    let database = Postgres::shared().database();
    let url = format!("{}?options=-c%20synchronous_commit%3Doff", database.url());
    assert!(
        ask(&url, "", &[])
            .finding("commit-not-durable")
            .text
            .contains("out of the database URL")
    );
}

#[test]
fn a_replica_is_found() {
    let mut server = Postgres::start();
    let url = server.url();
    let migrated = hapax(&["migrate", "--store", &url]);
    assert_eq!(migrated.code, 0, "{migrated:?}");
    assert_eq!(ask(&url, "", &[]).codes(), [""; 0]);
    let directory = server.query("SHOW data_directory");
    std::fs::write(std::path::Path::new(&directory).join("standby.signal"), "").unwrap();
    server.restart();
    let found = ask(&url, "", &[]).finding("replica");
    assert!(
        found.text.contains("hapax_record") && found.text.contains("target_session_attrs"),
        "{}",
        found.text
    );
}

#[test]
fn tables_of_hapax_that_do_not_keep_promises_are_found() {
    let database = Postgres::shared().database();
    let url = database.url();
    assert_eq!(hapax(&["migrate", "--store", url]).code, 0);
    let sound = ask(url, "", &[]);
    assert_eq!(sound.codes(), [""; 0]);
    assert!(
        sound.report["notes"].to_string().contains("public.hapax_record"),
        "{:#}",
        sound.report
    );
    let steps: [(&[&str], &str, &str); 5] = [
        (
            &["ALTER TABLE hapax_record SET UNLOGGED"],
            "unlogged",
            "public.hapax_record",
        ),
        (&["ALTER SEQUENCE hapax_fence CACHE 20"], "fence-sequence", "CACHE 20"),
        (
            &[
                "ALTER SEQUENCE hapax_fence AS integer",
                "SELECT setval('hapax_fence', 2000000000)",
            ],
            "fence-sequence",
            "93 % of its numbers are used",
        ),
        (
            &[
                "CREATE SCHEMA other",
                "CREATE TABLE other.hapax_record (LIKE hapax_record)",
            ],
            "tables-twice",
            "other.hapax_record",
        ),
        (
            &["DELETE FROM hapax_migration WHERE version = (SELECT max(version) FROM hapax_migration)"],
            "schema-version",
            "1 migrations behind",
        ),
    ];
    for (make, code, part) in steps {
        make.iter().for_each(|sql| drop(database.query(sql)));
        let found = ask(url, "", &[]).finding(code);
        assert!(found.text.contains(part), "{code}: {}", found.text);
        found.sql.iter().for_each(|sql| drop(database.query(sql)));
    }
    assert_eq!(ask(url, "", &[]).codes(), ["schema-version", "tables-twice"]);
}

#[test]
fn a_sequence_that_was_set_back_is_found() {
    let database = Postgres::shared().database();
    let url = database.url();
    assert_eq!(hapax(&["migrate", "--store", url]).code, 0);
    // A record with a high fence, whatever its other columns are by then.
    let columns = RefCell::new(Vec::new());
    for line in database
        .query(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'hapax_record'::regclass
            AND attnum > 0 AND attnotnull AND attidentity = '' AND NOT attisdropped",
        )
        .lines()
    {
        let (name, kind) = line.split_once('|').unwrap();
        let value = match (name, kind) {
            ("fence", _) => "77",
            ("state", _) => "'dead'",
            ("id" | "attempt", _) => "decode(repeat('00', 16), 'hex')",
            ("fingerprint", _) => "decode(repeat('00', 32), 'hex')",
            (_, "bigint") => "0",
            _ => "'x'",
        };
        columns.borrow_mut().push((name.to_owned(), value));
    }
    let columns = columns.into_inner();
    let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    database.query(&format!(
        "INSERT INTO hapax_record ({}, reason, wake_at) VALUES ({}, 'exhausted', 1)",
        names.join(", "),
        values.join(", ")
    ));
    let found = ask(url, "", &[]).finding("fence-behind");
    assert!(
        found
            .text
            .contains("it stands at 0, but the newest record in public.hapax_record has fence 77"),
        "{}",
        found.text
    );
    found.sql.iter().for_each(|sql| drop(database.query(sql)));
    assert_eq!(ask(url, "", &[]).codes(), [""; 0]);
}
