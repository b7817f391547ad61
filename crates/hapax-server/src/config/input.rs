//! `[input]`: the keys that stored requests are encrypted with.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Mistakes;
use super::source::Step::{Index, Key};
use super::values::File;

/// How stored requests are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    /// Files with a key each, 32 bytes as 64 hex digits. The first encrypts, all decrypt. None: requests are stored as
    /// they are.
    pub(crate) key_files: Vec<File>,
}

impl Input {
    pub(crate) fn is_empty(&self) -> bool {
        self.key_files.is_empty()
    }
}

/// A key that cannot be used: what is wrong, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyProblem {
    pub(crate) problem: String,
    pub(crate) help: String,
}

impl KeyProblem {
    /// One of our own errors: they say what to write behind the last semicolon.
    pub(super) fn of(error: &dyn std::fmt::Display) -> Self {
        let text = error.to_string();
        let (problem, help) = text.rsplit_once("; ").unwrap_or((&text, "correct it"));
        Self {
            problem: problem.to_owned(),
            help: help.to_owned(),
        }
    }
}

impl std::fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.problem, self.help)
    }
}

const MAKE: &str = "make one with: (umask 077; openssl rand -hex 32 > input.key)";
const DIGITS: usize = 64;

/// Reads a key file that only its owner can read; for one that root owns, its group may too.
///
/// # Errors
/// [`KeyProblem`]; it never quotes the file.
pub(crate) fn read_key(path: &Path) -> Result<[u8; 32], KeyProblem> {
    let refuse = |problem: String, help: String| Err(KeyProblem { problem, help });
    let shown = path.display();
    let text = read_private(path, "a key", MAKE)?;
    let text = text.trim();
    if let Some(at) = text.chars().position(|c| !c.is_ascii_hexdigit()) {
        let problem = format!("{shown} has something at character {} that is no hex digit", at + 1);
        return refuse(problem, format!("a key is 64 hex digits; {MAKE}"));
    }
    if text.len() != DIGITS {
        let problem = format!("{shown} has {} hex digits, not 64", text.len());
        return refuse(problem, format!("a key is 32 bytes; {MAKE}"));
    }
    let mut key = [0; 32];
    for (byte, at) in key.iter_mut().zip((0..DIGITS).step_by(2)) {
        // Hex digits, as was seen above.
        *byte = u8::from_str_radix(&text[at..at + 2], 16).unwrap_or_default();
    }
    Ok(key)
}

/// Reads a file that only its owner can read; for one that root owns, its group may too. `what` is in it; `make` says how.
///
/// # Errors
/// [`KeyProblem`]; it never quotes the file.
pub(super) fn read_private(path: &Path, what: &str, make: &str) -> Result<String, KeyProblem> {
    let shown = path.display();
    let cannot = |error: std::io::Error| KeyProblem {
        problem: format!("cannot read {shown}: {error}"),
        help: format!("check the path and its permissions, or {make}"),
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
    let found = file.metadata().map_err(cannot)?;
    if found.is_file() {
        let others = if found.uid() == 0 { 0o037 } else { 0o077 };
        if found.mode() & others != 0 {
            let problem = format!(
                "{shown} is {what} that others can reach (mode {:o})",
                found.mode() & 0o777
            );
            let help = format!("run: chmod 600 {shown}");
            return Err(KeyProblem { problem, help });
        }
    }
    let mut text = String::new();
    // No more than shows that it is too long.
    file.take(4096).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

pub(super) fn check(input: &Input, mistakes: &mut Mistakes) {
    let mut keys: Vec<[u8; 32]> = Vec::new();
    for (index, file) in input.key_files.iter().enumerate() {
        let at = [Key("input"), Key("key_files"), Index(index)];
        match read_key(file.path()) {
            Ok(key) if keys.contains(&key) => mistakes.add(
                &at,
                format!("{file} has the same key as a file before it"),
                "leave it out, or give the key that was used before",
            ),
            Ok(key) => keys.push(key),
            Err(KeyProblem { problem, help }) => mistakes.add(&at, problem, help),
        }
    }
}
