//! What is said of hapax's own tables, whatever the database.

use hapax::store::migration::{self, Applied, Migration};

use super::finding::Finding;

/// A number that only grows, and where it ends.
pub(super) struct Used {
    pub(super) last: i64,
    pub(super) largest: i64,
}

/// What was seen, for the report.
pub(super) fn notes(tables: &[String]) -> Vec<String> {
    match tables {
        [] => vec!["there are no tables of hapax here".to_owned()],
        _ => vec![format!("tables of hapax: {}", tables.join(", "))],
    }
}

/// A server that only repeats what another does.
pub(super) fn replica(place: &str, tables: &[String]) -> Finding {
    let what = match tables {
        [] => "this is a read replica".to_owned(),
        _ => format!("this is a read replica, with {}", tables.join(", ")),
    };
    Finding::danger("replica", place, what).why(
        "it cannot claim or write a receipt, and shows what was true a while ago: whoever asks it whether something was \
         done may be told no, and do it again",
    )
}

/// A database that takes no writes.
pub(super) fn read_only(place: &str, what: &str) -> Finding {
    Finding::danger("read-only", place, what).why("no claim, receipt or outbox entry can be written here")
}

/// Tables of one name in several schemas.
pub(super) fn twice(name: &str, places: &[String]) -> Option<Finding> {
    if places.len() < 2 {
        return None;
    }
    let finding = Finding::danger("tables-twice", name, format!("it is there more than once: {}", places.join(", ")))
        .why(
            "which one is meant depends on the search path of each session: two programs that use different ones do the same \
             operation twice",
        )
        .advise("keep the one that your programs use, and drop the others once they are empty or their records forgotten");
    Some(finding)
}

/// Tables that another version of hapax made.
pub(super) fn schema_version(place: &str, known: &'static [Migration], applied: &[Applied]) -> Option<Finding> {
    match migration::plan(known, applied, None) {
        Ok(steps) if steps.is_empty() => None,
        Ok(steps) => Some(
            Finding::danger(
                "schema-version",
                place,
                format!("hapax's tables are {} migrations behind this program", steps.len()),
            )
            .why("this program refuses to work on them, or changes them at its first start")
            .advise("run: hapax migrate --store URL"),
        ),
        Err(error) => Some(
            Finding::danger("schema-version", place, error.to_string())
                .why("two versions of hapax on one set of tables do not keep each other's promises")
                .advise("use one version of hapax on it; hapax migrate status --store URL shows what was applied"),
        ),
    }
}

/// A sequence that has used more than half of its numbers.
pub(super) fn nearly_used_up(place: &str, used: &Used, fix: impl FnOnce() -> String) -> Option<Finding> {
    if used.last <= used.largest / 2 {
        return None;
    }
    let percent = i128::from(used.last) * 100 / i128::from(used.largest.max(1));
    let finding = Finding::danger(
        "fence-sequence",
        place,
        format!(
            "{percent} % of its numbers are used ({} of {})",
            used.last, used.largest
        ),
    )
    .why("when they are used up, nothing can be claimed any more");
    Some(if used.largest < i64::MAX {
        finding.sql(fix())
    } else {
        finding.advise("no workload uses up 2^63 numbers: somebody set it; move the records to a fresh store")
    })
}

/// A counter of fences that was set back.
pub(super) fn behind(place: &str, last: i64, newest: i64, records: &str) -> Option<Finding> {
    if newest <= last {
        return None;
    }
    let what = format!("it stands at {last}, but the newest record in {records} has fence {newest}");
    Some(Finding::danger("fence-behind", place, what).why(
        "it was restored or set back: new claims get fences that were given out before, and a holder that was given up on \
         can finish over its successor",
    ))
}
