//! `hapax doctor` on real databases, good ones and bad ones.

mod keys;
mod mysql;
mod postgres;
mod sqlite;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::hapax;

/// What the doctor said, as JSON.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) report: Value,
}

/// A finding.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) code: String,
    pub(crate) place: String,
    pub(crate) text: String,
    pub(crate) sql: Vec<String>,
}

impl Said {
    pub(crate) fn findings(&self) -> Vec<Found> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let found = self.report["findings"].as_array().unwrap().iter().map(|finding| {
            let why = text(&finding["why"]);
            let fix = finding["fix"].as_array().unwrap();
            assert!(
                !why.is_empty() && !fix.is_empty(),
                "no reason or nothing to do: {finding}"
            );
            Found {
                code: text(&finding["code"]),
                place: text(&finding["where"]),
                text: finding.to_string(),
                sql: fix
                    .iter()
                    .filter_map(|step| step["sql"].as_str())
                    .map(str::to_owned)
                    .collect(),
            }
        });
        found.collect()
    }

    /// The codes of what was found, in order.
    pub(crate) fn codes(&self) -> Vec<String> {
        let mut codes: Vec<String> = self.findings().into_iter().map(|found| found.code).collect();
        codes.sort();
        codes
    }

    #[track_caller]
    pub(crate) fn finding(&self, code: &str) -> Found {
        let found = self.findings().into_iter().find(|found| found.code == code);
        found.unwrap_or_else(|| panic!("no {code}: {:#}", self.report))
    }

    /// Codes by table, for findings on keys and tables.
    pub(crate) fn by_table(&self) -> BTreeMap<String, Vec<String>> {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for found in self.findings() {
            let table = found.place.split(" (").next().unwrap();
            tables.entry(table.to_owned()).or_default().push(found.code);
        }
        tables
    }
}

/// Asks the doctor, with this configuration and further flags.
#[track_caller]
pub(crate) fn ask(url: &str, config: &str, more: &[&str]) -> Said {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hapax.toml");
    std::fs::write(&file, config).unwrap();
    let mut arguments = vec![
        "doctor",
        "--database",
        url,
        "--config",
        file.to_str().unwrap(),
        "--json",
    ];
    arguments.extend(more);
    let ended = hapax(&arguments);
    assert!(matches!(ended.code, 0 | 1), "{ended:?}");
    assert_eq!(ended.stderr, "");
    let said = Said {
        code: ended.code,
        report: ended.json(),
    };
    let counted = said.report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .any(|finding| finding["allowed"] == false);
    assert_eq!(said.code, i32::from(counted), "{:#}", said.report);
    said
}

/// A table of a test: how it is made, its key, and what is to be found (nothing, if it is sound).
pub(crate) struct Case {
    pub(crate) table: &'static str,
    pub(crate) make: &'static str,
    pub(crate) key: &'static [&'static str],
    pub(crate) found: &'static [&'static str],
    /// What the finding must tell.
    pub(crate) part: &'static str,
}

/// The configuration that declares all of them.
pub(crate) fn declare(cases: &[Case]) -> String {
    cases
        .iter()
        .map(|case| format!("[guard.{:?}]\nnatural_key = {:?}\n", case.table, case.key))
        .collect()
}

/// Makes all tables, looks for exactly what is to be found, carries out the SQL that is given, and looks again: what
/// SQL can mend must be gone.
#[track_caller]
pub(crate) fn check(url: &str, cases: &[Case], run: impl Fn(&str)) {
    for case in cases {
        case.make.split(";;").for_each(&run);
    }
    let config = declare(cases);
    let said = ask(url, &config, &[]);
    let by_table = said.by_table();
    let found = |tables: &BTreeMap<String, Vec<String>>, table: &str| -> Vec<String> {
        let is_it = |name: &&String| **name == table || name.ends_with(&format!(".{table}"));
        let of_columns = tables.iter().filter(|(name, _)| {
            is_it(name)
                || name
                    .rsplit_once('.')
                    .is_some_and(|(before, _)| is_it(&&before.to_owned()))
        });
        of_columns.flat_map(|(_, codes)| codes.clone()).collect()
    };
    for case in cases {
        assert_eq!(
            found(&by_table, case.table),
            case.found,
            "{}: {:#}",
            case.table,
            said.report
        );
        let told = said.findings().iter().any(|finding| {
            finding.place.contains(case.table) && finding.text.contains(&case.part.replace('"', "\\\""))
        });
        assert!(
            told || case.found.is_empty(),
            "{} does not tell {:?}: {:#}",
            case.table,
            case.part,
            said.report
        );
    }
    let mended: Vec<Found> = said
        .findings()
        .into_iter()
        .filter(|finding| !finding.sql.is_empty())
        .collect();
    for finding in &mended {
        finding.sql.iter().for_each(|sql| run(sql));
    }
    let again = ask(url, &config, &[]);
    let left: Vec<String> = again
        .findings()
        .iter()
        .filter(|finding| !finding.sql.is_empty())
        .map(|f| f.text.clone())
        .collect();
    assert!(left.is_empty(), "the SQL did not help: {left:#?}");
    assert!(!mended.is_empty());
}
