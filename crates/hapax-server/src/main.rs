//! The program `hapax`: the gateway, what is needed to run it, and the demo.
//!
//! Concrete types meet in [`serve`] and nowhere else: configuration becomes a store, an engine, the HTTP door, the
//! gateway's transport.

mod cli;
mod config;
mod demo;
mod exit;
mod gateway;
mod jwt;
mod migrate;
mod observe;
mod records;
mod serve;
mod store;

fn main() -> std::process::ExitCode {
    cli::run()
}
