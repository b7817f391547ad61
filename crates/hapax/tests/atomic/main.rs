//! Operations in transactions of real databases: the same examination for each driver.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod guard;
mod outside;
mod suite;
mod world;

macro_rules! drivers {
    ($($driver:ident => $world:ty),+ $(,)?) => {
        $(mod $driver {
            use crate::suite;
            use crate::world::*;

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
