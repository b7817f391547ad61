//! The exam that every store and the engine must pass.
//!
//! - [`conformance`]: one suite of cases for every store; a backend is a function that opens it.
//! - [`history`]: random histories on a store and on the reference model give the same answers.
//! - [`faulty`]: a store that loses replies, fails, delays and repeats calls, by a seed.
//! - [`sim`]: gateways, clients and upstreams in virtual time, with every fault that can be drawn from a seed.
//! - [`canaries`]: stores with planted bugs. An exam that one of them passes is no exam.
//!
//! Nothing here is shipped: it is for the tests of this workspace and of whoever writes a store.

pub mod canaries;
pub mod conformance;
pub mod dice;
pub mod faulty;
pub mod history;
pub mod sim;
pub mod time;

pub use conformance::{Backend, Failure};
pub use time::MadeTime;
