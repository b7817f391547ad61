//! Receipts in each database, as a backend writes them and as hapax reads and seals them.

mod arguments;
mod commits;
mod doom;
mod install;
mod reading;
mod seals;
mod world;

use hapax::core::{Fence, OperationId};

use world::World;

/// Runs a test once for each database.
macro_rules! in_each {
    ($($test:ident),+ $(,)?) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $test() { super::$test(&$crate::receipts::World::postgres().await).await })+
        }
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $test() { super::$test(&$crate::receipts::World::mariadb().await).await })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $test() { super::$test(&$crate::receipts::World::sqlite().await).await })+
        }
    };
}
use in_each;

fn operation(number: u8) -> OperationId {
    OperationId::from_bytes([number; 16])
}

fn fence(number: u64) -> Fence {
    Fence::new(number)
}
