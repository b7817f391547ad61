//! Numbered migrations: what the SQL stores share. It plans; each store carries the plan out in its own dialect, in
//! one transaction, and records it in `hapax_migration`.

use hapax_core::{StoreError, StoreErrorKind, Timestamp};

/// One numbered change of the schema, and the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// 1, 2, 3, … without gaps.
    pub version: u32,
    /// A word for it.
    pub name: &'static str,
    /// SQL from the version before to this one.
    pub up: &'static str,
    /// SQL back to the version before.
    pub down: &'static str,
}

impl Migration {
    /// BLAKE3 of the SQL that made the schema, in hexadecimal. The way back may be mended without changing it.
    #[must_use]
    pub fn checksum(&self) -> String {
        blake3::hash(self.up.as_bytes()).to_hex().to_string()
    }
}

/// A migration that a database says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: u32,
    /// Its name then.
    pub name: String,
    /// Its checksum then.
    pub checksum: String,
    /// When it was applied.
    pub applied_at: Timestamp,
}

/// A line of `hapax migrate status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its number.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// When it was applied; `None` if it is still to be.
    pub applied_at: Option<Timestamp>,
}

/// One step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Run `up` and record the migration.
    Up(&'static Migration),
    /// Run `down` and remove its record.
    Down(&'static Migration),
}

/// The steps from what a database has (`applied`, by version) to `target` (the newest if `None`; 0 for none at all).
///
/// # Errors
/// [`StoreErrorKind::Schema`] if the database is newer than `known`, or was made by other migrations of the same
/// numbers; [`StoreErrorKind::Invalid`] if there is no such target.
pub fn plan(known: &'static [Migration], applied: &[Applied], target: Option<u32>) -> Result<Vec<Step>, StoreError> {
    let newest = known.last().map_or(0, |migration| migration.version);
    let target = target.unwrap_or(newest);
    if target > newest {
        let message = format!("there is no migration {target}: give a number from 0 to {newest}");
        return Err(StoreError::new(StoreErrorKind::Invalid, message));
    }
    check(known, applied, newest)?;
    let have = applied.len() as u32;
    if target >= have {
        let ups = known.iter().filter(|m| m.version > have && m.version <= target);
        Ok(ups.map(Step::Up).collect())
    } else {
        let downs = known.iter().rev().filter(|m| m.version <= have && m.version > target);
        Ok(downs.map(Step::Down).collect())
    }
}

/// Every migration, known or applied, for a listing.
#[must_use]
pub fn status(known: &[Migration], applied: &[Applied]) -> Vec<MigrationStatus> {
    let mut lines: Vec<_> = applied
        .iter()
        .map(|applied| MigrationStatus {
            version: applied.version,
            name: applied.name.clone(),
            applied_at: Some(applied.applied_at),
        })
        .collect();
    let missing = known
        .iter()
        .filter(|known| applied.iter().all(|applied| applied.version != known.version));
    lines.extend(missing.map(|known| MigrationStatus {
        version: known.version,
        name: known.name.to_owned(),
        applied_at: None,
    }));
    lines.sort_by_key(|line| line.version);
    lines
}

fn check(known: &[Migration], applied: &[Applied], newest: u32) -> Result<(), StoreError> {
    let schema = |message| Err(StoreError::new(StoreErrorKind::Schema, message));
    let have = applied.iter().map(|applied| applied.version).max().unwrap_or(0);
    if have > newest {
        return schema(format!(
            "the database has schema version {have}, this program knows versions up to {newest}: use the newer \
             program, or migrate back with it (`hapax migrate --to {newest}`) first"
        ));
    }
    for (known, index) in known.iter().zip(1u32..) {
        let Some(applied) = applied.get(index as usize - 1) else {
            break;
        };
        if applied.version != known.version {
            return schema(format!(
                "the database's migration {} is missing though {have} was applied: restore the table hapax_migration \
                 from a backup",
                known.version
            ));
        }
        if applied.checksum != known.checksum() {
            return schema(format!(
                "migration {} ({}) is not the one that made this database: checksum {} was applied, this program has \
                 {}; use the program that made the database, or move its records to a new one",
                known.version,
                known.name,
                applied.checksum,
                known.checksum()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOWN: [Migration; 2] = [
        Migration {
            version: 1,
            name: "records",
            up: "create one",
            down: "drop one",
        },
        Migration {
            version: 2,
            name: "more",
            up: "create two",
            down: "drop two",
        },
    ];

    fn applied(version: u32, up: &str) -> Applied {
        Applied {
            version,
            name: format!("m{version}"),
            checksum: blake3::hash(up.as_bytes()).to_hex().to_string(),
            applied_at: Timestamp::from_millis(i64::from(version)),
        }
    }

    #[test]
    fn plans_up_and_down() {
        let (one, two) = (applied(1, "create one"), applied(2, "create two"));
        let cases: [(&[Applied], Option<u32>, &[Step]); 6] = [
            (&[], None, &[Step::Up(&KNOWN[0]), Step::Up(&KNOWN[1])]),
            (&[], Some(1), &[Step::Up(&KNOWN[0])]),
            (std::slice::from_ref(&one), None, &[Step::Up(&KNOWN[1])]),
            (&[one.clone(), two.clone()], None, &[]),
            (&[one.clone(), two.clone()], Some(1), &[Step::Down(&KNOWN[1])]),
            (
                &[one.clone(), two],
                Some(0),
                &[Step::Down(&KNOWN[1]), Step::Down(&KNOWN[0])],
            ),
        ];
        for (applied, target, steps) in cases {
            assert_eq!(
                plan(&KNOWN, applied, target).unwrap(),
                steps,
                "{applied:?} to {target:?}"
            );
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let (one, two) = (applied(1, "create one"), applied(2, "create two"));
        let cases: [(&[Applied], Option<u32>, StoreErrorKind, &str); 4] = [
            (&[], Some(3), StoreErrorKind::Invalid, "from 0 to 2"),
            (
                &[one, two.clone(), applied(7, "x")],
                None,
                StoreErrorKind::Schema,
                "version 7",
            ),
            (&[two], None, StoreErrorKind::Schema, "migration 1 is missing"),
            (&[applied(1, "create 1")], None, StoreErrorKind::Schema, "checksum"),
        ];
        for (applied, target, kind, part) in cases {
            let error = plan(&KNOWN, applied, target).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn lists_what_is_applied_and_what_is_not() {
        let lines = status(&KNOWN, &[applied(1, "create one")]);
        let lines: Vec<_> = lines
            .iter()
            .map(|l| (l.version, l.name.as_str(), l.applied_at.is_some()))
            .collect();
        assert_eq!(lines, [(1, "m1", true), (2, "more", false)]);
    }
}
