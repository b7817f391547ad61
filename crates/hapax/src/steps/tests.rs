//! Operations with steps, in virtual time on the model.

mod compensation;
mod course;
mod interleaving;
mod world;
