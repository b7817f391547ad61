//! What every driver's connection must do for the contract's steps in a caller's own transaction ([`Joint`]).
//!
//! In a test, [`joined_tests!`](crate::joined_tests) makes one test of each case. A [`JoinedBackend`] takes the suite
//! of the stores and the random histories, too: each of its claims, finishes, enqueues and reads is a transaction of
//! its own on the driver's connection.

mod cases;
mod store;

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{BoxFuture, Store, StoreError};
use hapax_store::Clock;
use hapax_store::joined::{Connection, Joint, JointError};

use super::Failure;
use super::exam::{Checked, Exam};

pub use store::JoinedBackend;

/// A connection of a driver, which can also be told to run any statement.
pub trait Link: Connection + Send {
    /// Runs a statement whose rows nobody wants.
    fn execute<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), JointError>>;
}

/// A store and its joint.
pub type Opened = (Arc<dyn Store>, Joint);

/// A set of data, empty at first, that a store keeps and a driver's connections reach.
pub trait Place: Send + Sync + 'static {
    /// Opens a store on it, with its joint.
    fn open(&self, clock: Clock) -> BoxFuture<'_, Result<Opened, StoreError>>;

    /// One more connection.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Link>, JointError>>;

    /// The statements that begin a transaction which waits for locks so long.
    fn begin(&self, patience: Duration) -> Vec<String>;

    /// How claims of one operation meet.
    fn meeting(&self) -> Meeting;

    /// How many transactions wait for a lock; 0 where a transaction cannot be begun beside another's.
    fn waiting(&self) -> usize;
}

/// What becomes of a claim that waited for another transaction's claim of the same operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// It sees what the other left (PostgreSQL at READ COMMITTED).
    Sees,
    /// It is a conflict (PostgreSQL at REPEATABLE READ and SERIALIZABLE).
    Conflicts,
    /// There is one writer at a time: the second transaction is not begun before the first has ended (SQLite).
    Queues,
}

/// Long enough for any lock to be had in a test.
const PATIENT: Duration = Duration::from_secs(20);
/// Short enough for a test to see it end.
const HASTY: Duration = Duration::from_millis(50);

/// A case's own data: the store on it, and the joint for transactions.
struct World {
    place: Arc<dyn Place>,
    exam: Exam,
    store: Arc<dyn Store>,
    joint: Joint,
}

impl World {
    async fn new(place: Arc<dyn Place>) -> Checked<Self> {
        let exam = Exam::new(Arc::new(JoinedBackend::new(Arc::clone(&place))));
        exam.open().await?;
        let (store, joint) = place.open(exam.time.clock()).await?;
        let mut link = place.connect().await?;
        link.execute("CREATE TABLE business (key text PRIMARY KEY)").await?;
        Ok(Self {
            place,
            exam,
            store,
            joint,
        })
    }

    /// A connection in a transaction.
    async fn begin(&self) -> Checked<Box<dyn Link>> {
        Ok(begin(&*self.place, PATIENT).await?)
    }

    /// The rows of business.
    async fn business(&self, key: &str) -> Checked<bool> {
        // Only an empty place takes the row.
        let mut link = self.begin().await?;
        let there = link.execute(&insert(key)).await.is_err();
        link.execute("ROLLBACK").await?;
        Ok(there)
    }
}

fn insert(key: &str) -> String {
    format!("INSERT INTO business VALUES ('{key}')")
}

async fn begin(place: &dyn Place, patience: Duration) -> Result<Box<dyn Link>, JointError> {
    let mut link = place.connect().await?;
    for statement in place.begin(patience) {
        link.execute(&statement).await?;
    }
    Ok(link)
}

impl From<JointError> for Failure {
    fn from(error: JointError) -> Self {
        Self(format!("a step failed ({:?}): {error}", error.fault()))
    }
}

/// Runs one case and panics with its name if it fails: the body of a test.
///
/// # Panics
/// When the case fails, or there is none of that name.
#[track_caller]
pub fn check(name: &str, place: impl Place) {
    let Some((_, case)) = CASES.iter().find(|(case, _)| *case == name) else {
        panic!("the suite has no case {name}");
    };
    let place: Arc<dyn Place> = Arc::new(place);
    if let Err(failure) = super::block_on(case(place)) {
        panic!("{name}: {failure}");
    }
}

type Run = fn(Arc<dyn Place>) -> BoxFuture<'static, Result<(), Failure>>;

macro_rules! cases {
    ($d:tt $($case:ident),+ $(,)?) => {
        /// Every case, by name.
        pub const CASES: &[(&str, Run)] = &[$((stringify!($case), |place| Box::pin(async move {
            cases::$case(World::new(place).await?).await
        }))),+];

        /// Makes one test of each case. The argument is an expression that gives a new, empty
        /// [`Place`](crate::conformance::joined::Place) each time.
        #[macro_export]
        macro_rules! joined_tests {
            ($d place:expr) => {
                $(
                    #[test]
                    fn $case() {
                        $d crate::conformance::joined::check(stringify!($case), $d place);
                    }
                )+
            };
        }
    };
}

cases! { $
    a_commit_is_seen_by_everybody,
    a_rollback_leaves_nothing,
    a_lost_connection_leaves_nothing,
    a_duplicate_is_given_the_first_answer,
    a_mismatch_is_told,
    a_claim_waits_for_anothers_and_is_refused,
    a_claim_waits_for_anothers_and_wins_after_its_rollback,
    a_claim_waits_no_longer_than_it_is_told,
    a_lapsed_claim_is_taken_over_once,
    a_lapse_in_hold_mode_is_written,
    a_stale_fence_finishes_nothing,
    a_savepoint_takes_back_the_business_and_keeps_the_claim,
    a_repeated_claim_wins_again,
    a_second_finish_changes_nothing,
    an_enqueued_operation_is_taken_after_the_commit,
    an_enqueue_is_decided_on_the_record,
    a_held_run_cannot_be_taken_over,
    a_step_says_what_it_was_about,
}
