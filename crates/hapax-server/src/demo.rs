//! `hapax demo`: a real shop, real requests, a real `kill -9`, with hapax and without.
//!
//! The shop and the gateway are child processes of this same program, in a temporary directory. What happened is read
//! from the shop's own database, not from what anybody says.

mod client;
mod process;
pub(crate) mod shop;
mod storm;
mod tally;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, sleep_until};

use crate::exit::{Exit, Failure};
use process::Child;
use storm::{Limit, Storm};
use tally::{Column, Tally};

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How long the storm with hapax lasts, in seconds; the one without repeats the same requests
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Operations that clients work on at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// What is sent is drawn from this number
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print the numbers as JSON
    #[arg(long)]
    json: bool,
}

/// How long a claim of the killed gateway holds: short, so that the demo need not wait for it.
const LEASE: &str = "2s";

pub(crate) fn run(demo: &Demo) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot start a runtime: {error}")))?;
    runtime.block_on(async {
        let stopped = |kind| signal(kind).map_err(|error| Failure::new(Exit::Internal, error));
        let (mut interrupt, mut terminate) = (stopped(SignalKind::interrupt())?, stopped(SignalKind::terminate())?);
        tokio::select! {
            done = play(demo) => done,
            // Dropping the play ends its processes and removes its files.
            _ = interrupt.recv() => Err(Failure::new(Exit::Unreachable, "stopped")),
            _ = terminate.recv() => Err(Failure::new(Exit::Unreachable, "stopped")),
        }
    })
}

async fn play(demo: &Demo) -> Result<ExitCode, Failure> {
    let directory = tempfile::Builder::new()
        .prefix("hapax-demo-")
        .tempdir()
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot make a temporary directory: {error}")))?;
    let clients = demo.clients as usize;
    let mut live = Live::new();
    let time = Limit::Time(Duration::from_secs(demo.seconds));
    let with = with_hapax(directory.path(), demo.seed, clients, time, &mut live).await?;
    let same = Limit::Operations(with.operations);
    let without = without_hapax(directory.path(), demo.seed, clients, same, &mut live).await?;
    live.end();
    let good = with.doubles == 0 && with.lost == 0 && with.differing == 0 && with.altered_accepted == 0;
    let mut out = io::stdout().lock();
    if demo.json {
        let value = serde_json::json!({ "with_hapax": with, "without": without, "passed": good });
        writeln!(out, "{value:#}")?;
    } else {
        tally::print(&mut out, &with, &without)?;
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Exit::Failed as u8)
    })
}

async fn with_hapax(
    directory: &Path,
    seed: u64,
    clients: usize,
    limit: Limit,
    live: &mut Live,
) -> Result<Column, Failure> {
    let database = directory.join("shop.db");
    let (shop, shop_address) = start_shop(&database).await?;
    let store = directory.join("hapax.db");
    let mut gateway = start_gateway("127.0.0.1:0", shop_address, &store).await?;
    live.say(&format!("shop on {shop_address}, hapax before it on {}", gateway.1));
    let storm = Arc::new(Storm::new(gateway.1, seed, limit));
    let mut running = Box::pin(Arc::clone(&storm).run(clients));
    let half = match limit {
        Limit::Time(time) => Instant::now() + time / 2,
        Limit::Operations(_) => Instant::now(),
    };
    let mut tick = interval(Duration::from_millis(100));
    let mut killed = false;
    loop {
        tokio::select! {
            () = &mut running => break,
            _ = tick.tick() => live.show("with hapax", &storm.tally),
            () = sleep_until(half), if !killed => {
                killed = true;
                gateway.0.kill().await?;
                live.say("kill -9 of hapax, in the middle of everything; starting it again");
                let again = start_gateway(&gateway.1.to_string(), shop_address, &store).await?;
                gateway = again;
            }
        }
    }
    live.say("the storm with hapax is over; counting what is in the shop's database");
    let column = Column::count(&storm.tally, &database, storm.operations())?;
    gateway.0.stop().await;
    shop.stop().await;
    Ok(column)
}

async fn without_hapax(
    directory: &Path,
    seed: u64,
    clients: usize,
    limit: Limit,
    live: &mut Live,
) -> Result<Column, Failure> {
    let database = directory.join("shop-bypassed.db");
    let (shop, address) = start_shop(&database).await?;
    live.say(&format!(
        "the same requests without hapax, on a fresh shop on {address}"
    ));
    let storm = Arc::new(Storm::new(address, seed, limit));
    let mut running = Box::pin(Arc::clone(&storm).run(clients));
    let mut tick = interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            () = &mut running => break,
            _ = tick.tick() => live.show("without", &storm.tally),
        }
    }
    let column = Column::count(&storm.tally, &database, storm.operations())?;
    shop.stop().await;
    Ok(column)
}

async fn start_shop(database: &Path) -> Result<(Child, SocketAddr), Failure> {
    let arguments = [OsStr::new("demo-shop"), OsStr::new("--db"), database.as_os_str()];
    process::start("the shop", arguments).await
}

async fn start_gateway(listen: &str, upstream: SocketAddr, store: &Path) -> Result<(Child, SocketAddr), Failure> {
    let mut database = OsString::from("sqlite:");
    database.push(store);
    let upstream = format!("http://{upstream}");
    let mut arguments: Vec<&OsStr> = Vec::new();
    for argument in [
        "serve",
        "--with-parent",
        "--scope",
        "none",
        "--lease",
        LEASE,
        "--log",
        "error",
    ] {
        arguments.push(argument.as_ref());
    }
    for (flag, value) in [
        ("--listen", listen.as_ref()),
        ("--upstream", upstream.as_ref()),
        ("--store", &*database),
    ] {
        arguments.extend([OsStr::new(flag), value]);
    }
    process::start("hapax", arguments).await
}

/// What is seen while it runs: one line that is written over on a terminal, a line now and then elsewhere.
struct Live {
    terminal: bool,
    shown: Instant,
}

impl Live {
    fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            shown: Instant::now(),
        }
    }

    fn say(&self, text: &str) {
        let start = if self.terminal { "\r\x1b[2K" } else { "" };
        // With standard error gone there is nobody left to tell.
        let _ = writeln!(io::stderr(), "{start}{text}");
    }

    fn show(&mut self, phase: &str, tally: &Tally) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[2K{phase}: {}", tally.line());
        } else if self.shown.elapsed() >= Duration::from_secs(2) {
            self.shown = Instant::now();
            let _ = writeln!(io::stderr(), "{phase}: {}", tally.line());
        }
    }

    fn end(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}
