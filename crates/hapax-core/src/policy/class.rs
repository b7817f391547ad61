//! What a failure proves.

use std::fmt;

use super::check::PolicyError;

/// What a failed try proves about its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Nothing happened: nothing was sent, or the other side says that it did nothing.
    Unsent,
    /// Nothing happened, and the other side says to slow down: 429, 503 with `Retry-After`, pushback.
    Throttled,
    /// It may have happened: a time-out, a reset after bytes were sent, a 5xx.
    Ambiguous,
    /// Trying again cannot change it.
    Final,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Unsent, Self::Throttled, Self::Ambiguous, Self::Final];

    /// The word for it in configuration, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Throttled => "throttled",
            Self::Ambiguous => "ambiguous",
            Self::Final => "final",
        }
    }

    /// The class behind a word; `None` if it is not one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which classes of failures are retried. Final ones never are.
///
/// By default only those that prove that nothing happened. To retry ambiguous ones is to promise that the other side
/// honours the idempotency key, or that doing it twice does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Classes {
    /// Retry [`FailureClass::Unsent`].
    pub unsent: bool,
    /// Retry [`FailureClass::Throttled`].
    pub throttled: bool,
    /// Retry [`FailureClass::Ambiguous`].
    pub ambiguous: bool,
}

impl Default for Classes {
    fn default() -> Self {
        Self {
            unsent: true,
            throttled: true,
            ambiguous: false,
        }
    }
}

impl Classes {
    /// Whatever can be retried is.
    pub const ALL: Self = Self {
        unsent: true,
        throttled: true,
        ambiguous: true,
    };

    /// Nothing is retried.
    pub const NONE: Self = Self {
        unsent: false,
        throttled: false,
        ambiguous: false,
    };

    /// Whether failures of this class are retried.
    #[must_use]
    pub fn contains(self, class: FailureClass) -> bool {
        match class {
            FailureClass::Unsent => self.unsent,
            FailureClass::Throttled => self.throttled,
            FailureClass::Ambiguous => self.ambiguous,
            FailureClass::Final => false,
        }
    }

    /// The classes behind their words, as configuration has them.
    ///
    /// # Errors
    /// [`PolicyError`] if a word is none of `unsent`, `throttled`, `ambiguous`.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, PolicyError> {
        let mut classes = Self::NONE;
        for word in words {
            match FailureClass::parse(word) {
                Some(FailureClass::Unsent) => classes.unsent = true,
                Some(FailureClass::Throttled) => classes.throttled = true,
                Some(FailureClass::Ambiguous) => classes.ambiguous = true,
                Some(FailureClass::Final) => {
                    let write = "leave it out: trying again cannot change a final failure";
                    return Err(PolicyError::new("classes", "names \"final\"", write));
                }
                None => {
                    let write = "write any of \"unsent\", \"throttled\", \"ambiguous\"";
                    return Err(PolicyError::new("classes", format!("names {word:?}"), write));
                }
            }
        }
        Ok(classes)
    }

    /// The words for them, as configuration has them.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        FailureClass::ALL
            .into_iter()
            .filter(move |class| self.contains(*class))
            .map(FailureClass::as_str)
    }
}
