//! Stores with planted bugs, each seen in public in some idempotency layer. The exam must fail every one of them.

mod planted;

pub use planted::Planted;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// None: the same store must pass.
    None,
    /// A claim reads, thinks, and writes: two can win.
    CheckThenAct,
    /// A finish is taken from anybody.
    UnfencedFinish,
    /// The key is looked up without its scope.
    UnscopedKey,
    /// A claim holds as long as the record is remembered, so that a crash blocks the key for all that time.
    LeaseIsRetention,
    /// A claim whose run failed ambiguously is deleted, so that the key runs again.
    DeletedOnError,
    /// A claim repeated after a lost reply is told in progress.
    LosesToItself,
    /// The sweeper removes what is claimed.
    SweepsClaimed,
    /// A done operation is replayed to any payload.
    MismatchIgnoredWhenDone,
    /// In progress is told before the payload is looked at.
    MismatchIgnoredWhileRunning,
    /// A lapsed claim in hold mode runs again.
    LapsedHoldRunsAgain,
    /// A late finish overwrites an earlier one.
    LastFinishStands,
    /// The fence counter is the highest fence of the records that are left.
    FenceFromRecords,
    /// The fact is forgotten together with the answer.
    ForgottenWithAnswer,
    /// A sweep drops answers before their time.
    StrippedEarly,
    /// Renewal knows no end.
    EndlessRenewal,
    /// A finished attempt's late repetition runs.
    FinishedAttemptRunsAgain,
    /// A sweep takes everything that is due at once.
    UnboundedSweep,
    /// The time is whatever the wall clock shows.
    FollowsAnyClock,
}

impl Bug {
    /// Every bug.
    pub const ALL: &[Self] = &[
        Self::CheckThenAct,
        Self::UnfencedFinish,
        Self::UnscopedKey,
        Self::LeaseIsRetention,
        Self::DeletedOnError,
        Self::LosesToItself,
        Self::SweepsClaimed,
        Self::MismatchIgnoredWhenDone,
        Self::MismatchIgnoredWhileRunning,
        Self::LapsedHoldRunsAgain,
        Self::LastFinishStands,
        Self::FenceFromRecords,
        Self::ForgottenWithAnswer,
        Self::StrippedEarly,
        Self::EndlessRenewal,
        Self::FinishedAttemptRunsAgain,
        Self::UnboundedSweep,
        Self::FollowsAnyClock,
    ];
}
