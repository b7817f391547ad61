//! What a completed operation answered, and why an answer may be missing.

use bytes::{BufMut, Bytes, BytesMut};

/// An answer as it was given: enough to give it again, byte for byte.
///
/// For HTTP: the status, the headers that may be stored, the body. Other doors use `status` as they like (0 is
/// fine) and leave the headers empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, 100 to 999; 0 where the door has none.
    pub status: u16,
    /// Header names (lower case) and values, in the order they were given.
    pub headers: Vec<(Box<str>, Bytes)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The headers as one byte string: for each, the name's length (u16, big endian), the name, the value's length
    /// (u32), the value.
    #[must_use]
    pub fn encode_headers(&self) -> Bytes {
        let mut out = BytesMut::new();
        for (name, value) in &self.headers {
            out.put_u16(name.len() as u16);
            out.put_slice(name.as_bytes());
            out.put_u32(value.len() as u32);
            out.put_slice(value);
        }
        out.freeze()
    }

    /// Puts an answer together from what a store kept. `None` if `headers` was not made by
    /// [`encode_headers`](Self::encode_headers).
    #[must_use]
    pub fn decode(status: u16, headers: &Bytes, body: Bytes) -> Option<Self> {
        let mut list = Vec::new();
        let mut rest = headers.clone();
        while !rest.is_empty() {
            let name = take::<2>(&mut rest)?;
            let value = take::<4>(&mut rest)?;
            list.push((Box::from(std::str::from_utf8(&name).ok()?), value));
        }
        Some(Self {
            status,
            headers: list,
            body,
        })
    }

    /// Bytes that the answer takes in memory or in a store.
    #[must_use]
    pub fn size(&self) -> usize {
        self.headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
            + self.body.len()
    }
}

/// Neither the body nor the header values: they are the user's.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.size())
    }
}

/// Takes one field whose length stands before it in `N` bytes.
fn take<const N: usize>(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest
        .get(..N)?
        .iter()
        .fold(0, |length, byte| length * 256 + usize::from(*byte));
    if rest.len() < N + length {
        return None;
    }
    let field = rest.slice(N..N + length);
    *rest = rest.slice(N + length..);
    Some(field)
}

/// What a done operation has to show for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The answer, replayed to every duplicate.
    Answer(Answer),
    /// Only the fact that it is done.
    NotKept(NotKept),
}

/// Why a done operation has no answer to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotKept {
    /// `replay_for` is over.
    Expired,
    /// The answer was larger than the limit, or a stream.
    TooLarge,
    /// A person closed the record without an answer.
    Discarded,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&str, &'static str)]) -> Answer {
        let headers = headers
            .iter()
            .map(|(n, v)| (Box::from(*n), Bytes::from_static(v.as_bytes())))
            .collect();
        Answer {
            status: 201,
            headers,
            body: Bytes::from_static(b"body"),
        }
    }

    #[test]
    fn headers_survive_the_store() {
        for headers in [
            &[][..],
            &[("content-type", "text/plain"), ("link", ""), ("link", "b\r\n")][..],
        ] {
            let answer = answer(headers);
            assert_eq!(
                Answer::decode(201, &answer.encode_headers(), answer.body.clone()),
                Some(answer)
            );
        }
    }

    #[test]
    fn long_headers_survive_the_store() {
        let headers = vec![("n".repeat(0x1234).into(), Bytes::from(vec![b'v'; 0x1_2345]))];
        let answer = Answer { headers, ..answer(&[]) };
        assert_eq!(
            Answer::decode(201, &answer.encode_headers(), answer.body.clone()),
            Some(answer)
        );
    }

    #[test]
    fn broken_headers_are_refused() {
        let whole = answer(&[("etag", "abc")]).encode_headers();
        for length in 1..whole.len() {
            assert_eq!(
                Answer::decode(200, &whole.slice(..length), Bytes::new()),
                None,
                "{length}"
            );
        }
        assert_eq!(
            Answer::decode(200, &Bytes::from_static(b"\0\x01\xff\0\0\0\0"), Bytes::new()),
            None
        );
    }

    #[test]
    fn size_counts_names_values_and_body() {
        assert_eq!(answer(&[("etag", "abc"), ("link", "x")]).size(), 4 + 3 + 4 + 1 + 4);
        assert_eq!(format!("{:?}", answer(&[])), "Answer(201, 4 bytes)");
    }
}
