//! What is the same for all databases: usage, the two forms of a report, the documentation.

use rusqlite::Connection;

use super::ask;
use crate::support::hapax;

#[test]
fn usage_and_absent_databases_have_their_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = format!("sqlite:{}", directory.path().join("none.db").display());
    for (arguments, code, part) in [
        (vec!["doctor"], 2, "--database"),
        (
            vec!["doctor", "--database", "oracle://h/d"],
            2,
            "is no database; write postgres://",
        ),
        (vec!["doctor", "--database", &nowhere], 3, "there is no file"),
        (
            vec!["doctor", "--database", "postgres://u:s3cret@127.0.0.1:1/d"],
            3,
            "cannot connect",
        ),
        (
            vec!["doctor", "--database", &nowhere, "--allow", "key-colation"],
            2,
            "did you mean key-collation?",
        ),
        (
            vec!["doctor", "--database", &nowhere, "--config", "/nowhere.toml"],
            2,
            "cannot read the configuration",
        ),
    ] {
        let ended = hapax(&arguments);
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(
            ended.stderr.contains(part) && !ended.stderr.contains("s3cret"),
            "{ended:?}"
        );
        assert_eq!(ended.stdout, "");
    }
    let file = directory.path().join("hapax.toml");
    std::fs::write(&file, "[guard.orders]\nnatural_key = []\n").unwrap();
    let ended = hapax(&["doctor", "--database", &nowhere, "--config", file.to_str().unwrap()]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("hapax.toml:2:15"), "{ended:?}");
}

#[test]
fn a_file_that_is_no_database_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("text.db");
    std::fs::write(
        &file,
        "no database, but long enough to be taken for the header of one, all hundred bytes of it, and more",
    )
    .unwrap();
    let ended = hapax(&["doctor", "--database", &format!("sqlite:{}", file.display())]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("as a SQLite database"), "{ended:?}");
}

#[test]
fn a_report_for_people_says_where_why_and_what_to_do() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (database, config) = (directory.path().join("shop.db"), directory.path().join("hapax.toml"));
    Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, number TEXT NOT NULL)")
        .unwrap();
    std::fs::write(&config, "[guard.orders]\nnatural_key = [\"customer\", \"number\"]\n").unwrap();
    let url = format!("sqlite:{}", database.display());
    let ended = hapax(&["doctor", "--database", &url, "--config", config.to_str().unwrap()]);
    assert_eq!(ended.code, 1, "{ended:?}");
    for part in [
        "1 natural key declared",
        "danger: orders (customer, number)  [key-unprotected]",
        "    no unique index or constraint covers it\n",
        "    why: two requests at the same time",
        "\n        CREATE UNIQUE INDEX \"orders_natural_key\" ON \"orders\" (\"customer\", \"number\");\n",
        "found: danger 1, caution 0\n",
    ] {
        assert!(ended.stdout.contains(part), "no {part:?} in {}", ended.stdout);
    }
    assert!(
        ended
            .stdout
            .lines()
            .all(|line| line.len() <= 100 || line.contains(';') || line.contains('/')),
        "{}",
        ended.stdout
    );
    let allowed = hapax(&[
        "doctor",
        "--database",
        &url,
        "--config",
        config.to_str().unwrap(),
        "--allow",
        "key-unprotected",
    ]);
    assert_eq!(allowed.code, 0, "{allowed:?}");
    assert!(
        allowed.stdout.contains("allowed: key-unprotected\n") && allowed.stdout.contains("nothing found"),
        "{allowed:?}"
    );
}

#[test]
fn every_code_is_explained_in_the_documentation() {
    let source = include_str!("../../../src/doctor/finding.rs");
    let list = source
        .split_once("CODES: &[&str] = &[")
        .unwrap()
        .1
        .split_once("];")
        .unwrap()
        .0;
    let codes: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 20, "{codes:?}");
    let page = include_str!("../../../../../docs/doctor.md");
    let explained: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(code, _)| code))
        .filter(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .collect();
    assert_eq!(explained, codes);
}

#[test]
fn the_documented_report_has_the_fields_that_it_says() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let database = directory.path().join("shop.db");
    Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE orders (number TEXT)")
        .unwrap();
    let url = format!("sqlite:{}", database.display());
    let said = ask(
        &url,
        "[guard.orders]\nnatural_key = [\"number\"]\n",
        &["--allow", "key-unprotected"],
    );
    assert_eq!(said.code, 0);
    let page = include_str!("../../../../../docs/doctor.md");
    let documented = page.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
    let documented: serde_json::Value = serde_json::from_str(documented).unwrap();
    let fields = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&said.report), fields(&documented));
    assert_eq!(fields(&said.report["findings"][0]), fields(&documented["findings"][0]));
}
