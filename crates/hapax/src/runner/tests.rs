//! The runner on the model, in virtual time.

mod outages;
mod recovery;
mod schedule;
mod unknown;
mod world;
