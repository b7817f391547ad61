//! The samples in other languages, killed and stopped at every step of their transactions, and what is in their
//! database afterwards.
//!
//! Clients ask again until they have an answer. Nothing in the table of payments is unique but its id: a payment made
//! twice is two rows. `HAPAX_CRASH_KILLS=1000` kills so many times: four fifths of it the sample, the rest the gateway in
//! front (100 otherwise).

mod kills;
mod outbox;
mod stops;
mod world;

/// The tests of a sample on a database, killed a share of the usual times.
macro_rules! sample {
    ($name:ident, $language:ident on $place:ident, $share:literal) => {
        mod $name {
            use crate::languages::world::{Language, Place, World};
            use crate::languages::{kills, stops};

            fn world() -> World {
                World::new(Language::$language, Place::$place)
            }

            #[test]
            fn killed_at_any_step_it_neither_loses_nor_doubles_a_payment() {
                kills::of_the_backend(&world(), $share);
            }

            #[test]
            fn its_transaction_stands_and_falls_with_its_receipt() {
                world().verify();
            }

            #[test]
            fn stopped_at_any_step_it_cannot_commit_once_another_attempt_began() {
                stops::at_each_step(&world());
            }

            #[test]
            fn behind_a_gateway_that_is_killed_it_neither_loses_nor_doubles_a_payment() {
                kills::of_the_gateway(&world(), $share);
            }
        }
    };
}

sample!(python, Python on Postgres, 1.0);
sample!(python_behind_pgbouncer, Python on PgBouncer, 0.2);
sample!(python_on_mariadb, Python on MariaDb, 0.2);
sample!(node, Node on Postgres, 1.0);
