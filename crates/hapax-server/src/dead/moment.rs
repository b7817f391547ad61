//! A point in time on the command line, as the program prints it.

use std::str::FromStr;

use hapax::core::Timestamp;

/// `2026-01-31T08:00:00Z`, with or without a fraction, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map(Self).ok_or_else(|| {
            format!("{text:?} is no time; write it in UTC such as 2026-01-31T08:00:00Z, as hapax prints it")
        })
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time
        .split_once('.')
        .map_or((time, None), |(time, fraction)| (time, Some(fraction)));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let millis = match fraction {
        None => 0,
        Some(digits) if (1..=3).contains(&digits.len()) => {
            let scale = [100, 10, 1][digits.len() - 1];
            number(digits)? * scale
        }
        Some(_) => return None,
    };
    let in_range = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !in_range || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_millis(seconds * 1000 + millis))
}

fn numbers(text: &str, between: char, lengths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between);
    let mut values = [0; 3];
    for (value, length) in values.iter_mut().zip(lengths) {
        *value = parts.next().filter(|part| part.len() == length).and_then(number)?;
    }
    parts.next().is_none().then_some(values)
}

fn number(digits: &str) -> Option<i64> {
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of the month.
fn days_before(year: i64, month: i64) -> i64 {
    let before = year - 1;
    let leaps = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leaps(before) - leaps(1969);
    years + (1..month).map(|month| days_in(year, month)).sum::<i64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read() {
        for millis in [
            0,
            -1,
            951_782_400_000,
            1_709_251_199_999,
            1_795_590_000_123,
            4_107_542_400_000,
        ] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(at.to_string().parse(), Ok(Moment(at)), "{at}");
        }
        for (text, millis) in [
            ("1970-01-01T00:00:01Z", 1000),
            ("1970-01-01T00:00:00.5Z", 500),
            ("1970-01-01T00:00:00.05Z", 50),
        ] {
            assert_eq!(text.parse(), Ok(Moment(Timestamp::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T08:00:00",
            "2026-01-31T08:00:00+01:00",
            "2026-02-29T08:00:00Z",
            "2026-13-01T08:00:00Z",
            "2026-00-01T08:00:00Z",
            "2026-01-00T08:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T08:60:00Z",
            "2026-01-31T08:00:60Z",
            "2026-1-31T08:00:00Z",
            "2026-01-31T08:00:00.Z",
            "2026-01-31T08:00:00.1234Z",
            "2026-01-31-01T08:00:00Z",
            "+026-01-31T08:00:00Z",
            "2026-01-3éT08:00:00Z",
        ] {
            let error = Moment::from_str(text).unwrap_err();
            assert!(error.contains("in UTC such as 2026-01-31T08:00:00Z"), "{text}: {error}");
        }
    }
}
