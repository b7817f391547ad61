//! The shop as a program.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hapax_shop::{Options, Shop, listen, serve_until};
use tokio::signal::unix::{SignalKind, signal};

/// A small shop over HTTP: a backend to protect, and the oracle of crash tests.
#[derive(Parser)]
#[command(name = "shop")]
struct Args {
    /// Address to listen on; with port 0 the system picks a port.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Database file; created where there is none.
    #[arg(long, default_value = "shop.db")]
    db: PathBuf,
    /// Refuse a second order with the same (customer, client_order_id), as a careful backend does.
    #[arg(long)]
    natural_keys: bool,
    /// Obey the X-Shop-Delay, X-Shop-Delay-After and X-Shop-Fail request headers.
    #[arg(long)]
    test_knobs: bool,
    /// Serve the files of this folder beside the endpoints; can be given more than once.
    #[arg(long, value_name = "FOLDER")]
    pages: Vec<PathBuf>,
}

// One thread answers and one writes: the machine's other cores are for what is being tested.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "shop: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), String> {
    let failed = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| failed("SIGTERM", e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| failed("SIGINT", e))?;
    let options = Options {
        natural_keys: args.natural_keys,
        test_knobs: args.test_knobs,
        pages: args.pages,
        ..Options::default()
    };
    let shop = Shop::open(&args.db, options).map_err(|e| e.to_string())?;
    let listener = listen(args.listen).map_err(|e| {
        failed(
            &format!("cannot listen on {}; choose another --listen address", args.listen),
            e,
        )
    })?;
    let address = listener.local_addr().map_err(|e| failed("cannot read the port", e))?;
    writeln!(std::io::stdout(), "listening on {address}").map_err(|e| failed("standard output", e))?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve_until(listener, shop.clone(), stop).await;
    shop.close().await;
    Ok(())
}
