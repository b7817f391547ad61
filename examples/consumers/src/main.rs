//! The consumers as a program.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hapax_consumers::{Consumers, Options};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Points, stock and letters for a shop's orders: once for each event, however often it comes.
#[derive(Parser)]
#[command(name = "consumers")]
struct Args {
    /// The broker: nats://, amqp://, kafka:// or redis://.
    #[arg(long)]
    broker: String,
    /// The PostgreSQL database of points, stock and letters, and of hapax's records.
    #[arg(long)]
    database: String,
    /// Messages that each consumer handles at a time.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Seconds that a message may be in the hands of a process that gives no sign of life.
    #[arg(long, default_value_t = 30)]
    abandoned: u64,
    /// Take every delivery for a new message, as if there were no hapax.
    #[arg(long, hide = true)]
    forget: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "consumers: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let consumers = Consumers::new(&Options {
        broker: args.broker,
        database: args.database,
        concurrency: args.concurrency,
        abandoned: Duration::from_secs(args.abandoned),
        forget: args.forget,
    })
    .await?;
    writeln!(std::io::stdout(), "ready")?;
    let (stop, _) = watch::channel(false);
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.send_replace(true);
    });
    consumers.run(stop).await?;
    Ok(())
}
