//! The shop of the demo as a process.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use hapax_shop::{Options, Shop, listen, serve_until};

use crate::exit::{Exit, Failure};
use crate::store::runtime;

#[derive(Debug, Args)]
pub(crate) struct DemoShop {
    /// Its database
    #[arg(long)]
    db: PathBuf,
    /// Where clients connect
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve the files of this folder too
    #[arg(long)]
    pages: Vec<PathBuf>,
}

/// Serves until standard input ends.
///
/// # Errors
/// If the database or the port cannot be had.
pub(crate) fn run(args: &DemoShop) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Unreachable, format!("the shop: {error}"));
    runtime()?.block_on(async {
        let options = Options {
            test_knobs: true,
            pages: args.pages.clone(),
            ..Options::default()
        };
        let shop = Shop::open(&args.db, options).map_err(|error| failed(&error))?;
        let listener = listen(args.listen).map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        let mut out = io::stdout();
        writeln!(out, "listening on {address}")?;
        out.flush()?;
        serve_until(listener, shop.clone(), parent_gone()).await;
        shop.close().await;
        Ok(())
    })
}

/// Returns when standard input ends: whoever started this process has ended, or wants it to end.
pub(crate) async fn parent_gone() {
    let (gone, wait) = tokio::sync::oneshot::channel();
    // A thread that nobody waits for: a read of standard input cannot be interrupted.
    let watching = std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
        // An error ends it as the end does.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = gone.send(());
    });
    if watching.is_err() {
        return std::future::pending().await;
    }
    let _ = wait.await;
}
