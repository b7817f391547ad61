//! Dead letters by what they have in common.

use std::collections::HashMap;
use std::io::{self, Write};

use hapax::core::{DeadReason, Summary, Timestamp};
use serde_json::json;

/// What a dead letter's error has in common with others of its kind.
pub(super) fn signature(summary: &Summary) -> String {
    match (&summary.last_error, summary.status) {
        (Some(error), _) => error.signature(),
        (None, Some(status)) => format!("answered {status}"),
        (None, None) => "no error was kept".to_owned(),
    }
}

#[derive(Default)]
pub(super) struct Groups(HashMap<(Option<DeadReason>, String), Group>);

struct Group {
    count: u64,
    oldest: Timestamp,
    newest: Timestamp,
    example: Summary,
}

impl Groups {
    pub(super) fn add(&mut self, summary: &Summary) {
        let since = summary.since;
        let group = self
            .0
            .entry((summary.dead, signature(summary)))
            .or_insert_with(|| Group {
                count: 0,
                oldest: since,
                newest: since,
                example: summary.clone(),
            });
        group.count += 1;
        group.oldest = group.oldest.min(since);
        group.newest = group.newest.max(since);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The largest first, at most `limit`; whether there are more.
    pub(super) fn write(&self, out: &mut impl Write, json: bool, limit: usize) -> io::Result<bool> {
        let mut groups: Vec<_> = self.0.iter().collect();
        groups.sort_by_key(|((_, signature), group)| (std::cmp::Reverse(group.count), group.oldest, signature.clone()));
        if !json && limit > 0 && !groups.is_empty() {
            writeln!(
                out,
                "{:>7} {:<10} {:<24} {:<24} SIGNATURE (AN EXAMPLE)",
                "COUNT", "REASON", "OLDEST", "NEWEST"
            )?;
        }
        for ((reason, signature), group) in groups.iter().take(limit) {
            let reason = reason.map_or("-", DeadReason::as_str);
            let operation = &group.example.operation;
            if json {
                let value = json!({
                    "count": group.count,
                    "reason": reason,
                    "signature": signature,
                    "oldest": group.oldest.to_string(),
                    "newest": group.newest.to_string(),
                    "example": {
                        "scope": operation.scope().as_str(),
                        "name": operation.name().as_str(),
                        "key": operation.key().as_str(),
                    },
                });
                writeln!(out, "{value}")?;
                continue;
            }
            writeln!(
                out,
                "{:>7} {reason:<10} {:<24} {:<24} {signature} ({})",
                group.count,
                group.oldest.to_string(),
                group.newest.to_string(),
                operation.key()
            )?;
        }
        Ok(groups.len() > limit)
    }
}
