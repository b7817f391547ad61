//! Percent-encoding of a path segment or query value, and back.

/// A text as one path segment or query value.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    out
}

/// The text behind its percent-encoding; `None` if it is malformed or no UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        for (text, encoded) in [
            ("a-Z_0.~", "a-Z_0.~"),
            ("a/b ü+?&#%\"", "a%2Fb%20%C3%BC%2B%3F%26%23%25%22"),
        ] {
            assert_eq!(encode(text), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(text));
        }
    }

    #[test]
    fn decodes_or_refuses() {
        assert_eq!(decode("a%2Fb%20%c3%bc+").as_deref(), Some("a/b ü+"));
        for text in ["%", "%2", "%zz", "%ff", "a%"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
