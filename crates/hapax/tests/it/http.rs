//! The HTTP door in a real server, asked over real connections.

mod answers;
mod bodies;
mod breaker;
mod client;
mod door;
mod failures;
mod keys;
mod later;
mod quotas;
mod retries;
mod routes;
mod runs;
mod scopes;
mod sealed;
mod shaky;
mod status;
mod table;
mod world;
