//! What the catalog tells only as the text of a definition.

/// The words of a definition: quotes and brackets taken off names, comments left out, everything else in lower case,
/// and each punctuation mark a word of its own. Text in single quotes is one word with its first quote.
pub(super) fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '`' => quoted(rest, first, &mut words),
            '[' => match rest.find(']') {
                Some(end) => {
                    words.push(rest[1..end].to_lowercase());
                    end + 1
                }
                None => rest.len(),
            },
            '\'' => {
                let end = closing(rest, '\'');
                words.push(rest[..end].to_owned());
                end
            }
            _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ if is_word(first) => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                words.push(rest[..end].to_lowercase());
                end
            }
            _ => {
                if !first.is_whitespace() {
                    words.push(first.to_string());
                }
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    words
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn quoted(rest: &str, quote: char, words: &mut Vec<String>) -> usize {
    let end = closing(rest, quote);
    let double = format!("{quote}{quote}");
    let inner = rest[1..end].strip_suffix(quote).unwrap_or(&rest[1..end]);
    words.push(inner.replace(&double, &quote.to_string()).to_lowercase());
    end
}

/// The end of what is quoted at the beginning, its closing quote included.
fn closing(rest: &str, quote: char) -> usize {
    let mut from = 1;
    while let Some(at) = rest[from..].find(quote) {
        let end = from + at + 1;
        if !rest[end..].starts_with(quote) {
            return end;
        }
        from = end + 1;
    }
    // Unclosed, which no stored definition is.
    rest.len()
}

/// Whether these words follow one another somewhere.
pub(super) fn have(words: &[String], run: &[&str]) -> bool {
    words
        .windows(run.len())
        .any(|window| window.iter().zip(run).all(|(word, wanted)| word == wanted))
}

/// What a CREATE INDEX leaves out: the text after the last WHERE outside of brackets.
pub(super) fn predicate(sql: &str) -> Option<String> {
    let (mut depth, mut found) = (0_i32, None);
    let lower = sql.to_ascii_lowercase();
    for (at, c) in lower.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            'w' if depth == 0 && lower[at..].starts_with("where") && !lower[..at].ends_with(is_word) => {
                found = Some(at + 5)
            }
            _ => {}
        }
    }
    found.map(|at| sql[at..].trim().to_owned())
}

/// The expressions and columns between the outer brackets of a CREATE INDEX, without COLLATE, ASC and DESC.
pub(super) fn index_parts(sql: &str) -> Vec<String> {
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for c in sql.chars() {
        match c {
            '(' if depth == 0 => depth = 1,
            ')' if depth == 1 => break,
            ',' if depth == 1 => parts.push(std::mem::take(&mut part)),
            _ if depth == 0 => {}
            _ => {
                depth += i32::from(c == '(') - i32::from(c == ')');
                part.push(c);
            }
        }
    }
    parts.push(part);
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_fall_into_words() {
        let sql = "CREATE TABLE \"a\"\"b\" ([x y] TEXT, -- a remark\n `k` /* one */ DEFAULT 'it''s')";
        assert_eq!(
            words(sql),
            [
                "create", "table", "a\"b", "(", "x y", "text", ",", "k", "default", "'it''s'", ")"
            ]
        );
        for broken in ["'", "\"", "[", "/*", "--", "'a"] {
            words(broken);
        }
    }

    #[test]
    fn an_index_falls_into_its_parts() {
        let sql = "CREATE UNIQUE INDEX i ON t (a, lower(b), coalesce(c, ',')) WHERE a IS NOT NULL AND (b <> 'where')";
        assert_eq!(
            index_parts("CREATE INDEX i ON t (a, lower(b), ifnull(c, 1))"),
            ["a", "lower(b)", "ifnull(c, 1)"]
        );
        assert_eq!(predicate(sql).as_deref(), Some("a IS NOT NULL AND (b <> 'where')"));
        assert_eq!(predicate("CREATE INDEX nowhere ON t (a)"), None);
    }
}
