//! Reads JSON strictly and writes it in the canonical form of RFC 8785.
//!
//! Whatever the canonical form could lose makes the text unreadable here: numbers that a double cannot hold, a name
//! that comes twice in an object, a lone surrogate, nesting deeper than [`MAX_DEPTH`]. So do more than [`MAX_VALUES`]
//! values, since each takes far more memory than its text.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::number;

/// Deepest nesting that is read.
pub(super) const MAX_DEPTH: usize = 128;
/// Most values that are read, about 16 MiB of memory.
const MAX_VALUES: usize = 256 * 1024;

/// A JSON value.
#[derive(Debug, PartialEq)]
pub(super) enum Json<'a> {
    /// `null`, `true` or `false`.
    Word(&'static str),
    /// A number in its canonical form.
    Number(Cow<'a, str>),
    /// A string without its escapes.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object, sorted by name as RFC 8785 has it.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads a whole text. `None` if it is no JSON or has no lossless canonical form.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        let mut reader = Reader {
            text: std::str::from_utf8(text).ok()?,
            at: 0,
            values: 0,
        };
        let value = reader.value(0)?;
        reader.skip_white_space();
        (reader.at == reader.text.len()).then_some(value)
    }

    /// Appends the canonical form.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Word(word) => out.push_str(word),
            Self::Number(number) => out.push_str(number),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_string(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => '"',
            b'\\' => '\\',
            0x08 => 'b',
            b'\t' => 't',
            b'\n' => 'n',
            0x0c => 'f',
            b'\r' => 'r',
            0..=0x1f => 'u',
            _ => continue,
        };
        out.push_str(&text[from..at]);
        from = at + 1;
        out.push('\\');
        out.push(short);
        if short == 'u' {
            out.push_str("00");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// The order of names: by UTF-16 code units.
fn by_utf16(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        return a.cmp(b);
    }
    a.encode_utf16().cmp(b.encode_utf16())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return None;
        }
        self.skip_white_space();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Json::String),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut members = Vec::new();
        if self.opens_empty(depth, b'}')? {
            return Some(Json::Object(members));
        }
        loop {
            self.skip_white_space();
            let name = self.string()?;
            self.skip_white_space();
            self.take(b':')?;
            members.push((name, self.value(depth + 1)?));
            if self.closes(b'}')? {
                break;
            }
        }
        members.sort_unstable_by(|(a, _), (b, _)| by_utf16(a, b));
        let repeated = members.windows(2).any(|pair| pair[0].0 == pair[1].0);
        (!repeated).then_some(Json::Object(members))
    }

    fn array(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut items = Vec::new();
        if self.opens_empty(depth, b']')? {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.closes(b']')? {
                return Some(Json::Array(items));
            }
        }
    }

    /// Takes the opening bracket; whether the closing one follows at once.
    fn opens_empty(&mut self, depth: usize, close: u8) -> Option<bool> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.at += 1;
        self.skip_white_space();
        Some(self.take(close).is_some())
    }

    /// Takes a comma or the closing bracket; whether it was the bracket.
    fn closes(&mut self, close: u8) -> Option<bool> {
        self.skip_white_space();
        match self.take(b',') {
            Some(()) => Some(false),
            None => self.take(close).map(|()| true),
        }
    }

    fn word(&mut self, word: &'static str) -> Option<Json<'a>> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            Json::Word(word)
        })
    }

    fn number(&mut self) -> Option<Json<'a>> {
        let from = self.at;
        let _: Option<()> = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        number::canonical(&self.text[from..self.at]).map(Json::Number)
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take(b'"')?;
        let mut unescaped = String::new();
        let mut from = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    let rest = &self.text[from..self.at];
                    self.at += 1;
                    if unescaped.is_empty() {
                        return Some(Cow::Borrowed(rest));
                    }
                    unescaped.push_str(rest);
                    return Some(Cow::Owned(unescaped));
                }
                b'\\' => {
                    unescaped.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    unescaped.push(self.escaped()?);
                    from = self.at;
                }
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                let second = match first {
                    0xd800..=0xdbff => {
                        self.take(b'\\')?;
                        self.take(b'u')?;
                        Some(self.hex4()?)
                    }
                    _ => None,
                };
                char::decode_utf16([Some(first), second].into_iter().flatten())
                    .next()?
                    .ok()?
            }
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u16> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        let mut number = 0;
        for digit in digits {
            number = number << 4 | char::from(*digit).to_digit(16)? as u16;
        }
        self.at += 4;
        Some(number)
    }

    fn skip_white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        let mut out = String::new();
        Json::read(text.as_bytes()).map(|json| {
            json.write(&mut out);
            out
        })
    }

    #[test]
    fn order_space_and_notation_do_not_matter() {
        for (texts, form) in [
            (
                &[
                    r#"{"a":1,"b":[true,null]}"#,
                    " {\"b\" : [true ,\r\n null], \"a\":1.0}\t",
                ][..],
                r#"{"a":1,"b":[true,null]}"#,
            ),
            (&["[]", "[ ]"], "[]"),
            (&["{}", " { } "], "{}"),
            (&["1", "1.0", "1e0"], "1"),
            (&[r#""\u0041\/\n\u001F\"""#], r#""A/\n\u001f\"""#),
            (&[r#""\b\f\r\t\\""#], r#""\b\f\r\t\\""#),
            (&[r#""\ud83d\ude00""#, "\"😀\""], "\"😀\""),
            (&["false"], "false"),
        ] {
            for text in texts {
                assert_eq!(canonical(text).as_deref(), Some(form), "{text}");
            }
        }
    }

    #[test]
    fn names_are_sorted_by_utf16_units() {
        let text = r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
        let values: Vec<u32> = canonical(text)
            .unwrap()
            .chars()
            .filter_map(|c| c.to_digit(10))
            .collect();
        // "\r" 2, then the name "1" and its 4, U+0080 6, ö 7, € 1, 😀 5 (a surrogate pair), U+FB33 3.
        assert_eq!(values, [2, 1, 4, 6, 7, 1, 5, 3]);
    }

    #[test]
    fn what_would_be_lost_or_is_no_json_has_no_form() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for text in [
            "",
            " ",
            "{",
            "[1",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "tru",
            "nul",
            "1 2",
            "[1]]",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\n\"",
            "NaN",
            "\u{feff}1",
            "12345678901234567890",
            "[0.1,1e400]",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"b":{"x":1,"y":2,"x":3}}]"#,
            &deep(129),
            &deep(1000),
            &"{\"a\":".repeat(1000),
        ] {
            assert_eq!(canonical(text), None, "{}", &text[..text.len().min(40)]);
        }
        assert!(canonical(&deep(128)).is_some());
        let wide = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(canonical(&wide(MAX_VALUES)).is_some());
        assert_eq!(canonical(&wide(MAX_VALUES + 1)), None);
        assert_eq!(Json::read(b"\"\xff\""), None);
    }
}
