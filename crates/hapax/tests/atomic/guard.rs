//! Guards on real databases, through each driver.

mod desk;
mod examples;
mod mistakes;
mod page;
mod races;
mod suite;

macro_rules! drivers {
    ($($driver:ident)+) => {
        $(mod $driver {
            use super::desk::Place;
            use super::{mistakes, races, suite};

            drivers! { @tests $driver
                suite::a_transition_answers_by_the_state_it_finds
                suite::an_update_answers_by_the_version_it_finds
                suite::an_upsert_answers_by_the_version_it_finds
                suite::an_insert_answers_by_the_row_it_finds
                suite::what_must_be_the_same_is_compared
                suite::names_are_quoted
                races::of_twenty_one_applies
                races::the_highest_version_stays
                mistakes::are_told_clearly
                mistakes::a_key_of_several_rows_writes_none
            }
        })+
    };
    (@tests $driver:ident $($suite:ident::$test:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            $suite::$test(Place::$driver()).await;
        })+
    };
}

drivers! { tokio_postgres sqlx_postgres sqlx_sqlite rusqlite }
