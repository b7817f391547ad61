//! What the records of a saga are called, and how they are told from all others.

use bytes::{BufMut, Bytes, BytesMut};
use hapax_core::{Fence, Fingerprint, Input, Name, Operation, RecipeId, StoreError, Timestamp, derive_key};

use super::error::SagaError;
use crate::engine::Engine;

/// What the fingerprint of an operation with steps covers.
const ASKED: &str = "saga: input";
/// What the fingerprints of its steps, and of what undoes them, cover.
const PART: &str = "saga: part, operation, when the operation was first asked for";
/// The word for what undoes.
const UNDO: &str = "undo";
/// The first byte of an input of ours.
const VERSION: u8 = 1;

/// The names of a saga's records.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) saga: Name,
    /// Of the record that looks at the operation.
    pub(super) undo: Name,
}

impl Names {
    pub(super) fn new(saga: &str) -> Result<Self, SagaError> {
        Ok(Self {
            saga: part("the saga", saga, saga.to_owned())?,
            undo: name("the saga", saga, format!("{saga}/{UNDO}"))?,
        })
    }

    /// Of a step and of its compensation.
    pub(super) fn step(&self, step: &str) -> Result<(Name, Name), SagaError> {
        if step == UNDO {
            return Err(SagaError::Reserved);
        }
        part("a step", step, step.to_owned())?;
        let of = |name: String| self::name("a step", step, name);
        Ok((
            of(format!("{}/{step}", self.saga))?,
            of(format!("{}/{step}/{UNDO}", self.saga))?,
        ))
    }
}

fn part(what: &'static str, text: &str, whole: String) -> Result<Name, SagaError> {
    if text.contains('/') {
        let text = text.to_owned();
        return Err(SagaError::Slash { what, text });
    }
    name(what, text, whole)
}

fn name(what: &'static str, text: &str, whole: String) -> Result<Name, SagaError> {
    let text = text.to_owned();
    Name::new(whole).map_err(|error| SagaError::Word { what, text, error })
}

/// The same scope and key under another name.
pub(super) fn named(operation: &Operation, name: &Name) -> Operation {
    Operation::new(operation.scope().clone(), name.clone(), operation.key().clone())
}

/// The key that a step's external calls carry.
pub(super) fn step_key(operation: &Operation, step: &str) -> String {
    derive_key(&operation.id(), step)
}

/// The key that its compensation's external calls carry.
pub(super) fn undo_key(operation: &Operation, step: &str) -> String {
    derive_key(&operation.id(), &format!("{step}/{UNDO}"))
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Recipes {
    asked: RecipeId,
    part: RecipeId,
}

impl Recipes {
    pub(super) async fn of(engine: &Engine) -> Result<Self, StoreError> {
        let store = engine.store();
        Ok(Self {
            asked: store.recipe(ASKED.to_owned()).await?,
            part: store.recipe(PART.to_owned()).await?,
        })
    }

    pub(super) fn asked(&self, secret: &[u8; 32], input: &[u8]) -> Fingerprint {
        Fingerprint::new(self.asked, *blake3::keyed_hash(secret, input).as_bytes())
    }

    /// A record that a forgotten operation of the same key left behind is none of this one's: it would be believed, or
    /// undone, a second time.
    pub(super) fn part(&self, secret: &[u8; 32], part: &str, life: &Life) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(life.operation.id().as_bytes());
        hasher.update(&life.created.as_millis().to_be_bytes());
        hasher.update(&life.undone.map_or(0, Fence::get).to_be_bytes());
        hasher.update(part.as_bytes());
        Fingerprint::new(self.part, *hasher.finalize().as_bytes())
    }
}

/// An operation from its first arrival until it is forgotten.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) operation: Operation,
    pub(super) created: Timestamp,
    /// The fence under which its compensation began.
    pub(super) undone: Option<Fence>,
}

