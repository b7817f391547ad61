//! Subjects, and what they cover.

/// Whether a message can be published to it: tokens between dots, none of them empty or a wildcard.
pub(super) fn is_plain(subject: &str) -> bool {
    is_pattern(subject) && subject.split('.').all(|token| token != "*" && token != ">")
}

/// Whether it can be subscribed to.
pub(super) fn is_pattern(subject: &str) -> bool {
    !subject.is_empty()
        && subject
            .split('.')
            .all(|token| !token.is_empty() && !token.chars().any(|char| char.is_whitespace() || char.is_control()))
}

/// Whether it names a stream or a consumer.
pub(super) fn is_name(name: &str) -> bool {
    let forbidden = |char: char| char.is_whitespace() || char.is_control() || "./\\*>".contains(char);
    !name.is_empty() && name.len() <= 255 && !name.chars().any(forbidden)
}

/// Whether a pattern covers a subject without wildcards.
pub(super) fn covers(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_as_they_do_at_the_server() {
        for (pattern, subject) in [
            ("a", "a"),
            ("a.*", "a.b"),
            ("*.b", "a.b"),
            ("a.>", "a.b.c"),
            (">", "a.b"),
        ] {
            assert!(covers(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in [("a", "b"), ("a.*", "a"), ("a.*", "a.b.c"), ("a.>", "a"), ("a.b", "a")] {
            assert!(!covers(pattern, subject), "{pattern} {subject}");
        }
    }

    #[test]
    fn nobody_publishes_to_a_wildcard() {
        for subject in ["", "a..b", ".a", "a.", "a b", "a.*", ">", "a\r\n"] {
            assert!(!is_plain(subject), "{subject:?}");
        }
        assert!(is_plain("a.b") && is_plain("a*.b") && is_pattern("a.>"));
        assert!(is_name("ORDERS_1") && !is_name("a.b") && !is_name("") && !is_name("a b") && !is_name("a*"));
    }
}
