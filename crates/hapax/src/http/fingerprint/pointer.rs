//! JSON pointers (RFC 6901): which fields a fingerprint leaves out, or is made of.

use std::borrow::Cow;
use std::fmt;

use super::json::Json;

/// A JSON pointer, such as `/payment/amount`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    text: Box<str>,
    tokens: Box<[Box<str>]>,
}

/// A text that is no JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointerError(String);

impl fmt::Display for PointerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no JSON pointer to a field: start with '/', write '~' as '~0' and '/' in a name as '~1'",
            self.0
        )
    }
}

impl std::error::Error for PointerError {}

impl Pointer {
    /// Parses a pointer to a field; the whole document (the empty pointer) is not one.
    ///
    /// # Errors
    /// [`PointerError`] shows the text.
    pub fn new(text: &str) -> Result<Self, PointerError> {
        let error = || PointerError(text.to_owned());
        let rest = text.strip_prefix('/').ok_or_else(error)?;
        let tokens = rest.split('/').map(unescape).collect::<Option<_>>().ok_or_else(error)?;
        Ok(Self {
            text: text.into(),
            tokens,
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value that it points to.
    pub(super) fn find<'a, 'b>(&self, json: &'b Json<'a>) -> Option<&'b Json<'a>> {
        self.tokens.iter().try_fold(json, |json, token| match json {
            Json::Object(members) => members
                .iter()
                .find(|(name, _)| *name == **token)
                .map(|(_, value)| value),
            Json::Array(items) => items.get(index(token)?),
            _ => None,
        })
    }

    /// Takes away the value that it points to. An item of an array becomes `null`, so that the others keep their
    /// places.
    pub(super) fn remove(&self, json: &mut Json<'_>) {
        let Some((last, path)) = self.tokens.split_last() else {
            return;
        };
        let parent = path.iter().try_fold(json, |json, token| match json {
            Json::Object(members) => members
                .iter_mut()
                .find(|(name, _)| *name == **token)
                .map(|(_, value)| value),
            Json::Array(items) => items.get_mut(index(token)?),
            _ => None,
        });
        match parent {
            Some(Json::Object(members)) => members.retain(|(name, _)| *name != **last),
            Some(Json::Array(items)) => {
                if let Some(item) = index(last).and_then(|index| items.get_mut(index)) {
                    *item = Json::Word("null");
                }
            }
            _ => {}
        }
    }
}

/// The value as a string of JSON could name it: for the canonical form of a selection.
pub(super) fn selection<'a>(pointers: &[Pointer], json: &Json<'a>, out: &mut String) {
    // One array per pointer: its text, then the value where there is one. Absent and `null` stay apart.
    for pointer in pointers {
        out.push('[');
        Json::String(Cow::Borrowed(&*pointer.text)).write(out);
        if let Some(value) = pointer.find(json) {
            out.push(',');
            value.write(out);
        }
        out.push(']');
    }
}

fn unescape(token: &str) -> Option<Box<str>> {
    let mut out = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out.into())
}

/// An array index: digits without a leading zero.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    plain.then(|| token.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::new(text).unwrap()
    }

    fn without(text: &str, removed: &str) -> String {
        let mut json = Json::read(text.as_bytes()).unwrap();
        pointer(removed).remove(&mut json);
        let mut out = String::new();
        json.write(&mut out);
        out
    }

    #[test]
    fn removes_what_it_points_to_and_nothing_else() {
        let text = r#"{"a":{"b":1,"c/d":2,"~":3},"l":[1,{"x":4}]}"#;
        for (removed, left) in [
            ("/a/b", r#"{"a":{"c/d":2,"~":3},"l":[1,{"x":4}]}"#),
            ("/a/c~1d", r#"{"a":{"b":1,"~":3},"l":[1,{"x":4}]}"#),
            ("/a/~0", r#"{"a":{"b":1,"c/d":2},"l":[1,{"x":4}]}"#),
            ("/l/0", r#"{"a":{"b":1,"c/d":2,"~":3},"l":[null,{"x":4}]}"#),
            ("/l/1/x", r#"{"a":{"b":1,"c/d":2,"~":3},"l":[1,{}]}"#),
        ] {
            assert_eq!(without(text, removed), left);
        }
        for nowhere in ["/b", "/a/b/c", "/l/2", "/l/01", "/l/-", "/l/x", "/"] {
            assert_eq!(without(text, nowhere), text, "{nowhere}");
        }
    }

    #[test]
    fn a_selection_tells_absent_from_null() {
        let select = |text: &str| {
            let mut out = String::new();
            selection(
                &[pointer("/a"), pointer("/l/1")],
                &Json::read(text.as_bytes()).unwrap(),
                &mut out,
            );
            out
        };
        assert_eq!(select(r#"{"a":1,"b":2,"l":[0,true]}"#), r#"["/a",1]["/l/1",true]"#);
        assert_eq!(select(r#"{"a":null}"#), r#"["/a",null]["/l/1"]"#);
        assert_eq!(select("1"), r#"["/a"]["/l/1"]"#);
    }

    #[test]
    fn a_bad_pointer_is_refused() {
        for text in ["", "a", "a/b", "/~", "/~2", "/a~"] {
            let error = Pointer::new(text).unwrap_err();
            assert!(error.to_string().contains("start with '/'"), "{error}");
        }
    }
}
