//! Declared names that the database does not have, and the nearest that it has.

use super::finding::Finding;
use super::shape::Table;
use crate::config::guard::TableName;

/// A declared table that is not there. `known`: those that are, with their schemas; `usual` is the schema that need
/// not be written.
pub(super) fn missing_table<'a>(
    name: &TableName,
    known: impl Iterator<Item = (&'a str, &'a str)>,
    usual: &str,
) -> Finding {
    let wanted = name.to_string();
    let nearest = known
        .map(|(schema, table)| {
            let qualified = format!("{schema}.{table}");
            let to_table = strsim::damerau_levenshtein(&name.table.to_lowercase(), &table.to_lowercase());
            let to_both = strsim::damerau_levenshtein(&wanted.to_lowercase(), &qualified.to_lowercase());
            // The right table in a schema that was not named is nearest of all.
            (
                to_table.min(to_both),
                if schema == usual || schema.is_empty() {
                    table.to_owned()
                } else {
                    qualified
                },
            )
        })
        .min()
        .filter(|(distance, found)| is_near(*distance, &wanted, found));
    let finding = Finding::danger("table-missing", &wanted, "there is no such table")
        .why("nothing is known of its key: it may be unprotected");
    match nearest {
        Some((_, found)) => finding.advise(format!("did you mean [guard.\"{found}\"]?")),
        None => finding.advise(format!(
            "create it, or take [guard.\"{wanted}\"] out of the configuration"
        )),
    }
}

/// Something that has no unique indexes to look at.
pub(super) fn not_a_table(place: &str, what: &str) -> Finding {
    Finding::danger("not-a-table", place, format!("it is {what}"))
        .why("only a table can have a unique index that the database enforces")
        .advise("declare the table behind it")
}

/// The key's columns as the table spells them; none if one is missing, with a finding for each that is. `fold`: what
/// SQL makes of a name without quotes.
pub(super) fn columns(
    table: &Table,
    key: &[String],
    fold: impl Fn(&str) -> String,
) -> (Option<Vec<String>>, Vec<Finding>) {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in key {
        let is_it = |column: &&super::shape::Column| column.name == *name;
        let folds_to_it = |column: &&super::shape::Column| fold(&column.name) == fold(name);
        match table
            .columns
            .iter()
            .find(is_it)
            .or_else(|| table.columns.iter().find(folds_to_it))
        {
            Some(column) => found.push(column.name.clone()),
            None => missing.push(missing_column(table, name)),
        }
    }
    (missing.is_empty().then_some(found), missing)
}

fn missing_column(table: &Table, name: &str) -> Finding {
    let nearest = table
        .columns
        .iter()
        .map(|column| {
            (
                strsim::damerau_levenshtein(&name.to_lowercase(), &column.name.to_lowercase()),
                &column.name,
            )
        })
        .min()
        .filter(|(distance, found)| is_near(*distance, name, found));
    let place = format!("{}.{name}", table.shown());
    let finding = Finding::danger("column-missing", place, "there is no such column")
        .why("the declared key cannot be looked at: it may be unprotected");
    match nearest {
        Some((_, found)) => finding.advise(format!("did you mean {found:?}?")),
        None => {
            let known: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            finding.advise(format!("its columns are {}", known.join(", ")))
        }
    }
}

fn is_near(distance: usize, one: &str, other: &str) -> bool {
    distance <= (one.len().max(other.len()) / 3).max(1)
}