/// What the record that looks at the operation has to know: which steps had a compensation when the first of them ran.
pub(super) fn encode_steps<'a>(created: Timestamp, steps: impl Iterator<Item = &'a str>) -> Input {
    let mut input = BytesMut::new();
    input.put_u8(VERSION);
    input.put_i64(created.as_millis());
    for step in steps {
        // A part of a name: at most 255 bytes.
        input.put_u8(step.len() as u8);
        input.put_slice(step.as_bytes());
    }
    Input(input.freeze())
}

pub(super) fn decode_steps(input: &Input) -> Option<(Timestamp, Vec<Box<str>>)> {
    let (&[VERSION], rest) = input.0.split_first_chunk()? else {
        return None;
    };
    let (created, mut rest) = rest.split_first_chunk()?;
    let mut steps = Vec::new();
    while let Some((&length, tail)) = rest.split_first() {
        let (step, tail) = tail.split_at_checked(usize::from(length))?;
        steps.push(std::str::from_utf8(step).ok()?.into());
        rest = tail;
    }
    Some((Timestamp::from_millis(i64::from_be_bytes(*created)), steps))
}

/// What a compensation has to know: what the step answered, if that was known, and what the operation was asked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undoable {
    pub(super) answer: Option<Bytes>,
    pub(super) input: Bytes,
}

impl Undoable {
    pub(super) fn encode(&self) -> Input {
        let mut input = BytesMut::new();
        input.put_u8(VERSION);
        match &self.answer {
            None => input.put_u8(0),
            Some(answer) => {
                input.put_u8(1);
                input.put_u64(answer.len() as u64);
                input.put_slice(answer);
            }
        }
        input.put_slice(&self.input);
        Input(input.freeze())
    }

    pub(super) fn decode(input: &Input) -> Option<Self> {
        let bytes = &input.0;
        match **bytes {
            [VERSION, 0, ..] => Some(Self {
                answer: None,
                input: bytes.slice(2..),
            }),
            [VERSION, 1, ref rest @ ..] => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
                rest.get(..length)?;
                Some(Self {
                    answer: Some(bytes.slice(10..10 + length)),
                    input: bytes.slice(10 + length..),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_give_back_what_was_put_in_and_nothing_else_is_opened() {
        for answer in [None, Some(Bytes::new()), Some(Bytes::from("paid"))] {
            let input = Bytes::from("{}");
            let undoable = Undoable { answer, input };
            assert_eq!(Undoable::decode(&undoable.encode()), Some(undoable));
        }
        let created = Timestamp::from_millis(7);
        let (of, steps) = decode_steps(&encode_steps(created, ["a", "bc"].into_iter())).unwrap();
        assert_eq!((of, steps), (created, vec!["a".into(), "bc".into()]));
        for bytes in [&b""[..], b"\x02\x00", b"\x01\x02", b"\x01\x01\0\0\0\0\0\0\0\x02a"] {
            assert_eq!(Undoable::decode(&Input(Bytes::from_static(bytes))), None, "{bytes:?}");
        }
        for bytes in [
            &b""[..],
            b"\x01\0",
            b"\x02\0\0\0\0\0\0\0\0",
            b"\x01\0\0\0\0\0\0\0\0\x02a",
        ] {
            assert_eq!(decode_steps(&Input(Bytes::from_static(bytes))), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_name_that_could_be_taken_for_another_is_refused() {
        let error = |result: Result<_, SagaError>| result.map(drop).unwrap_err().to_string();
        assert!(error(Names::new("a/b").map(|_| ())).contains("has a slash"));
        assert!(error(Names::new("").map(|_| ())).contains("is empty"));
        let names = Names::new("checkout").unwrap();
        assert!(error(names.step("a/b").map(|_| ())).contains("has a slash"));
        assert!(error(names.step("undo").map(|_| ())).contains("undo"));
        assert!(error(names.step("").map(|_| ())).contains("is empty"));
        assert!(error(names.step(&"x".repeat(242)).map(|_| ())).contains("256 bytes"));
        let (step, undo) = names.step(&"x".repeat(241)).unwrap();
        assert_eq!((step.as_str().len(), undo.as_str().len()), (250, 255));
    }
}
