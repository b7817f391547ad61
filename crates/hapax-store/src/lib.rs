//! Stores for hapax, one module each. They all keep the contract of [`hapax_core::Store`]; the conformance suite of
//! `hapax-check` holds them to it.

pub mod clock;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod joined;
pub mod memory;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod migration;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod replies;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use clock::Clock;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use joined::Joint;
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, SqliteOptions, SqliteStore};
