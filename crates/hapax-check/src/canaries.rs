//! Stores with planted bugs, each seen in public in some idempotency layer. The exam must fail every one of them.

mod planted;

pub use planted::Planted;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// None: the same store must pass.
    None,
    /// A claim, or an enqueue, reads, thinks, and writes: two can win.
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
    /// A take reads, thinks, and writes: two can get the same record.
    TakenByTwo,
    /// A repeated take is given nothing of what it took: it waits for the leases to lapse.
    TakeLosesToItself,
    /// An amendment leaves the fence, so that an attempt from before it can still finish.
    AmendKeepsFence,
    /// An amendment is not written to the audit.
    AmendUnaudited,
    /// A redrive takes any record of its filter, what is done included.
    RedrivesDone,
    /// An enqueue overwrites a record that has ended.
    EnqueueOverwrites,
    /// A start that provably had no effect stays a try.
    UncountedStaysTry,
    /// A release forgets the input, so that no runner can run it again.
    ReleaseForgetsInput,
    /// "It did not happen" is believed while what was sent may still arrive.
    BelievesNotDoneTooSoon,
    /// Whatever was in flight when a process died is run again beside everything else.
    SuspectsRunBesideOthers,
    /// An enqueue repeated after a lost reply is told that the operation waits.
    EnqueueLosesToItself,
    /// An enqueued operation is due at once, whatever was asked.
    EnqueueIgnoresDelay,
    /// A runner takes what is due soon, too.
    TakesBeforeDue,
    /// A runner takes records of names that it did not ask for.
    TakesAnyName,
    /// The last to become due is taken first, so that under load the longest due never is.
    TakesNewestFirst,
    /// A take that leaves work says that there is no more.
    NeverMore,
    /// A sweep reads what has ended, thinks, and removes it: a redrive or a claim in between is lost.
    SweepCheckThenAct,
    /// The census takes the latest due for the oldest.
    LatestIsOldest,
    /// What went wrong is cut to a column's width.
    ErrorCutShort,
    /// What is behind others of its group is started.
    IgnoresOrder,
    /// A dead letter lets those behind it go.
    DeadPassesTurn,
    /// Only records of the same name are in line.
    OrderOfOneName,
    /// Whoever is done does not wake the next.
    KeepsTurn,
    /// A take looks at all that wait for their turn, however many.
    UnboundedTake,
    /// What a claim brings for a runner is not stored.
    ClaimForgetsInput,
    /// What a later claim brings for a runner is not stored.
    ClaimKeepsFirstOnly,
    /// A dead letter whose compensation has begun is redriven.
    RedrivesUndone,
    /// A fence that is raised can fall.
    LowersFence,
    /// A fence is not raised.
    IgnoresRaise,
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
        Self::TakenByTwo,
        Self::TakeLosesToItself,
        Self::AmendKeepsFence,
        Self::AmendUnaudited,
        Self::RedrivesDone,
        Self::EnqueueOverwrites,
        Self::UncountedStaysTry,
        Self::ReleaseForgetsInput,
        Self::BelievesNotDoneTooSoon,
        Self::SuspectsRunBesideOthers,
        Self::EnqueueLosesToItself,
        Self::EnqueueIgnoresDelay,
        Self::TakesBeforeDue,
        Self::TakesAnyName,
        Self::TakesNewestFirst,
        Self::NeverMore,
        Self::SweepCheckThenAct,
        Self::LatestIsOldest,
        Self::ErrorCutShort,
        Self::IgnoresOrder,
        Self::DeadPassesTurn,
        Self::OrderOfOneName,
        Self::KeepsTurn,
        Self::UnboundedTake,
        Self::ClaimForgetsInput,
        Self::ClaimKeepsFirstOnly,
        Self::RedrivesUndone,
        Self::LowersFence,
        Self::IgnoresRaise,
    ];
}
