//! What the doctor says: one finding, and how weighty it is.

use serde_json::{Value, json};

/// How weighty a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Something can happen twice, get lost, or stop.
    Danger,
    /// It holds, but not in the way that most people expect.
    Caution,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Danger => "danger",
            Self::Caution => "caution",
        }
    }
}

/// One thing to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// SQL, ready to run.
    Sql(String),
    /// What no SQL does.
    Do(String),
}

/// What is wrong, where, why it matters, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Its name, which `--allow` takes: one of [`CODES`].
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    /// The table, column, setting or file.
    pub(super) place: String,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) fix: Vec<Step>,
}

impl Finding {
    pub(super) fn danger(code: &'static str, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(code, Severity::Danger, place.into(), what.into())
    }

    pub(super) fn caution(code: &'static str, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(code, Severity::Caution, place.into(), what.into())
    }

    fn new(code: &'static str, severity: Severity, place: String, what: String) -> Self {
        debug_assert!(CODES.contains(&code), "{code} is not in the list of codes");
        Self {
            code,
            severity,
            place,
            what,
            why: String::new(),
            fix: Vec::new(),
        }
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub(super) fn sql(mut self, sql: impl Into<String>) -> Self {
        self.fix.push(Step::Sql(sql.into()));
        self
    }

    pub(super) fn advise(mut self, what: impl Into<String>) -> Self {
        self.fix.push(Step::Do(what.into()));
        self
    }

    pub(super) fn json(&self, is_allowed: bool) -> Value {
        let fix: Vec<Value> = self
            .fix
            .iter()
            .map(|step| match step {
                Step::Sql(sql) => json!({ "sql": sql }),
                Step::Do(what) => json!({ "do": what }),
            })
            .collect();
        json!({
            "code": self.code,
            "severity": self.severity.as_str(),
            "where": self.place,
            "what": self.what,
            "why": self.why,
            "fix": fix,
            "allowed": is_allowed,
        })
    }
}

/// Every code, as `docs/doctor.md` explains them.
pub(super) const CODES: &[&str] = &[
    "clock",
    "column-missing",
    "commit-not-durable",
    "crash-unsafe",
    "fence-behind",
    "fence-sequence",
    "foreign-log",
    "isolation",
    "key-collation",
    "key-deferrable",
    "key-expression",
    "key-inherited",
    "key-invalid-index",
    "key-made-by-database",
    "key-nullable",
    "key-partial",
    "key-prefix",
    "key-replaced",
    "key-type",
    "key-unprotected",
    "lock-timeout",
    "locking-off",
    "network-file-system",
    "not-a-table",
    "not-transactional",
    "read-only",
    "replica",
    "schema-version",
    "sql-mode",
    "table-missing",
    "tables-twice",
    "unlogged",
    "volatile-storage",
];
