//! Rules of the architecture that no dependency shows: what the sources of a
//! module may not name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::step::{Failure, Outcome, root};

struct Rule {
    /// Folder or file, and what hangs below it; from the root.
    places: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        places: &["crates/hapax-core/src"],
        words: &[
            "SystemTime",
            "Instant",
            "std::env",
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::thread",
            "async fn",
        ],
        why: "the core has no clock, no input or output, and nothing asynchronous",
    },
    Rule {
        places: &["crates/hapax/src/engine.rs", "crates/hapax/src/engine"],
        words: &[
            "rusqlite",
            "tokio_postgres",
            "sqlx",
            "hapax_store::sqlite",
            "hapax_store::postgres",
            "SqliteStore",
            "PostgresStore",
            "hyper",
            "axum",
            "tower",
            "http::",
            "http_body",
            "consume::",
            "outbox::",
            "steps::",
        ],
        why: "the engine names no driver and no door",
    },
];

/// The check.
pub(super) fn check() -> Outcome {
    let mut complaints = Vec::new();
    for rule in RULES {
        let mut files = Vec::new();
        for place in rule.places {
            collect(&root().join(place), &mut files)?;
        }
        for file in files {
            let text =
                fs::read_to_string(&file).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
            let shown = file.strip_prefix(root()).unwrap_or(&file);
            for (line, word) in named(&text, rule.words) {
                complaints.push(format!("{}:{line}: `{word}`: {}", shown.display(), rule.why));
            }
        }
    }
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(complaints.join("\n")))
    }
}

/// The sources at a place. One that is not there is a failure: the rule would
/// hold for nothing.
fn collect(place: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    if place.is_file() {
        files.push(place.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(place)
        .map_err(|error| Failure::Failed(format!("{}: {error}; a rule is about it", place.display())))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Where code (comments aside) names one of the words, and which.
fn named<'a>(text: &str, words: &[&'a str]) -> Vec<(usize, &'a str)> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    (1..)
        .zip(text.lines().map(code))
        .flat_map(|(number, line)| {
            let found = words.iter().copied().filter(move |word| has_word(&line, word));
            found.map(move |word| (number, word))
        })
        .collect()
}

/// Whether a line has a word that is not the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn words_are_found_in_code_and_not_in_comments_or_longer_words() {
        let words = ["http::", "Instant"];
        let text = "use http::Method;\n// http::Method\nuse my_http::X;\nlet t = Instant::now();";
        assert_eq!(named(text, &words), [(1, "http::"), (4, "Instant")]);
    }
}
