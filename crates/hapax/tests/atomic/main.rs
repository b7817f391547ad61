//! Operations in transactions of real databases: the same examination for each driver.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod blocking;
#[path = "../it/http/client.rs"]
mod client;
mod conflicts;
#[cfg(feature = "consume")]
mod consumed;
#[cfg(feature = "failpoints")]
mod crash;
mod door;
#[cfg(feature = "outbox")]
mod effects;
#[cfg(feature = "failpoints")]
mod example;
mod guard;
mod outside;
#[cfg(feature = "failpoints")]
mod process;
mod severed;
#[cfg(feature = "failpoints")]
mod stopped;
mod suite;
mod world;

macro_rules! drivers {
    ($($driver:ident => $world:ty),+ $(,)?) => {
        $(mod $driver {
            use crate::world::*;
            use crate::{door, suite};

            #[tokio::test(flavor = "multi_thread")]
            async fn door_answers_as_a_leased_route_does() {
                door::answers_as_a_leased_route_does(<$world>::start().await, <$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn door_failures_roll_back_and_are_counted() {
                door::failures_roll_back_and_are_counted(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn door_a_conflict_is_run_again() {
                door::a_conflict_is_run_again(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn door_duplicates_wait_and_replay() {
                door::duplicates_wait_and_replay(<$world>::start().await).await;
            }


            #[tokio::test(flavor = "multi_thread")]
            async fn runs_once_and_replays() {
                suite::runs_once_and_replays(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_rejected_run_leaves_its_answer_and_nothing_else() {
                suite::a_rejected_run_leaves_its_answer_and_nothing_else(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_failure_rolls_back_and_is_counted() {
                suite::a_failure_rolls_back_and_is_counted(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_panic_rolls_back() {
                suite::a_panic_rolls_back(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_hundred_duplicates_have_one_effect() {
                suite::a_hundred_duplicates_have_one_effect(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn counts_a_claim_before_the_handler() {
                suite::counts_a_claim_before_the_handler(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_run_outlives_its_caller() {
                suite::a_run_outlives_its_caller(<$world>::start().await).await;
            }

            #[cfg(feature = "outbox")]
            #[tokio::test(flavor = "multi_thread")]
            async fn an_effect_belongs_to_the_handlers_transaction() {
                crate::effects::belong_to_the_handlers_transaction(<$world>::start().await).await;
            }

            #[cfg(feature = "consume")]
            #[tokio::test(flavor = "multi_thread")]
            async fn each_message_has_one_effect() {
                crate::consumed::each_message_has_one_effect(<$world>::start().await, 1).await;
            }

            #[cfg(feature = "consume")]
            #[tokio::test(flavor = "multi_thread")]
            async fn each_message_of_a_batch_has_one_effect() {
                crate::consumed::each_message_has_one_effect(<$world>::start().await, 16).await;
            }

            #[cfg(feature = "consume")]
            #[tokio::test(flavor = "multi_thread")]
            async fn processes_share_messages_and_nothing_happens_twice() {
                crate::consumed::processes_share_and_nothing_happens_twice(<$world>::start().await).await;
            }

            #[cfg(feature = "consume")]
            #[tokio::test(flavor = "multi_thread")]
            async fn a_message_that_is_known_is_not_run_again() {
                crate::consumed::what_is_known_is_not_run_again(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn early_messages_do_not_keep_out_the_one_they_wait_for() {
                crate::consumed::early_messages_do_not_keep_out_the_one_they_wait_for(<$world>::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn what_takes_too_long_is_rolled_back() {
                suite::what_takes_too_long_is_rolled_back(<$world>::start().await).await;
            }
        })+
    };
}

drivers! {
    tokio_postgres => TokioPostgresWorld,
    sqlx_postgres => SqlxPostgresWorld,
    sqlx_sqlite => SqlxSqliteWorld,
    rusqlite => RusqliteWorld,
}

mod severed_connections {
    use crate::severed::{Cut, a_lost_commit_is_looked_up, a_lost_commit_is_unknown_while_nobody_can_be_asked};
    use crate::world::*;

    macro_rules! tests {
        ($($test:ident => $examine:expr),+ $(,)?) => {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                $examine.await;
            })+
        };
    }

    tests! {
        tokio_postgres_before_the_commit => a_lost_commit_is_looked_up::<TokioPostgresWorld>(Cut::Before),
        tokio_postgres_after_the_commit => a_lost_commit_is_looked_up::<TokioPostgresWorld>(Cut::After),
        tokio_postgres_for_longer => a_lost_commit_is_unknown_while_nobody_can_be_asked::<TokioPostgresWorld>(),
        sqlx_postgres_before_the_commit => a_lost_commit_is_looked_up::<SqlxPostgresWorld>(Cut::Before),
        sqlx_postgres_after_the_commit => a_lost_commit_is_looked_up::<SqlxPostgresWorld>(Cut::After),
        sqlx_postgres_for_longer => a_lost_commit_is_unknown_while_nobody_can_be_asked::<SqlxPostgresWorld>(),
    }
}

/// Tests that take other processes: each finds itself again by its path.
#[cfg(feature = "failpoints")]
mod with_processes {
    use hapax::failpoint::Failpoint::{BeforeFinish, ClaimMade, Finished, HandlerEnded};

    use crate::crash::{Claims, killed_at_every_step};
    use crate::stopped::{Loses, stopped_at};
    use crate::world::*;

    macro_rules! tests {
        ($($test:ident => $examine:expr),+ $(,)?) => {
            $(#[test]
            fn $test() {
                let examine: fn(&str) = $examine;
                examine(concat!(module_path!(), "::", stringify!($test)));
            })+
        };
    }

    tests! {
        crash_tokio_postgres => |test| killed_at_every_step::<TokioPostgresWorld>(test, Claims::Within, true),
        crash_tokio_postgres_counted => |test| killed_at_every_step::<TokioPostgresWorld>(test, Claims::Before, true),
        crash_sqlx_postgres => |test| killed_at_every_step::<SqlxPostgresWorld>(test, Claims::Within, false),
        crash_sqlx_sqlite => |test| killed_at_every_step::<SqlxSqliteWorld>(test, Claims::Within, false),
        crash_rusqlite => |test| killed_at_every_step::<RusqliteWorld>(test, Claims::Within, false),

        stopped_tokio_postgres => |test| {
            stopped_at::<TokioPostgresWorld>(test, Loses::Transaction, &[ClaimMade, HandlerEnded, BeforeFinish]);
        },
        stopped_tokio_postgres_counted => |test| {
            stopped_at::<TokioPostgresWorld>(test, Loses::Lease, &[HandlerEnded, BeforeFinish]);
        },
        stopped_sqlx_postgres => |test| {
            stopped_at::<SqlxPostgresWorld>(test, Loses::Transaction, &[ClaimMade, HandlerEnded, BeforeFinish, Finished]);
        },
        stopped_sqlx_sqlite => |test| {
            stopped_at::<SqlxSqliteWorld>(test, Loses::Never, &[Finished]);
        },
        stopped_rusqlite => |test| {
            stopped_at::<RusqliteWorld>(test, Loses::Never, &[Finished]);
        },
    }
}
