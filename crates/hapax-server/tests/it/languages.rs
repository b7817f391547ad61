//! The samples in other languages, killed and stopped at every step of their transactions, and what is in their
//! database afterwards.
//!
//! Clients ask again until they have an answer. Nothing in the table of payments is unique but its id: a payment made
//! twice is two rows. `HAPAX_CRASH_KILLS=1000` kills each sample so many times (80 otherwise), and the gateway in front
//! of it a quarter as often.

mod kills;
mod outbox;
mod stops;
mod world;

/// The tests of a sample on a database.
macro_rules! sample {
    ($name:ident, $language:ident, $place:ident) => {
        mod $name {
            use crate::languages::world::{Language, Place, World};
            use crate::languages::{kills, stops};

            fn world() -> World {
                World::new(Language::$language, Place::$place)
            }

            #[test]
            fn nothing_is_lost_or_double_whenever_the_backend_is_killed() {
                kills::of_the_backend(&world());
            }

            #[test]
            fn nothing_is_lost_or_double_whenever_the_gateway_is_killed() {
                kills::of_the_gateway(&world());
            }

            #[test]
            fn who_wakes_up_late_cannot_commit() {
                stops::before_the_receipt(&world());
            }

            #[test]
            fn who_is_stopped_with_its_receipt_lets_go() {
                stops::after_the_receipt(&world());
            }
        }
    };
}

sample!(python, Python, Postgres);
sample!(python_behind_pgbouncer, Python, PgBouncer);
sample!(python_on_mariadb, Python, MariaDb);
sample!(node, Node, Postgres);
sample!(node_behind_pgbouncer, Node, PgBouncer);
