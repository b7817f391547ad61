//! Traffic while records expire: a backlog all at once, and expiry at the arrival rate.

mod backlog;
mod steady;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hapax::core::Store;
use hapax::{Event, Observer, Sweeper};
use tokio::task::JoinHandle;

use super::World;
use crate::error::Result;
use crate::options::Options;
use crate::report::Report;

const CALLERS: usize = 64;

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new(options)?;
    for place in world.places("backlog") {
        backlog::run(options, report, &place).await?;
    }
    for (with, without) in world.places("with").iter().zip(&world.places("without")) {
        steady::run(options, report, with, without).await?;
    }
    report.note(format!(
        "{CALLERS} callers, each cycle a claim and a finish; the sweeper at its default pace"
    ));
    Ok(())
}

/// Counts what the sweeper does, but for a step that was broken off.
#[derive(Default)]
struct Tally {
    forgotten: AtomicU64,
    failed: AtomicU64,
}

impl Observer for Tally {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Swept(swept) => {
                self.forgotten.fetch_add(swept.forgotten as u64, Ordering::Relaxed);
            }
            Event::StoreFailed { .. } => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl Tally {
    fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<()> {
        match self.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(format!("{failed} steps of the sweeper failed").into()),
        }
    }
}

/// A sweeper at work, as the gateway runs it. Dropped, it stops.
struct Sweeping(JoinHandle<()>);

impl Sweeping {
    fn start(store: &Arc<dyn Store>, tally: &Arc<Tally>) -> Self {
        let observer: Arc<dyn Observer> = Arc::clone(tally) as _;
        Self(tokio::spawn(Sweeper::default().run(Arc::clone(store), observer)))
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}
