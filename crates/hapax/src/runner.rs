//! Takes work whose time has come and runs it: accepted requests, retries, what a crash left behind, unknown outcomes.
//!
//! A taken operation is run by the same code as an arrival's: heartbeats, fence, late finish. Several runners on one
//! store share the work. What it does not do: decide what a failure proves (the handler does), or who takes what (the
//! store does, in [`hapax_core::Record::take`]).

pub(crate) mod attempt;
pub(crate) mod ending;
mod intake;
mod pace;
mod resolving;

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use hapax_core::policy::FailureClass;
use hapax_core::{Answer, BoxFuture, Input, LastError, Name, Outcome, TakeName};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::engine::{Engine, Run, RunOptions};
use crate::resolver::Resolver;
use crate::retry::Destination;
use intake::{Intake, Look};

/// More at a time would be a mistake in the configuration.
const MOST: usize = 1 << 20;

/// How long a runner with more to do waits for as many slots as it had free last time, in case its runs end at once, and
/// then for half of all, in case they end soon: few records cost the store about as much as many.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(4)];

/// How many requests for work it has with the store at a time, while there is more than it can take at once: the next
/// one is on its way while one is made durable.
const ASKS: usize = 2;

/// Bounds of a runner. Every field has a default.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Operations whose handlers it lets run at a time (16; at least 1, at most 1,048,576). As many more may have run
    /// while the store still writes down how they ended.
    pub concurrency: usize,
    /// The longest pause between two looks for work (1 s). What this process lays down itself is found at once.
    pub poll: Duration,
    /// How long it waits for its runs to end when it is told to stop (30 s).
    pub drain: Duration,
}

impl Default for RunnerOptions {
    fn default() -> Self {
        Self {
            concurrency: 16,
            poll: Duration::from_secs(1),
            drain: Duration::from_secs(30),
        }
    }
}

/// How the operations of one name are run.
#[derive(Clone)]
pub struct Handling {
    /// Which operations.
    pub name: Name,
    /// Lease, longest run, what an ambiguous failure becomes, how long resolvers wait.
    pub run: RunOptions,
    /// Retry policy, budget and breaker of what they call. Names that call the same share it.
    pub destination: Destination,
    /// Whether a crash of this process can be the operation's fault.
    pub crashes_count: bool,
    /// Who is asked what became of an unknown outcome, in this order.
    pub resolvers: Vec<Arc<dyn Resolver>>,
    /// Whether one that belongs to a group waits until all older ones of its group are done
    /// ([`TakeName::ordered`]).
    pub ordered: bool,
}

impl fmt::Debug for Handling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handling")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How a run by the system ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    /// It happened.
    Done(Outcome),
    /// It failed; the policy says what follows.
    Failed(Failure),
    /// It failed, and may be repeated even if it happened: as [`Failed`](Self::Failed) in retry mode, in any mode.
    Repeat(Failure),
    /// Nothing failed: it waits for something else and is to be run again after this time. No try, however often.
    Later {
        /// Time until due.
        after: Duration,
        /// What it waits for.
        why: Option<LastError>,
    },
}

/// A failed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it proves.
    pub class: FailureClass,
    /// The answer, if there was one: kept when no retry follows.
    pub answer: Option<Answer>,
    /// What went wrong.
    pub last_error: LastError,
    /// The time that the other side named: `Retry-After`, pushback.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure without an answer.
    #[must_use]
    pub fn new(class: FailureClass, last_error: &str) -> Self {
        Self {
            class,
            answer: None,
            last_error: LastError::new(last_error),
            retry_after: None,
        }
    }
}

type Handler = Box<dyn Fn(Run, Input) -> BoxFuture<'static, Attempted> + Send + Sync>;

/// A name, how its operations are run, and by what.
struct Handled {
    handling: Handling,
    handler: Handler,
}

impl Handled {
    fn take_name(&self) -> TakeName {
        let Handling {
            name,
            run,
            destination,
            crashes_count,
            resolvers,
            ordered,
        } = &self.handling;
        TakeName {
            name: name.clone(),
            lease: run.lease,
            max_run: run.max_run,
            after_failure: run.after_failure,
            tries: destination.policy().limits.tries,
            crashes_count: *crashes_count,
            resolves: !resolvers.is_empty(),
            ordered: *ordered,
        }
    }
}

