//! The program `hapax`: the gateway, what is needed to run it, and the demo.
//!
//! Concrete types meet in [`serve`] and nowhere else: configuration becomes a store, an engine, the HTTP door, the
//! gateway's transport.

mod audit;
mod cli;
mod config;
mod dead;
mod demo;
mod doctor;
mod exit;
mod gateway;
mod jwt;
mod migrate;
mod observe;
mod outbox;
mod receipts;
mod reconcile;
mod records;
mod serve;
mod store;

/// Answers are made on one thread and freed on another, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
