//! What a handler decides.

use std::time::Duration;

use hapax_core::{Answer, Finish, Outcome};

/// How a handler ended that did not fail: what to remember, and what to tell the caller once that is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<R> {
    /// It happened: what was written stays.
    Done {
        /// What every later arrival is told.
        outcome: Outcome,
        /// What this caller is told.
        reply: R,
    },
    /// It must not happen, and that is final: what was written is rolled back, the answer is kept.
    Rejected {
        /// What every later arrival is told.
        outcome: Outcome,
        /// What this caller is told.
        reply: R,
    },
    /// It did not happen: what was written is rolled back, and the operation may be asked for again.
    Released {
        /// Time until then; zero for at once.
        after: Duration,
        /// What this caller is told.
        reply: R,
    },
}

impl<R> Decision<R> {
    /// It happened, with this answer.
    pub fn done(answer: Answer, reply: R) -> Self {
        let outcome = Outcome::Answer(answer);
        Self::Done { outcome, reply }
    }

    /// It must not happen, with this answer.
    pub fn rejected(answer: Answer, reply: R) -> Self {
        let outcome = Outcome::Answer(answer);
        Self::Rejected { outcome, reply }
    }

    /// Whether the writes stay, the finish, and the reply.
    pub(crate) fn parts(self) -> (bool, Finish, R) {
        match self {
            Self::Done { outcome, reply } => (true, Finish::Done(outcome), reply),
            Self::Rejected { outcome, reply } => (false, Finish::Done(outcome), reply),
            Self::Released { after, reply } => {
                let finish = Finish::Release {
                    after,
                    counts: false,
                    last_error: None,
                };
                (false, finish, reply)
            }
        }
    }
}
