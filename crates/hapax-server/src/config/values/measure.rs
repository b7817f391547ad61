//! Lengths of time and numbers of bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A length of time, from 0 to 100 years: `500ms`, `30s`, `5m`, `24h`, `30d`, or several together (`1h30m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(pub(crate) Duration);

text_value!(
    Period,
    "a duration such as \"500ms\", \"30s\", \"5m\", \"24h\" or \"30d\"",
    "30s"
);

const UNITS_MS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
const LONGEST_MS: u64 = 100 * 365 * 86_400_000;

impl Period {
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write a number and a unit, such as 500ms, 30s, 5m, 24h or 30d";
        let mut rest = text.trim();
        if rest.starts_with('-') {
            return Err(format!("the duration {text:?} is negative; {WRITE}"));
        }
        if rest.is_empty() {
            return Err(format!("the duration is empty; {WRITE}"));
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, after) = rest.split_at(digits);
            let after = after.trim_start();
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            let unit_ms = UNITS_MS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
            let (false, Some(unit_ms)) = (number.is_empty(), unit_ms) else {
                return Err(format!("{text:?} is no duration; {WRITE}"));
            };
            total = number
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(unit_ms))
                .and_then(|ms| total.checked_add(ms))
                .filter(|total| *total <= LONGEST_MS)
                .ok_or_else(|| format!("the duration {text:?} is too long; give at most 36500d"))?;
            rest = after.trim_start();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // At most `LONGEST_MS`.
        let mut left = self.0.as_millis() as u64;
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, ms) in UNITS_MS {
            if left >= ms {
                write!(f, "{}{unit}", left / ms)?;
                left %= ms;
            }
        }
        Ok(())
    }
}

/// A number of bytes: `8 MiB`, `64 KiB`, `1000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

const UNITS_BYTES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const LARGEST: u64 = 1 << 40;

impl Size {
    pub(crate) fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write a number and a unit, such as 64 KiB, 8 MiB or 1 GiB";
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim();
        let factor = match unit {
            "" => Some(1),
            _ => UNITS_BYTES.iter().find(|(name, _)| *name == unit).map(|(_, n)| *n),
        };
        let (Some(factor), false) = (factor, number.is_empty()) else {
            return Err(format!("{text:?} is no size; {WRITE}"));
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .filter(|bytes| *bytes <= LARGEST)
            .map(Self)
            .ok_or_else(|| format!("the size {text:?} is too large; give at most 1024 GiB"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, n): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*n);
        let (unit, bytes) = UNITS_BYTES.iter().find(fits).unwrap_or(&UNITS_BYTES[3]);
        write!(f, "{} {unit}", self.0 / bytes)
    }
}

/// A whole number is bytes.
impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64 KiB\" or \"8 MiB\"")
            }
            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                bytes.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "description": "bytes, or a size such as \"8 MiB\"" })
    }
}
