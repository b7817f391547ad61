//! The difference between two clocks, from question and answer.

use std::time::Duration;

use hapax::core::Timestamp;

use super::finding::Finding;

/// How often a clock is asked: the fastest answer tells most.
pub(super) const READINGS: usize = 5;

/// Larger differences are found.
const TOLERANCE_MS: i64 = 1_000;

/// One answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// This machine's clock when it was asked.
    pub(super) before: Timestamp,
    /// How long the answer took.
    pub(super) round_trip: Duration,
    /// The other clock, in milliseconds since 1970.
    pub(super) there: i64,
}

/// A finding if the clocks differ by more than a second beyond doubt.
pub(super) fn compare(readings: &[Reading]) -> Option<Finding> {
    let best = readings.iter().min_by_key(|reading| reading.round_trip)?;
    let half = i64::try_from(best.round_trip.as_millis() / 2).unwrap_or(i64::MAX);
    let ahead = best.there.saturating_sub(best.before.as_millis().saturating_add(half));
    if ahead.saturating_abs().saturating_sub(half) <= TOLERANCE_MS {
        return None;
    }
    let word = if ahead > 0 { "ahead of" } else { "behind" };
    let difference = ahead.unsigned_abs();
    let what = format!(
        "its clock is {}.{:03} s {word} this machine's (give or take {half} ms)",
        difference / 1000,
        difference % 1000
    );
    Some(
        Finding::danger("clock", "the database server", what)
            .why(
                "leases, due times and expiry go by the database's clock: what other machines compute from theirs (times in \
                 logs, expiries of tokens, probes) does not fit, and a clock that is set right later jumps",
            )
            .advise("let both machines keep time with NTP (chronyc tracking, timedatectl), then look again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(before: i64, round_trip: u64, there: i64) -> Reading {
        Reading {
            before: Timestamp::from_millis(before),
            round_trip: Duration::from_millis(round_trip),
            there,
        }
    }

    #[test]
    fn a_second_is_tolerated_and_so_is_doubt() {
        for (readings, found) in [
            (vec![reading(10_000, 0, 11_000)], None),
            (vec![reading(10_000, 0, 11_001)], Some("1.001 s ahead of")),
            (vec![reading(10_000, 0, 8_999)], Some("1.001 s behind")),
            // An answer that took 4 s can be 2 s old or new.
            (vec![reading(10_000, 4_000, 15_000)], None),
            (vec![reading(10_000, 4_000, 15_001)], Some("3.001 s ahead of")),
            // The fastest counts.
            (
                vec![reading(10_000, 4_000, 12_000), reading(20_000, 2, 25_001)],
                Some("5.000 s ahead of"),
            ),
            (vec![], None),
        ] {
            let what = compare(&readings).map(|finding| finding.what);
            match (&what, found) {
                (None, None) => {}
                (Some(what), Some(part)) => assert!(what.contains(part), "{what}"),
                _ => panic!("{readings:?}: {what:?}"),
            }
        }
    }
}
