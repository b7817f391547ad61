//! A MariaDB that is bad in every way.

use hapax_testbed::MariaDb;

use super::{Case, ask, check};
use crate::support::hapax;

const CASES: &[Case] = &[
    Case {
        table: "sound",
        make: "CREATE TABLE sound (customer bigint NOT NULL, number varchar(40) COLLATE utf8mb4_nopad_bin NOT NULL, UNIQUE (customer, number))",
        key: &["customer", "number"],
        found: &[],
        part: "",
    },
    Case {
        table: "by_a_part",
        make: "CREATE TABLE by_a_part (customer bigint, number varbinary(40) NOT NULL UNIQUE)",
        key: &["customer", "number"],
        found: &[],
        part: "",
    },
    Case {
        table: "checked",
        make: "CREATE TABLE checked (number bigint UNIQUE CHECK (number IS NOT NULL))",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "constrained",
        make: "CREATE TABLE constrained (`No.` bigint UNIQUE, CONSTRAINT given CHECK (`No.` IS NOT NULL))",
        key: &["No."],
        found: &[],
        part: "",
    },
    Case {
        table: "Mixed Case`",
        make: "CREATE TABLE `Mixed Case``` (`No.` bigint NOT NULL UNIQUE)",
        key: &["no."],
        found: &[],
        part: "",
    },
    Case {
        table: "versioned",
        make: "CREATE TABLE versioned (number bigint NOT NULL UNIQUE) WITH SYSTEM VERSIONING",
        key: &["number"],
        found: &[],
        part: "",
    },
    Case {
        table: "bare",
        make: "CREATE TABLE bare (customer bigint NOT NULL, number bigint NOT NULL, KEY (customer, number))",
        key: &["customer", "number"],
        found: &["key-unprotected"],
        part: "no unique index or constraint covers it",
    },
    Case {
        table: "wider",
        make: "CREATE TABLE wider (customer bigint NOT NULL, number bigint NOT NULL, at date NOT NULL, PRIMARY KEY (customer, number, at))",
        key: &["customer", "number"],
        found: &["key-unprotected"],
        part: "compares more than the key: at",
    },
    Case {
        table: "nullable",
        make: "CREATE TABLE nullable (customer bigint NOT NULL, number varbinary(40), UNIQUE (customer, number))",
        key: &["customer", "number"],
        found: &["key-nullable"],
        part: "number can be null",
    },
    Case {
        table: "capitals",
        make: "CREATE TABLE capitals (number varchar(40) COLLATE utf8mb4_general_ci NOT NULL UNIQUE)",
        key: &["number"],
        found: &["key-collation"],
        part: "utf8mb4_general_ci ignores capitals",
    },
    Case {
        table: "blanks",
        make: "CREATE TABLE blanks (number varchar(40) COLLATE utf8mb4_bin NOT NULL UNIQUE)",
        key: &["number"],
        found: &["key-collation"],
        part: "utf8mb4_bin ignores trailing blanks",
    },
    Case {
        table: "begun",
        make: "CREATE TABLE begun (number varbinary(90) NOT NULL, UNIQUE begins (number(20)))",
        key: &["number"],
        found: &["key-prefix"],
        part: "begins looks at the first 20 of number only",
    },
    Case {
        table: "lowered",
        make: "CREATE TABLE lowered (number varbinary(40) NOT NULL, low varbinary(40) AS (lower(number)) PERSISTENT UNIQUE)",
        key: &["number"],
        found: &["key-expression"],
        part: "something computed from it: low",
    },
    Case {
        table: "dated",
        make: "CREATE TABLE dated (number varbinary(40) NOT NULL, day date AS (date(number)) PERSISTENT UNIQUE)",
        key: &["number"],
        found: &["key-unprotected"],
        part: "no unique index or constraint covers it",
    },
    Case {
        table: "generated",
        make: "CREATE TABLE generated (id bigint AUTO_INCREMENT PRIMARY KEY)",
        key: &["id"],
        found: &["key-made-by-database"],
        part: "AUTO_INCREMENT",
    },
    Case {
        table: "random",
        make: "CREATE TABLE random (id binary(36) DEFAULT uuid() PRIMARY KEY)",
        key: &["id"],
        found: &["key-made-by-database"],
        part: "DEFAULT uuid()",
    },
    Case {
        table: "floating",
        make: "CREATE TABLE floating (number double NOT NULL UNIQUE)",
        key: &["number"],
        found: &["key-type"],
        part: "floating point number (double)",
    },
    Case {
        table: "myisam",
        make: "CREATE TABLE myisam (number bigint NOT NULL UNIQUE) ENGINE = MyISAM",
        key: &["number"],
        found: &["not-transactional"],
        part: "its engine, MyISAM, has no transactions",
    },
    Case {
        table: "a_view",
        make: "CREATE VIEW a_view AS SELECT 1 AS number",
        key: &["number"],
        found: &["not-a-table"],
        part: "it is a view",
    },
    Case {
        table: "soun",
        make: "SELECT 1",
        key: &["number"],
        found: &["table-missing"],
        part: "did you mean [guard.\"sound\"]?",
    },
    Case {
        table: "elsewhere.there",
        make: "CREATE DATABASE elsewhere;;CREATE TABLE elsewhere.there (number bigint NOT NULL)",
        key: &["number"],
        found: &["key-unprotected"],
        part: "`elsewhere`.`there`",
    },
    Case {
        table: "mistaken",
        make: "CREATE TABLE mistaken (client_order_id bigint NOT NULL UNIQUE)",
        key: &["client_orderid"],
        found: &["column-missing"],
        part: "did you mean \"client_order_id\"?",
    },
];

