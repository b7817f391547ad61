//! Where log lines go: standard error, through a buffer that a thread of its own empties, so that a slow terminal or
//! pipe never holds up a request. When more than [`MOST_BYTES`] wait, lines are dropped and counted.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hapax::store::Clock;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Level, Log, LogFormat};

const MOST_BYTES: usize = 8 << 20;

/// The end of the buffer that lines are put into. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Sink(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
    closed: bool,
}

/// Writes what is left when it is dropped.
#[derive(Debug)]
pub(crate) struct Drain {
    sink: Sink,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Each step leaves the buffer whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    /// Puts a whole line (or several) into the buffer.
    pub(crate) fn put(&self, line: &[u8]) {
        let mut waiting = self.0.waiting();
        if waiting.bytes.len() + line.len() > MOST_BYTES {
            waiting.dropped += 1;
            return;
        }
        let was_empty = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if was_empty {
            self.0.more.notify_one();
        }
    }

    fn write_out(&self) {
        let mut chunk = Vec::new();
        loop {
            let mut waiting = self.0.waiting();
            while waiting.bytes.is_empty() && !waiting.closed {
                waiting = self.0.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if waiting.bytes.is_empty() {
                return;
            }
            chunk.clear();
            std::mem::swap(&mut chunk, &mut waiting.bytes);
            let dropped = std::mem::take(&mut waiting.dropped);
            drop(waiting);
            // With standard error gone there is nobody left to tell.
            let _ = io::stderr().write_all(&chunk);
            if dropped > 0 {
                let _ = writeln!(
                    io::stderr(),
                    "hapax: {dropped} log lines were dropped: they came too fast"
                );
            }
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.sink.0.waiting().closed = true;
        self.sink.0.more.notify_all();
        if let Some(thread) = self.thread.take() {
            // It panicked, then: its lines are lost, which is no reason to fail.
            let _ = thread.join();
        }
    }
}

/// One event of tracing is one write.
impl<'a> MakeWriter<'a> for Sink {
    type Writer = SinkWriter;

    fn make_writer(&'a self) -> SinkWriter {
        SinkWriter(self.clone())
    }
}

#[derive(Debug)]
pub(crate) struct SinkWriter(Sink);

impl Write for SinkWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Times as the rest of the program writes them.
struct WallClock(Clock);

impl FormatTime for WallClock {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        write!(out, "{}", self.0.reading().0)
    }
}

/// Starts logging for the process. Lines are written until the [`Drain`] is dropped.
///
/// # Errors
/// If the thread cannot be started.
pub(crate) fn start(config: &Log) -> io::Result<(Sink, Drain)> {
    let sink = Sink(Arc::default());
    let writer = sink.clone();
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.write_out())?;
    let level = match config.level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // What libraries say below a warning is of use to their authors.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("hapax", level);
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(sink.clone())
        .with_timer(WallClock(Clock::default()))
        .with_ansi(false);
    // Set already: by an earlier start in this process.
    let _ = match config.format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    let drain = Drain {
        sink: sink.clone(),
        thread: Some(thread),
    };
    Ok((sink, drain))
}
