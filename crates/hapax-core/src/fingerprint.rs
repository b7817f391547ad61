//! The digest of what was asked.

use std::fmt;

/// Which recipe made a fingerprint: what it covers and how it was canonicalised. Numbers are given out by the
/// store, one for each distinct recipe text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecipeId(u32);

impl RecipeId {
    /// The recipe with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Keyed digest of what was asked, with the recipe that made it. Only fingerprints of one recipe can be compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    recipe: RecipeId,
    // `blake3::Hash` compares in constant time.
    digest: blake3::Hash,
}

impl Fingerprint {
    /// From a recipe and its 32-byte digest.
    #[must_use]
    pub fn new(recipe: RecipeId, digest: [u8; 32]) -> Self {
        Self {
            recipe,
            digest: digest.into(),
        }
    }

    /// The recipe that made it.
    #[must_use]
    pub fn recipe(&self) -> RecipeId {
        self.recipe
    }

    /// The digest's bytes.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        self.digest.as_bytes()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({}:{})", self.recipe.get(), self.digest.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_only_with_the_same_recipe_and_digest() {
        let fingerprint = Fingerprint::new(RecipeId::new(3), [7; 32]);
        assert_eq!(fingerprint, Fingerprint::new(RecipeId::new(3), [7; 32]));
        assert_ne!(fingerprint, Fingerprint::new(RecipeId::new(4), [7; 32]));
        assert_ne!(fingerprint, Fingerprint::new(RecipeId::new(3), [8; 32]));
        assert_eq!((fingerprint.recipe().get(), fingerprint.digest()), (3, &[7; 32]));
        assert!(format!("{fingerprint:?}").starts_with("Fingerprint(3:0707"));
    }
}
