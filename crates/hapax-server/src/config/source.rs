//! Where a value was written, and mistakes that point there.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::Config;
use super::check::Mistake;

/// One or more mistakes, ready to print: each with its place, the offending line, and what to write instead.
#[derive(Debug)]
pub(crate) struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for ConfigError {}

/// A file's text, or none.
#[derive(Debug)]
pub(crate) struct Source {
    file: String,
    text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { file, text }),
            Err(error) => Err(ConfigError(format!(
                "cannot read the configuration {file}: {error}; check the path given with --config"
            ))),
        }
    }

    /// A text that was not read from a file: for tests, and for a run without one.
    pub(crate) fn none() -> Self {
        Self {
            file: "(command line)".to_owned(),
            text: String::new(),
        }
    }

    /// The configuration that the text says, with defaults for the rest.
    ///
    /// # Errors
    /// The first mistake in it.
    pub(crate) fn parse(&self) -> Result<Config, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let (problem, help) = explain_serde(error.message());
            ConfigError(self.render(error.span(), None, &problem, &help))
        })
    }

    /// The mistakes of a check, each shown where its value was written.
    pub(crate) fn explain(&self, mistakes: &[Mistake], overridden: &[(&'static str, String)]) -> ConfigError {
        let document = DeTable::parse(&self.text).ok();
        let shown: Vec<String> = mistakes
            .iter()
            .map(|mistake| {
                let flag = mistake.path.first().and_then(|step| match step {
                    Step::Key(key) => overridden.iter().find(|(name, _)| name == key),
                    Step::Index(_) => None,
                });
                let span = document
                    .as_ref()
                    .and_then(|document| locate(document.get_ref(), &mistake.path));
                match flag {
                    Some((_, flag)) => self.render(None, Some(flag), &mistake.problem, &mistake.help),
                    None => self.render(span, None, &mistake.problem, &mistake.help),
                }
            })
            .collect();
        ConfigError(shown.join("\n"))
    }

    fn render(&self, span: Option<Range<usize>>, flag: Option<&str>, problem: &str, help: &str) -> String {
        let mut out = format!("{problem}\n");
        match (span, flag) {
            (_, Some(flag)) => out.push_str(&format!("  --> {flag} on the command line\n")),
            (Some(span), None) => out.push_str(&self.quote(&span)),
            (None, None) if self.text.is_empty() => {}
            (None, None) => out.push_str(&format!("  --> {}\n", self.file)),
        }
        for line in help.lines().filter(|line| !line.is_empty()) {
            out.push_str(&format!("  = {line}\n"));
        }
        out
    }

    /// `file:line:column`, the line, and a mark under the place.
    fn quote(&self, span: &Range<usize>) -> String {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let number = self.text[..start].matches('\n').count() + 1;
        let column = self.text[line_start..start].chars().count() + 1;
        let end = self
            .text
            .floor_char_boundary(span.end.clamp(start, line_start + line.len()).max(start));
        let length = self.text[start..end].chars().count().max(1);
        let gutter = " ".repeat(number.to_string().len());
        let shown = if secret(line) {
            "(not shown: it may hold a password)"
        } else {
            line
        };
        let mut out = format!(
            "{gutter} --> {}:{number}:{column}\n{gutter}  |\n{number}  | {shown}\n",
            self.file
        );
        if !secret(line) {
            let mark = format!("{}{}", " ".repeat(column - 1), "^".repeat(length));
            out.push_str(&format!("{gutter}  | {mark}\n"));
        }
        out
    }
}

fn secret(line: &str) -> bool {
    super::values::redact(line) != line
}

/// A way into the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key of a table.
    Key(&'static str),
    /// An element of an array.
    Index(usize),
}

/// The span of the value at a path; of the innermost table that exists if the value is absent.
fn locate(table: &DeTable<'_>, path: &[Step]) -> Option<Range<usize>> {
    let mut found = None;
    let mut here: Option<&toml::Spanned<DeValue<'_>>> = None;
    for (depth, step) in path.iter().enumerate() {
        let next = match step {
            Step::Key(key) => {
                let table = if depth == 0 {
                    Some(table)
                } else {
                    here.and_then(|value| value.get_ref().as_table())
                };
                table.and_then(|table| table.get(*key))
            }
            Step::Index(index) => here
                .and_then(|value| value.get_ref().as_array())
                .and_then(|array| array.get(*index)),
        };
        let Some(next) = next else { break };
        found = Some(next.span());
        here = Some(next);
    }
    found
}

/// Puts what serde says into words, with a suggestion for a misspelt name.
fn explain_serde(message: &str) -> (String, String) {
    let message = message.trim_end();
    let named = |kind: &str| {
        let rest = message
            .strip_prefix("unknown ")?
            .strip_prefix(kind)?
            .strip_prefix(" `")?;
        let (wrong, rest) = rest.split_once('`')?;
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        Some((wrong, known))
    };
    if let Some((wrong, known)) = named("field") {
        let nearest = known
            .iter()
            .map(|name| (strsim::damerau_levenshtein(wrong, name), *name))
            .min()
            .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 3).max(1));
        let help = match nearest {
            Some((_, name)) => format!("did you mean `{name}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        return (format!("unknown key `{wrong}`"), help);
    }
    // All values, not the nearest: it may be the one that was avoided.
    if let Some((wrong, known)) = named("variant") {
        return (
            format!("unknown value `{wrong}`"),
            format!("write one of: {}", known.join(", ")),
        );
    }
    if let Some(name) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        return (
            format!("`{name}` is missing"),
            format!("write {name} = \"…\" in this table"),
        );
    }
    if let Some(rest) = message.strip_prefix("invalid value: integer `")
        && let Some((number, _)) = rest.split_once('`')
        && (message.ends_with("u32") || message.ends_with("u64"))
    {
        let problem = match number.starts_with('-') {
            true => format!("{number} is negative"),
            false => format!("{number} is too large"),
        };
        return (problem, "write a whole number such as 3".to_owned());
    }
    if let Some((wrong, expected)) = message
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.split_once(", expected "))
        && let Some(write) = in_words(expected)
    {
        return (format!("{wrong} makes no sense here"), format!("write {write}"));
    }
    // The messages of our own values end with what to write, after a semicolon.
    match message.split_once("; ") {
        Some((problem, help)) => (problem.to_owned(), help.to_owned()),
        None => (message.to_owned(), String::new()),
    }
}

/// What serde expects, for people.
fn in_words(expected: &str) -> Option<&'static str> {
    Some(match expected {
        "u32" | "u64" => "a whole number such as 3",
        "f64" => "a number such as 0.5",
        "a boolean" => "true or false",
        "a sequence" => "a list, such as [\"a\", \"b\"]",
        _ if expected.starts_with("struct ") => "a table: its keys below a [header], or in braces",
        _ => return None,
    })
}

#[cfg(test)]
impl Source {
    pub(crate) fn of(text: &str) -> Self {
        Self {
            file: "hapax.toml".to_owned(),
            text: text.to_owned(),
        }
    }
}
