//! The idempotency key of an effect.

use crate::words::OperationId;

/// The idempotency key for an operation's call to another system: the same for every try of the same effect, another
/// for any other effect or operation. 32 hexadecimal digits.
///
/// `effect` names the call within the operation, such as `charge`. Two calls of one operation need two names.
///
/// ```
/// use hapax_core::policy::derive_key;
/// use hapax_core::OperationId;
///
/// let order = OperationId::from_bytes([7; 16]);
/// assert_eq!(derive_key(&order, "charge"), derive_key(&order, "charge"));
/// assert_ne!(derive_key(&order, "charge"), derive_key(&order, "email"));
/// ```
#[must_use]
pub fn derive_key(parent: &OperationId, effect: &str) -> String {
    // The parent has a fixed length, so that no other pair gives the same bytes.
    let mut hasher = blake3::Hasher::new_derive_key("hapax 2026 derived idempotency key");
    hasher.update(parent.as_bytes());
    hasher.update(effect.as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}
