//! JSON numbers as RFC 8785 writes them, if a double can hold them.

use std::borrow::Cow;
use std::fmt::Write;

/// The number as ECMAScript writes its double. `None` if the double is not exactly the decimal that was
/// written: then two different numbers could look the same.
pub(super) fn canonical(text: &str) -> Option<Cow<'_, str>> {
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned == "0" {
        return Some(Cow::Borrowed("0"));
    }
    // A double holds every whole number of 15 digits.
    if unsigned.len() <= 15 && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Cow::Borrowed(text));
    }
    let double: f64 = unsigned.parse().ok().filter(|double: &f64| double.is_finite())?;
    // The shortest decimal that reads back as the same double, as ECMAScript asks for.
    let shortest = Decimal::read(&format!("{double:e}"))?;
    if Decimal::read(unsigned)? != shortest {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    if negative && !shortest.digits.is_empty() {
        out.push('-');
    }
    shortest.write(&mut out);
    Some(Cow::Owned(out))
}

/// The value 0.`digits` × 10^`exponent`, with neither leading nor trailing zeros in `digits`.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads an unsigned JSON number. `None` if its exponent is beyond all sense.
    fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let leading = all.len() - all.trim_start_matches('0').len();
        let digits = all.trim_matches('0').to_owned();
        let exponent = if digits.is_empty() {
            0
        } else {
            i64::from(exponent) + whole.len() as i64 - leading as i64
        };
        Some(Self { digits, exponent })
    }

    /// Writes it by the rules of ECMAScript's `Number::toString`.
    fn write(&self, out: &mut String) {
        let (digits, count, point) = (&self.digits, self.digits.len() as i64, self.exponent);
        if digits.is_empty() {
            out.push('0');
        } else if count <= point && point <= 21 {
            out.push_str(digits);
            zeros(point - count, out);
        } else if 0 < point && point <= 21 {
            let (whole, fraction) = digits.split_at(point as usize);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        } else if -6 < point && point <= 0 {
            out.push_str("0.");
            zeros(-point, out);
            out.push_str(digits);
        } else {
            let (first, rest) = digits.split_at(1);
            out.push_str(first);
            if !rest.is_empty() {
                out.push('.');
                out.push_str(rest);
            }
            // Writing to a string cannot fail.
            let _ = write!(out, "e{:+}", point - 1);
        }
    }
}

fn zeros(count: i64, out: &mut String) {
    (0..count).for_each(|_| out.push('0'));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Option<String> {
        canonical(text).map(Cow::into_owned)
    }

    #[test]
    fn one_number_has_one_form() {
        for (texts, form) in [
            (&["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.00"][..], "1"),
            (&["0", "-0", "0.0", "-0e5", "0e99"], "0"),
            (&["-1.50", "-15e-1"], "-1.5"),
            (&["0.1", "1e-1"], "0.1"),
            (&["0.000001", "1e-6"], "0.000001"),
            (&["0.0000001", "1E-7"], "1e-7"),
            (&["1e20", "100000000000000000000"], "100000000000000000000"),
            (&["1e21", "1000000000000000000000"], "1e+21"),
            (&["1.25e23"], "1.25e+23"),
            (&["5e-324"], "5e-324"),
            (&["1.7976931348623157e308"], "1.7976931348623157e+308"),
            (&["9007199254740992"], "9007199254740992"),
            (&["123456789012345", "123456789012345.0"], "123456789012345"),
            (&["-123"], "-123"),
        ] {
            for text in texts {
                assert_eq!(written(text).as_deref(), Some(form), "{text}");
            }
        }
    }

    #[test]
    fn what_a_double_cannot_hold_has_no_form() {
        for text in [
            "9007199254740993",
            "12345678901234567890",
            "0.10000000000000001",
            "333333333.33333329",
            "3.14159265358979323846",
            "1e400",
            "-1e400",
            "1e-400",
            "1e99999999999999999999",
            "4e-324",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
    }
}
