//! Stored requests at rest: as they are, or encrypted.
//!
//! The form of an input is its first byte. Sealed, it is XChaCha20-Poly1305 with a random nonce, bound to its
//! operation: moved to another record, it does not open.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hapax_core::{Input, OperationId};

const PLAIN: u8 = 1;
const SEALED: u8 = 2;
const NONCE_BYTES: usize = 24;

/// Tells keys apart: the first bytes of the key's BLAKE3 digest.
type KeyId = [u8; 8];

/// Encrypts stored requests. Cheap to clone.
///
/// ```
/// use hapax::http::InputSeal;
///
/// let (new, old) = ([2; 32], [1; 32]);
/// // Seals with the new key, opens what either has sealed.
/// let seal = InputSeal::new(&new).also(&old);
/// # let _ = seal;
/// ```
#[derive(Clone)]
pub struct InputSeal {
    keys: Arc<[SealKey]>,
}

#[derive(Clone)]
struct SealKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

/// Why a stored request cannot be read. Nothing is lost by it: the input stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its key is not here.
    #[error("the stored request is sealed with the key {0}, which is not configured: add that key and redrive")]
    NoKey(String),
    /// Its key is here, but it was changed, or belongs to another operation.
    #[error("the stored request does not open with its key {0}: it was changed, or belongs to another operation")]
    Damaged(String),
    /// It is no stored request, or one of a newer version.
    #[error("the stored request makes no sense ({0}): it was changed, or stored by a newer version")]
    Nonsense(&'static str),
}

/// A request could not be sealed: the system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotSealed;

impl InputSeal {
    /// Seals and opens with this key: 32 random bytes.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            keys: Arc::new([SealKey::new(key)]),
        }
    }

    /// Opens with this key too: one that was used before, or is going to be.
    #[must_use]
    pub fn also(self, key: &[u8; 32]) -> Self {
        let more = std::iter::once(SealKey::new(key));
        Self {
            keys: self.keys.iter().cloned().chain(more).collect(),
        }
    }

    /// The keys' names, as in errors: the one that seals first.
    pub fn key_ids(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|key| hex(&key.id))
    }

    fn seal(&self, request: &[u8], id: OperationId) -> Result<Input, NotSealed> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| NotSealed)?;
        // There always is a first one.
        let key = self.keys.first().ok_or(NotSealed)?;
        let aad = aad(id);
        let payload = Payload {
            msg: request,
            aad: &aad,
        };
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| NotSealed)?;
        let mut input = Vec::with_capacity(1 + key.id.len() + NONCE_BYTES + sealed.len());
        input.push(SEALED);
        input.extend_from_slice(&key.id);
        input.extend_from_slice(&nonce);
        input.extend_from_slice(&sealed);
        Ok(Input(input.into()))
    }
}

impl SealKey {
    fn new(key: &[u8; 32]) -> Self {
        let digest = blake3::hash(key);
        let mut id = KeyId::default();
        id.copy_from_slice(&digest.as_bytes()[..8]);
        Self {
            id,
            cipher: XChaCha20Poly1305::new(&Key::from(*key)),
        }
    }
}

/// Only the keys' names.
impl fmt::Debug for InputSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.key_ids()).finish()
    }
}

/// What a sealed input is bound to.
fn aad(id: OperationId) -> [u8; 17] {
    let mut aad = [SEALED; 17];
    aad[1..].copy_from_slice(id.as_bytes());
    aad
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An encoded request as it is stored.
pub(crate) fn close(seal: Option<&InputSeal>, request: &[u8], id: OperationId) -> Result<Input, NotSealed> {
    if let Some(seal) = seal {
        return seal.seal(request, id);
    }
    let mut input = Vec::with_capacity(1 + request.len());
    input.push(PLAIN);
    input.extend_from_slice(request);
    Ok(Input(input.into()))
}

/// The encoded request of a stored input. A plain one opens whatever keys there are.
pub(crate) fn open(seal: Option<&InputSeal>, input: &Input, id: OperationId) -> Result<Bytes, OpenError> {
    let form = input.0.first().copied();
    let rest = input.0.get(1..).unwrap_or_default();
    match form {
        Some(PLAIN) => Ok(input.0.slice(1..)),
        Some(SEALED) => {
            let short = OpenError::Nonsense("it is too short");
            let (key_id, rest) = rest.split_first_chunk::<8>().ok_or(short.clone())?;
            let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(short)?;
            let mut keys = seal.iter().flat_map(|seal| seal.keys.iter());
            let key = keys.find(|key| key.id == *key_id);
            let key = key.ok_or_else(|| OpenError::NoKey(hex(key_id)))?;
            let aad = aad(id);
            let payload = Payload { msg: sealed, aad: &aad };
            let opened = key.cipher.decrypt(&XNonce::from(*nonce), payload);
            opened.map(Bytes::from).map_err(|_| OpenError::Damaged(hex(key_id)))
        }
        _ => Err(OpenError::Nonsense("its form is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: OperationId = OperationId::from_bytes([3; 16]);

    #[test]
    fn a_sealed_request_opens_with_its_key_for_its_operation() {
        let old = InputSeal::new(&[1; 32]);
        let new = InputSeal::new(&[2; 32]).also(&[1; 32]);
        let input = close(Some(&old), b"secret", ID).unwrap();
        assert!(!input.0.windows(6).any(|bytes| bytes == b"secret"));
        assert_ne!(close(Some(&old), b"secret", ID).unwrap(), input, "a nonce is used once");
        assert_eq!(open(Some(&old), &input, ID).unwrap(), "secret");
        assert_eq!(open(Some(&new), &input, ID).unwrap(), "secret", "rotation");
        let id = old.key_ids().next().unwrap();
        assert_eq!(id, hex(&blake3::hash(&[1; 32]).as_bytes()[..8]));
        let newer = close(Some(&new), b"secret", ID).unwrap();
        assert_eq!(
            open(Some(&old), &newer, ID).unwrap_err(),
            OpenError::NoKey(new.key_ids().next().unwrap()),
            "the first key seals"
        );
        assert_eq!(open(None, &input, ID).unwrap_err(), OpenError::NoKey(id.clone()));
        let other = OperationId::from_bytes([4; 16]);
        assert_eq!(open(Some(&old), &input, other).unwrap_err(), OpenError::Damaged(id));
    }

    #[test]
    fn a_plain_request_opens_whatever_the_keys() {
        let input = close(None, b"open", ID).unwrap();
        assert_eq!(open(None, &input, ID).unwrap(), "open");
        assert_eq!(open(Some(&InputSeal::new(&[1; 32])), &input, ID).unwrap(), "open");
    }

    #[test]
    fn any_change_is_noticed() {
        let seal = InputSeal::new(&[1; 32]);
        let input = close(Some(&seal), b"secret", ID).unwrap();
        for at in 0..input.0.len() {
            let mut bytes = input.0.to_vec();
            bytes[at] ^= 4;
            let changed = Input(bytes.into());
            assert!(open(Some(&seal), &changed, ID).is_err(), "byte {at}");
            let cut = Input(input.0.slice(..at));
            assert!(open(Some(&seal), &cut, ID).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let shown = format!("{:?}", InputSeal::new(&[1; 32]));
        assert!(
            shown.len() < 30 && !shown.contains("0101") && !shown.contains("1, 1"),
            "{shown}"
        );
    }
}
