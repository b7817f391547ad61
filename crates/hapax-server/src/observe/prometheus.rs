//! The metrics as Prometheus reads them (text format 0.0.4). `docs/metrics.md` says what each means.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use hapax::core::StateName;

use super::destinations::Destinations;
use super::{BUCKETS_US, Counter, Histogram, Metrics, STEPS, TOLD};

/// What is measured elsewhere, at the moment of a scrape.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Now {
    /// Duplicates that wait.
    pub(crate) waiting: usize,
    /// Whether the store answers.
    pub(crate) store_up: bool,
    /// How far the store's clock is behind a jump that nobody accepted, in seconds.
    pub(crate) clock_jump_seconds: f64,
    /// Whether no new requests are taken.
    pub(crate) draining: bool,
}

/// All metrics as text.
pub(crate) fn render(metrics: &Metrics, now: Now, destinations: &Destinations) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    metrics.http.render(&mut page);
    page.counter(
        "hapax_runs_started_total",
        "Operations that began to run.",
        &metrics.started,
    );
    let states = StateName::ALL.iter().map(|state| state.as_str());
    let finished: Vec<_> = states.zip(&metrics.finished).collect();
    page.family(
        "hapax_runs_finished_total",
        "Runs whose end is durable, by what the record became.",
        "state",
        &finished,
    );
    page.histogram(
        "hapax_run_seconds",
        "From a claim to its durable end.",
        &metrics.run_time,
    );
    page.counter(
        "hapax_fenced_total",
        "Runs that ended after they had lost their claim.",
        &metrics.fenced,
    );
    let told: Vec<_> = TOLD.into_iter().zip(&metrics.told).collect();
    page.family(
        "hapax_duplicates_total",
        "Duplicates, by what they were told.",
        "told",
        &told,
    );
    page.counter(
        "hapax_duplicates_from_cache_total",
        "Duplicates answered without asking the store.",
        &metrics.from_cache,
    );
    page.counter(
        "hapax_too_many_waiters_total",
        "Duplicates that could not wait because too many did.",
        &metrics.too_many_waiters,
    );
    page.counter("hapax_leases_renewed_total", "Heartbeats.", &metrics.renewed);
    page.counter(
        "hapax_leases_lost_total",
        "Runs that went on longer than max_run.",
        &metrics.lease_lost,
    );
    page.counter("hapax_panics_total", "Handlers that panicked.", &metrics.panicked);
    let failed: Vec<_> = STEPS.into_iter().zip(&metrics.store_failed).collect();
    page.family(
        "hapax_store_failures_total",
        "Steps of the store that failed.",
        "step",
        &failed,
    );
    metrics.work.render(&mut page);
    metrics.counted.render(&mut page);
    metrics.receipts.render(&mut page);
    metrics.outbox.render(&mut page);
    metrics.consume.render(&mut page);
    destinations.render(&mut page);
    let swept = [
        ("lapsed", &metrics.lapsed),
        ("stripped", &metrics.stripped),
        ("forgotten", &metrics.forgotten),
    ];
    page.family(
        "hapax_swept_total",
        "Records that the sweeper tended, by what it did.",
        "what",
        &swept,
    );
    page.gauge(
        "hapax_waiting",
        "Duplicates that wait for a run in progress.",
        now.waiting as f64,
    );
    page.gauge(
        "hapax_store_up",
        "1 if the store answers.",
        f64::from(u8::from(now.store_up)),
    );
    page.gauge(
        "hapax_clock_jump_seconds",
        "How far the wall clock is ahead of the store's time after a jump that nobody accepted; 0 if in step.",
        now.clock_jump_seconds,
    );
    page.gauge(
        "hapax_draining",
        "1 once a stop was asked for.",
        f64::from(u8::from(now.draining)),
    );
    page.0
}

/// A page of metrics in the making.
pub(super) struct Page(String);

// Writing into a `String` cannot fail.
impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.head(name, help, "counter");
        let _ = writeln!(self.0, "{name} {}", counter.get());
    }

    pub(super) fn family(&mut self, name: &str, help: &str, label: &str, counters: &[(&str, &Counter)]) {
        self.head(name, help, "counter");
        for (value, counter) in counters {
            let _ = writeln!(self.0, "{name}{{{label}=\"{value}\"}} {}", counter.get());
        }
    }

    /// Values of one metric, each with its labels. Names of routes are all that comes from the configuration.
    pub(super) fn labelled<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: &str,
        values: &[([(&str, &str); N], f64)],
    ) {
        self.head(name, help, kind);
        for (labels, value) in values {
            let shown = labels.map(|(label, text)| {
                let text = text.replace('\\', "\\\\").replace('"', "\\\"");
                format!("{label}=\"{text}\"")
            });
            let _ = writeln!(self.0, "{name}{{{}}} {value}", shown.join(","));
        }
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "{name} {value}");
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut total = 0;
        let ends = BUCKETS_US.iter().map(|us| (*us as f64 / 1e6).to_string());
        for (bucket, end) in histogram.buckets.iter().zip(ends.chain(["+Inf".to_owned()])) {
            total += bucket.load(Relaxed);
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{end}\"}} {total}");
        }
        let seconds = histogram.sum_us.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(self.0, "{name}_sum {seconds}\n{name}_count {total}");
    }
}
