//! Whether a natural key is protected: pure, on a table as it was read.
//!
//! A unique index protects a key if no two rows can have the same values in all columns of the key. So an index on
//! some of them does, and one on values computed from them; one with a further column does not, nor one that leaves
//! rows out or takes nulls for different.

use super::advice;
use super::finding::Finding;
use super::shape::{Part, Table, Unique};

/// Why a unique index does not protect a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    /// Only the nulls of these are missing.
    Nullable(Vec<String>),
    Partial(String),
    Invalid(String),
    Replaces(String),
    /// It compares more than the key.
    Further(Vec<String>),
}

/// What is surprising about an index that protects a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Caveat {
    Collation(String, String),
    Prefix(String, u64),
    Expression(String),
    Deferrable,
}

/// What is wrong with a key whose columns exist.
pub(super) fn judge(table: &Table, key: &[String]) -> Vec<Finding> {
    let mut findings = columns(table, key);
    let verdicts: Vec<(&Unique, Vec<Miss>)> = table
        .uniques
        .iter()
        .map(|unique| (unique, misses(table, key, unique)))
        .collect();
    let protecting = || verdicts.iter().filter(|(_, misses)| misses.is_empty());
    let easiest = protecting()
        .map(|(unique, _)| (caveats(table, unique), *unique))
        .min_by_key(|(caveats, _)| caveats.len());
    match easiest {
        Some((caveats, unique)) => findings.extend(caveats.iter().map(|caveat| surprise(table, key, unique, caveat))),
        None => findings.push(unprotected(table, key, &verdicts)),
    }
    if table.has_heirs && protecting().next().is_some() {
        findings.push(advice::inherited(table, key));
    }
    findings
}

/// Columns that make a poor key whatever the indexes.
fn columns(table: &Table, key: &[String]) -> Vec<Finding> {
    let columns = key.iter().filter_map(|name| table.column(name));
    columns
        .flat_map(|column| {
            let place = format!("{}.{}", table.shown(), column.name);
            let made = column.made.as_ref().map(|how| {
                let what = format!("the key has a value that the database makes: {how}");
                Finding::danger("key-made-by-database", &place, what)
                    .why(
                        "a repetition that leaves the value out gets a new one, so its key never is the first one's and it \
                         happens again",
                    )
                    .advise(
                        "take a value that the caller gives and sends again with every retry (its order number, a message id), \
                         and leave this column out of natural_key",
                    )
            });
            let imprecise = column.imprecise.as_ref().map(|how| {
                Finding::caution("key-type", &place, how.clone())
                    .why("a repetition that is written otherwise counts as another key, or another key as a repetition")
                    .advise("keep keys as text, whole numbers, decimals, UUIDs or bytes")
            });
            made.into_iter().chain(imprecise)
        })
        .collect()
}

fn misses(table: &Table, key: &[String], unique: &Unique) -> Vec<Miss> {
    let mut misses = Vec::new();
    let further: Vec<String> = unique
        .parts
        .iter()
        .filter(|part| !is_of(table, key, part))
        .map(|part| part.text().to_owned())
        .collect();
    if !further.is_empty() {
        misses.push(Miss::Further(further));
    }
    if let Some(how) = &unique.on_conflict {
        misses.push(Miss::Replaces(how.clone()));
    }
    if let Some(why) = &unique.invalid {
        misses.push(Miss::Invalid(why.clone()));
    }
    // Rows left out because a column of the key is null are those that nulls let through anyway.
    let mut nullable = match unique.predicate.as_deref().map(|text| (text, nulls_only(text))) {
        None => Vec::new(),
        Some((_, Some(names))) if names.iter().all(|name| key.contains(name)) => names,
        Some((text, _)) => {
            misses.push(Miss::Partial(text.to_owned()));
            Vec::new()
        }
    };
    nullable.retain(|name| table.column(name).is_none_or(|column| !column.not_null));
    if unique.nulls_differ {
        nullable.extend(unique.parts.iter().flat_map(|part| nullable_columns(table, part)));
    }
    nullable.sort();
    nullable.dedup();
    if !nullable.is_empty() {
        misses.push(Miss::Nullable(nullable));
    }
    misses
}