/// A server of its own: its settings are changed.
#[test]
fn each_weakness_is_found_and_the_sql_mends_it() {
    let server = MariaDb::start();
    let url = server.create_database("shop");
    let run = |sql: &str| drop(server.query(&format!("USE shop; {sql}")));
    check(&url, CASES, run);
    partitioned(&server, &url);
    settings(&server, &url);
    hapax_tables(&server, &url);
    replica(&server, &url);
}

fn partitioned(server: &MariaDb, url: &str) {
    let make = "CREATE TABLE shop.parted (number bigint NOT NULL, day int NOT NULL, PRIMARY KEY (number, day))
        PARTITION BY HASH (day) PARTITIONS 2";
    server.query(make);
    let found = ask(url, "[guard.parted]\nnatural_key = [\"number\"]", &[]).finding("key-unprotected");
    for part in ["compares more than the key: day", "is partitioned by day"] {
        assert!(found.text.contains(part), "{}", found.text);
    }
    found.sql.iter().for_each(|sql| drop(server.query(sql)));
    let beside = ask(
        url,
        "[guard.parted_natural_key]\nnatural_key = [\"number\"]",
        &["--allow", "lock-timeout"],
    );
    assert_eq!(beside.code, 0, "{:#}", beside.report);
}

fn settings(server: &MariaDb, url: &str) {
    let allowed = ["--allow", "lock-timeout"];
    server.query("SET GLOBAL tx_isolation = 'READ-COMMITTED'");
    let sound = ask(url, "", &allowed);
    assert_eq!(
        (sound.code, sound.codes()),
        (0, vec!["lock-timeout".to_owned()]),
        "{:#}",
        sound.report
    );
    assert_eq!(sound.report["dialect"], "mysql");
    assert!(sound.report["version"].as_str().unwrap().contains("MariaDB"));
    for (make, code, part) in [
        (
            "innodb_flush_log_at_trx_commit = 2",
            "commit-not-durable",
            "innodb_flush_log_at_trx_commit is 2",
        ),
        (
            "tx_isolation = 'REPEATABLE-READ'",
            "isolation",
            "repeatable read by default",
        ),
        ("tx_isolation = 'SERIALIZABLE'", "isolation", "serializable by default"),
        (
            "tx_isolation = 'READ-UNCOMMITTED'",
            "isolation",
            "read uncommitted by default",
        ),
        ("sql_mode = ''", "sql-mode", "cut off"),
        ("sql_mode = 'ANSI_QUOTES'", "sql-mode", "cut off"),
        ("unique_checks = OFF", "key-unprotected", "unique_checks is off"),
        ("read_only = ON", "read-only", "read_only is on"),
        ("tx_read_only = ON", "read-only", "tx_read_only is on"),
    ] {
        server.query(&format!("SET GLOBAL {make}"));
        let said = ask(url, "", &allowed);
        let found = said.finding(code);
        assert_eq!((said.code, said.findings().len()), (1, 2), "{make}: {:#}", said.report);
        assert!(found.text.contains(part), "{make}: {}", found.text);
        found.sql.iter().for_each(|sql| drop(server.query(sql)));
        assert_eq!(ask(url, "", &allowed).code, 0, "{make}: the SQL did not help");
    }
}

fn hapax_tables(server: &MariaDb, url: &str) {
    let installed = hapax(&["receipts", "install", "--database", url]);
    assert_eq!(installed.code, 0, "{installed:?}");
    let sound = ask(url, "", &["--allow", "lock-timeout"]);
    assert_eq!(sound.code, 0, "{:#}", sound.report);
    assert!(
        sound.report["notes"].to_string().contains("shop.hapax_receipt"),
        "{:#}",
        sound.report
    );
    server.query("ALTER TABLE shop.hapax_receipt ENGINE = Aria");
    let found = ask(url, "", &[]).finding("not-transactional");
    assert!(found.text.contains("its engine, Aria"), "{}", found.text);
    found.sql.iter().for_each(|sql| drop(server.query(sql)));
    assert_eq!(ask(url, "", &["--allow", "lock-timeout"]).code, 0);
}

fn replica(server: &MariaDb, url: &str) {
    server.query("CREATE USER app; GRANT SELECT ON shop.* TO app");
    let as_app = url.replace("root@", "app@");
    let said = ask(&as_app, "", &["--allow", "lock-timeout"]);
    assert!(
        said.report["notes"].to_string().contains("cannot be seen by this user"),
        "{:#}",
        said.report
    );
    server.query("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'none'");
    let found = ask(url, "", &[]).finding("replica");
    assert!(found.text.contains("shop.hapax_receipt"), "{}", found.text);
}

#[test]
fn what_cannot_be_reached_is_told_without_its_password() {
    for (url, code, part) in [
        ("mysql://u:s3cret@127.0.0.1:1/d", 3, "cannot connect"),
        ("mysql://u:s3cret@127.0.0.1:1", 2, "names no database"),
    ] {
        let ended = hapax(&["doctor", "--database", url]);
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(
            ended.stderr.contains(part) && !ended.stderr.contains("s3cret"),
            "{ended:?}"
        );
    }
}
