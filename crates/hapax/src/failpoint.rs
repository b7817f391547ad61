//! Named places where the crash test kills the process, one at every step between accepting a request and answering
//! it. Without the feature `failpoints` a hit is nothing.

macro_rules! failpoints {
    ($(
        $(#[$group_doc:meta])*
        $group:ident { $($(#[$doc:meta])* $variant:ident => $name:literal),+ $(,)? }
    )+) => {
        /// A place where a crash is tested.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failpoint {
            $($($(#[$doc])* $variant,)+)+
        }

        impl Failpoint {
            $(
                $(#[$group_doc])*
                pub const $group: &[Self] = &[$(Self::$variant),+];
            )+

            /// The name in the environment variable `HAPAX_FAILPOINT`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$variant => $name,)+)+
                }
            }
        }
    };
}

failpoints! {
    /// Every failpoint on the way of a request; the crash test kills at each.
    ALL {
        /// The request is read, nothing is claimed.
        BeforeClaim => "before-claim",
        /// The claim is durable, the handler has not begun.
        ClaimWritten => "claim-written",
        /// The request is about to go to the upstream.
        BeforeUpstream => "before-upstream",
        /// The upstream has answered.
        AfterUpstream => "after-upstream",
        /// The finish is about to be written.
        BeforeFinish => "before-finish",
        /// The finish is durable.
        AfterFinish => "after-finish",
        /// The answer is about to leave.
        BeforeAnswer => "before-answer",
    }

    /// Every failpoint on the way of an operation that a runner runs, beside those of its run.
    QUEUE {
        /// The operation is about to be laid before the runners.
        BeforeEnqueue => "before-enqueue",
        /// It is durable.
        Enqueued => "enqueued",
        /// A runner has taken work, none of it has begun.
        Taken => "taken",
    }

    /// Every failpoint on the way of an operation that runs in a transaction, beside those of its request.
    ATOMIC {
        /// The claim is made, and not committed; the handler has not begun.
        ClaimMade => "claim-made",
        /// The handler has ended, nothing is committed.
        HandlerEnded => "handler-ended",
        /// The finish is written, and not committed.
        Finished => "finished",
        /// The commit is durable.
        Committed => "committed",
        /// A transaction that failed is rolled back, the failure is not counted.
        RolledBack => "rolled-back",
        /// The failure is counted.
        FailureCounted => "failure-counted",
    }

    /// Every failpoint on the way of an operation with steps, beside those of its runs and its compensation's.
    STEPS {
        /// What begins the compensation is enqueued, no step that can be undone is claimed.
        UndoRegistered => "undo-registered",
        /// A step's claim is durable, its operation is not looked at.
        StepClaimed => "step-claimed",
        /// Its operation was found to be this run's, the step has not begun.
        StepAllowed => "step-allowed",
        /// The step has ended, its finish is not written.
        StepRan => "step-ran",
        /// Its finish is durable.
        StepFinished => "step-finished",
        /// The operation is marked as being undone, no compensation is enqueued.
        UndoBegun => "undo-begun",
        /// A compensation is enqueued.
        CompensationEnqueued => "compensation-enqueued",
        /// All compensations are enqueued, what enqueues them has not ended.
        CompensationsEnqueued => "compensations-enqueued",
        /// The step is settled, its compensation has not begun.
        CompensationAllowed => "compensation-allowed",
        /// The compensation has ended, its finish is not written.
        CompensationRan => "compensation-ran",
    }

    /// Every failpoint on the way of a message, beside those of its run.
    CONSUME {
        /// What the message came to is durable, its broker does not know.
        BeforeAck => "before-ack",
        /// Its broker knows.
        AfterAck => "after-ack",
    }

    /// Every failpoint on the way of a staged effect to the runners.
    OUTBOX {
        /// A batch of staged effects is enqueued, and still staged.
        Moved => "moved",
    }
}

/// Marks the place. With the feature `failpoints` and `HAPAX_FAILPOINT=name:n` in the environment, the `n`th hit of
/// that place kills the process at once (SIGKILL: no destructors, no flush). With `name:n:hold` it writes `says held at name` on
/// standard output and goes on at the next line of standard input, so that a test can stop the process there.
#[inline]
pub fn hit(failpoint: Failpoint) {
    #[cfg(feature = "failpoints")]
    armed::hit(failpoint);
    #[cfg(not(feature = "failpoints"))]
    let _: Failpoint = failpoint;
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::{BufRead, Write};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::Failpoint;

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    struct Armed {
        name: String,
        /// Hits that are left.
        left: AtomicI64,
        holds: bool,
    }

    impl Armed {
        fn read() -> Option<Self> {
            let value = std::env::var("HAPAX_FAILPOINT").ok()?;
            let (name, count) = value.split_once(':')?;
            let (count, holds) = count
                .strip_suffix(":hold")
                .map_or((count, false), |count| (count, true));
            let (name, left) = (name.to_owned(), AtomicI64::new(count.parse().ok()?));
            Some(Self { name, left, holds })
        }
    }

    pub(super) fn hit(failpoint: Failpoint) {
        let armed = ARMED.get_or_init(Armed::read);
        if let Some(armed) = armed
            && armed.name == failpoint.name()
            && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            if armed.holds {
                return hold(&armed.name);
            }
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is on its way: go no further.
            loop {
                std::thread::park();
            }
        }
    }

    fn hold(name: &str) {
        let _ = std::io::stdout().write_all(format!("\nsays held at {name}\n").as_bytes());
        // By a way of its own: a program that reads its input in another thread has locked the usual one.
        if let Ok(stdin) = std::fs::File::open("/dev/stdin") {
            let _ = std::io::BufReader::new(stdin).read_line(&mut String::new());
        }
    }
}