/// Whether equal keys make this part equal.
fn is_of(table: &Table, key: &[String], part: &Part) -> bool {
    match part {
        Part::Column { name, .. } if key.contains(name) => true,
        Part::Column { name, .. } => {
            let from = table.column(name).map_or(&[][..], |column| &column.computed_from);
            !from.is_empty() && from.iter().all(|column| key.contains(column))
        }
        Part::Expression { columns, .. } => !columns.is_empty() && columns.iter().all(|column| key.contains(column)),
    }
}

/// The columns whose null lets a row past this part.
fn nullable_columns(table: &Table, part: &Part) -> Vec<String> {
    let nullable = |name: &String| table.column(name).is_some_and(|column| !column.not_null);
    match part {
        Part::Column { name, .. } => [name].into_iter().filter(|name| nullable(name)).cloned().collect(),
        Part::Expression { text, columns } => {
            if never_null(text) {
                return Vec::new();
            }
            let of: Vec<String> = columns.iter().filter(|name| nullable(name)).cloned().collect();
            if of.is_empty() && may_make_null(text) {
                return vec![text.clone()];
            }
            of
        }
    }
}

/// `coalesce(…, 'literal')`, the common way to make a null count.
fn never_null(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    let text = text.trim_start_matches('(').trim_end_matches(')');
    let Some(inner) = text.strip_prefix("coalesce(").or_else(|| text.strip_prefix("ifnull(")) else {
        return false;
    };
    let Some((_, last)) = inner.rsplit_once(',') else {
        return false;
    };
    let last = last.trim();
    last.starts_with('\'') || last.starts_with("_utf8mb4") || last.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// Whether an expression on values may be null though they are not.
pub(super) fn may_make_null(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["nullif", "case", "->", "#>", "json", "substring", "regexp"]
        .iter()
        .any(|part| text.contains(part))
}

/// The columns of a predicate that says nothing but that they are not null.
pub(super) fn nulls_only(predicate: &str) -> Option<Vec<String>> {
    let bare = predicate.replace(['(', ')'], " ");
    let words: Vec<&str> = bare.split_whitespace().collect();
    let mut names = Vec::new();
    for clause in words.split(|word| word.eq_ignore_ascii_case("and")) {
        match clause {
            [name, is, not, null]
                if is.eq_ignore_ascii_case("is")
                    && not.eq_ignore_ascii_case("not")
                    && null.eq_ignore_ascii_case("null") =>
            {
                let bare = name.trim_matches(['"', '`', '[', ']']);
                names.push(bare.to_owned());
            }
            _ => return None,
        }
    }
    Some(names)
}

fn caveats(table: &Table, unique: &Unique) -> Vec<Caveat> {
    let mut caveats = Vec::new();
    for part in &unique.parts {
        match part {
            Part::Column { name, coarse, prefix } => {
                if let Some(coarse) = coarse {
                    caveats.push(Caveat::Collation(name.clone(), coarse.clone()));
                }
                if let Some(prefix) = prefix {
                    caveats.push(Caveat::Prefix(name.clone(), *prefix));
                }
                let computed = table
                    .column(name)
                    .is_some_and(|column| !column.computed_from.is_empty());
                if computed {
                    caveats.push(Caveat::Expression(name.clone()));
                }
            }
            Part::Expression { text, .. } => caveats.push(Caveat::Expression(text.clone())),
        }
    }
    if unique.is_deferrable {
        caveats.push(Caveat::Deferrable);
    }
    caveats
}

fn surprise(table: &Table, key: &[String], unique: &Unique, caveat: &Caveat) -> Finding {
    let place = advice::place(table, key);
    let index = &unique.name;
    match caveat {
        Caveat::Collation(column, coarse) => Finding::caution(
            "key-collation",
            place,
            format!("{index} takes different values of {column} for the same: {coarse}"),
        )
        .why("two callers with keys such as k-1a and k-1A get one effect, and the second the first's answer")
        .also(advice::exact_column(table, column)),
        Caveat::Prefix(column, length) => Finding::caution(
            "key-prefix",
            place,
            format!("{index} looks at the first {length} of {column} only"),
        )
        .why("two keys that begin the same are taken for one: the second caller gets the first's answer")
        .also(advice::whole_column(table, key, unique)),
        Caveat::Expression(text) => Finding::caution(
            "key-expression",
            place,
            format!("{index} protects it by something computed from it: {text}"),
        )
        .why(format!(
            "a repetition cannot get in, but keys that differ only in what {text} drops are taken for one, and \
             ON CONFLICT or a look by the key's own columns does not find the row"
        ))
        .also(advice::own_columns(table, key)),
        Caveat::Deferrable => Finding::caution(
            "key-deferrable",
            place,
            format!("{index} is deferrable: it may be looked at when the transaction commits, not at the insert"),
        )
        .why("the second one fails at its commit instead of being told, and ON CONFLICT refuses the constraint")
        .also(advice::instead(table, key, unique)),
    }
}

fn unprotected(table: &Table, key: &[String], verdicts: &[(&Unique, Vec<Miss>)]) -> Finding {
    let place = advice::place(table, key);
    let nearest = verdicts
        .iter()
        .filter(|(unique, misses)| touches(key, unique) && misses.len() == 1)
        .min_by_key(|(_, misses)| misses.clone());
    let twice = "two requests at the same time both see that there is no row yet, and both insert one";
    let Some((unique, misses)) = nearest else {
        return Finding::danger("key-unprotected", place, "no unique index or constraint covers it")
            .why(twice)
            .also(advice::unique(table, key));
    };
    let index = &unique.name;
    match &misses[0] {
        Miss::Nullable(columns) => {
            let names = columns.join(", ");
            Finding::danger(
                "key-nullable",
                place,
                format!("{index} covers it, but {names} can be null, and nulls are never the same"),
            )
            .why(format!("rows with a null in {names} can be there any number of times"))
            .also(advice::not_null(table, key, unique, columns))
        }
        Miss::Partial(predicate) => Finding::danger(
            "key-partial",
            place,
            format!("{index} covers it only for rows with {predicate}"),
        )
        .why("outside of these rows nothing stops a repetition: not after a soft delete either")
        .also(advice::unique(table, key)),
        Miss::Invalid(why) => Finding::danger("key-invalid-index", place, format!("{index} covers it, but {why}"))
            .why(twice)
            .also(advice::instead(table, key, unique)),
        Miss::Replaces(how) => Finding::danger(
            "key-replaced",
            place,
            format!("{index} covers it with ON CONFLICT {how}: a repetition is no error"),
        )
        .why("a repetition silently replaces or drops a row, and its caller believes that it inserted one")
        .also(advice::instead(table, key, unique)),
        Miss::Further(columns) => Finding::danger(
            "key-unprotected",
            place,
            format!(
                "the nearest unique index, {index}, compares more than the key: {}",
                columns.join(", ")
            ),
        )
        .why("rows with the same key get in as long as they differ there")
        .also(advice::unique(table, key)),
    }
}

fn touches(key: &[String], unique: &Unique) -> bool {
    unique.parts.iter().any(|part| match part {
        Part::Column { name, .. } => key.contains(name),
        Part::Expression { columns, .. } => columns.iter().any(|column| key.contains(column)),
    })
}

impl Finding {
    /// With what an advice adds.
    fn also(mut self, steps: Vec<super::finding::Step>) -> Self {
        self.fix.extend(steps);
        self
    }
}
