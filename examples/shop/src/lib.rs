//! A small shop: orders, payments, points and stock over HTTP, on its own SQLite database.
//!
//! It plays the backend that hapax protects, and its database is the oracle of the crash tests.
//! It is naive on purpose: every accepted `POST` commits one new row, which is one *effect*, so
//! a request that runs twice shows as two rows. With [`Options::natural_keys`] it is careful
//! instead: an order named by `(customer, client_order_id)` exists at most once.
//!
//! It knows nothing of hapax but the names of three request headers, which it stores as received,
//! and it never reads them back: whether an effect is a double is for [`Ledger`] to say.

mod command;
mod input;
mod knobs;
mod ledger;
mod pages;
mod routes;
mod serve;
mod shop;
mod writer;

pub use ledger::{Double, Effect, Ledger};
pub use serve::{listen, serve, serve_until};
pub use shop::{Error, Options, Shop};
