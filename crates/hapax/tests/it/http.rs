//! The HTTP door in a real server, asked over real connections.

mod answers;
mod bodies;
mod client;
mod failures;
mod keys;
mod routes;
mod runs;
mod scopes;
mod shaky;
mod status;
mod table;
mod world;
