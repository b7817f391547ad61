//! Percent-decoding of a path segment or query value.

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
    use super::decode;

    #[test]
    fn decodes_or_refuses() {
        assert_eq!(decode("a%2Fb%20%c3%bc+").as_deref(), Some("a/b ü+"));
        for text in ["%", "%2", "%zz", "%ff", "a%"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
