//! Tends records whose time has come, in small paced steps, so that traffic does not notice.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Store, Swept};
use tokio::time::{Instant, sleep};

use crate::event::{Event, Observer};

/// Others get their turn even where a step takes no time.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// The sweeper's pace.
#[derive(Debug, Clone)]
pub struct Sweeper {
    /// Records in one step of the store.
    pub chunk: usize,
    /// Pause when there was nothing more to do.
    pub idle: Duration,
    /// While there is a backlog: pause this many times as long as the last step took.
    pub rest: f64,
}

impl Default for Sweeper {
    fn default() -> Self {
        Self {
            chunk: 500,
            idle: Duration::from_secs(1),
            rest: 0.3,
        }
    }
}

impl Sweeper {
    /// Sweeps for ever; drop the future to stop.
    pub async fn run(self, store: Arc<dyn Store>, observer: Arc<dyn Observer>) {
        loop {
            let started = Instant::now();
            let pause = match store.sweep(self.chunk).await {
                Ok(swept) => {
                    if swept != Swept::default() {
                        observer.event(&Event::Swept(swept));
                    }
                    if swept.looked_at < self.chunk {
                        self.idle
                    } else {
                        started.elapsed().mul_f64(self.rest).max(SHORTEST_REST)
                    }
                }
                Err(error) => {
                    observer.event(&Event::StoreFailed {
                        step: "sweep",
                        error: &error,
                    });
                    self.idle
                }
            };
            sleep(pause).await;
        }
    }
}