/// Runs due operations of the names that it handles.
///
/// ```
/// use std::sync::Arc;
/// use hapax::core::{Fingerprint, Input, Key, Name, NotKept, Operation, Outcome, RecipeId, RetryPolicy, Scope};
/// use hapax::retry::Destination;
/// use hapax::store::{Clock, MemoryStore};
/// use hapax::{Arrival, Attempted, Engine, EngineOptions, Handling, RunOptions, Runner, RunnerOptions};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let engine = Engine::new(MemoryStore::new(Clock::default(), [0; 32]), EngineOptions::default(), ());
/// let name = Name::new("email").unwrap();
/// let arrival = Arrival {
///     group: None,
///     input: None,
///     operation: Operation::new(Scope::new("tenant-1").unwrap(), name.clone(), Key::new("k1").unwrap()),
///     fingerprint: Fingerprint::new(RecipeId::new(1), [1; 32]),
///     refingerprint: Arc::new(|_, _| None),
///     options: RunOptions::default(),
///     wait: std::time::Duration::ZERO,
/// };
/// engine.enqueue(arrival, Input("ada@example.org".into()), std::time::Duration::ZERO).await?;
///
/// let (sent, told) = tokio::sync::oneshot::channel();
/// let sent = std::sync::Mutex::new(Some(sent));
/// let handling = Handling::new(name, Destination::new(RetryPolicy::default())?);
/// let runner = Runner::new(&engine, RunnerOptions::default()).handle(handling, move |_run, input: Input| {
///     let sent = sent.lock().unwrap().take();
///     async move {
///         sent.unwrap().send(input).unwrap();
///         Attempted::Done(Outcome::NotKept(NotKept::Discarded))
///     }
/// });
/// runner.run(async { assert_eq!(told.await.unwrap(), Input("ada@example.org".into())) }).await;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Runner {
    engine: Engine,
    options: RunnerOptions,
    handled: HashMap<Name, Arc<Handled>>,
}

impl Handling {
    /// The usual: hold after an ambiguous failure, crashes count, nobody to ask about unknown outcomes.
    #[must_use]
    pub fn new(name: Name, destination: Destination) -> Self {
        Self {
            name,
            run: RunOptions::default(),
            destination,
            crashes_count: true,
            resolvers: Vec::new(),
            ordered: false,
        }
    }
}

impl Runner {
    /// A runner that handles nothing yet.
    #[must_use]
    pub fn new(engine: &Engine, options: RunnerOptions) -> Self {
        Self {
            engine: engine.clone(),
            options,
            handled: HashMap::new(),
        }
    }

    /// Runs the operations of a name by a handler; one that was given for the same name before is replaced.
    ///
    /// A handler that takes longer than the policy's `per_try` is dropped where it stands, and has failed in a way that
    /// proves nothing; so has one that panics.
    #[must_use]
    pub fn handle<H, F>(mut self, handling: Handling, handler: H) -> Self
    where
        H: Fn(Run, Input) -> F + Send + Sync + 'static,
        F: Future<Output = Attempted> + Send + 'static,
    {
        let name = handling.name.clone();
        let handler: Handler = Box::new(move |run, input| Box::pin(handler(run, input)));
        self.handled.insert(name, Arc::new(Handled { handling, handler }));
        self
    }

    /// Runs what is due until `shutdown`, then waits for what still runs. Returns how many runs were left when
    /// [`RunnerOptions::drain`] was over: they go on for as long as the runtime does.
    ///
    /// Must be called within a tokio runtime. Dropped, it takes nothing new, and what runs goes on; but what the store
    /// was giving it in that moment waits for the end of its lease.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> usize {
        let mut stop = pin!(shutdown.fuse());
        let concurrency = self.options.concurrency.clamp(1, MOST);
        let slots = Arc::new(Semaphore::new(concurrency));
        let endings = Arc::new(Semaphore::new(concurrency));
        let mut intake = Intake::new(&self.engine, &self.handled, Arc::clone(&slots), Arc::clone(&endings));
        let alarm = &self.engine.inner.alarm;
        let (all, half) = (concurrency as u32, concurrency.div_ceil(2) as u32);
        // How many were free. What runs for long is waited for in vain once.
        let mut free = all;
        let (mut look, mut looked) = (
            Look {
                more: true,
                ..Look::default()
            },
            Instant::now(),
        );
        loop {
            if look.suspects {
                intake.drain(&mut look).await;
                look.suspects = false;
                match intake.run_alone(stop.as_mut()).await {
                    ControlFlow::Break(()) => break,
                    ControlFlow::Continue(ran) => look.more |= ran,
                }
            }
            let (asked, most) = (intake.asked(), if look.more { ASKS } else { 1 });
            let ready = async {
                match look.more {
                    true => {
                        for (pause, places) in PAUSES.into_iter().zip([free, half]) {
                            if timeout(pause, slots.acquire_many(places)).await.is_ok() {
                                break;
                            }
                        }
                    }
                    false => alarm.rung(looked + self.options.poll.min(look.pause)).await,
                }
                // The semaphore is never closed.
                drop(slots.acquire().await);
            };
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(given) = intake.given(), if asked > 0 => {
                    look.more = given.more;
                    look.suspects |= given.suspects;
                }
                () = ready, if asked < most => {
                    alarm.quiet();
                    looked = Instant::now();
                    free = half.max(slots.available_permits() as u32);
                    let this = intake.look().await;
                    // What was only asked for tells when it is given.
                    let more = look.more && intake.asked() > asked;
                    look = Look { more: this.more || more, ..this };
                }
            }
        }
        intake.drain(&mut look).await;
        // An error of the timer: time is over.
        let _ = timeout(self.options.drain, async {
            // Whoever frees a slot has a place among the endings.
            let slots = slots.acquire_many(all).await;
            (slots, endings.acquire_many(all).await)
        })
        .await;
        2 * concurrency - slots.available_permits() - endings.available_permits()
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("options", &self.options)
            .field("names", &self.handled.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
