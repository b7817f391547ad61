//! How far a command is, on standard error: a bar on a terminal, else a line every few seconds.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) enum Progress {
    Bar(ProgressBar),
    Lines {
        done: u64,
        total: u64,
        begun: Instant,
        next: Instant,
    },
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        if io::stderr().is_terminal() {
            let bar = ProgressBar::new(total);
            let style = "{wide_bar} {pos}/{len} {per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            return Self::Bar(bar);
        }
        let now = Instant::now();
        Self::Lines {
            done: 0,
            total,
            begun: now,
            next: now + LINE_EVERY,
        }
    }

    pub(super) fn step(&mut self) {
        match self {
            Self::Bar(bar) => bar.inc(1),
            Self::Lines {
                done,
                total,
                begun,
                next,
            } => {
                *done += 1;
                let now = Instant::now();
                if now >= *next {
                    *next = now + LINE_EVERY;
                    let seconds = (now - *begun).as_secs();
                    let _ = writeln!(io::stderr(), "{done} of {total} after {seconds}s");
                }
            }
        }
    }

    /// Takes the bar away, so that what follows stands alone.
    pub(super) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
