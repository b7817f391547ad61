//! One line and a few counters for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use hapax::http::{Problem, Report, Verdict};
use hapax::store::Clock;
use http::{Method, Uri};

use super::log::Sink;
use super::prometheus::Page;
use super::{Counter, Histogram};
use crate::config::{Level, Log, LogFormat};

/// Verdicts that are no problem. `passed` is a request that the door let through without a look.
const VERDICTS: [&str; 13] = [
    "passed",
    "done",
    "released",
    "ambiguous",
    "replayed",
    "repeated",
    "unprotected",
    "status",
    "accepted",
    "breaker-open",
    "quota.new_per_second",
    "quota.in_flight",
    "quota.records",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted of requests.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    verdicts: [Counter; VERDICTS.len()],
    /// In the order of [`Problem::ALL`].
    problems: Box<[Counter]>,
    classes: [Counter; CLASSES.len()],
    time: Histogram,
    in_flight: AtomicI64,
    pub(crate) upstream_unsent: Counter,
    pub(crate) upstream_timed_out: Counter,
    pub(crate) upstream_broke: Counter,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            verdicts: Default::default(),
            problems: Problem::ALL.iter().map(|_| Counter::default()).collect(),
            classes: Default::default(),
            time: Histogram::default(),
            in_flight: AtomicI64::new(0),
            upstream_unsent: Counter::default(),
            upstream_timed_out: Counter::default(),
            upstream_broke: Counter::default(),
        }
    }
}

impl HttpMetrics {
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(crate) fn answered(&self, verdict: Option<Verdict>, status: u16, took: Duration) {
        match verdict {
            Some(Verdict::Refused(problem)) => {
                if let Some(index) = Problem::ALL.iter().position(|known| *known == problem) {
                    self.problems[index].add(1);
                }
            }
            verdict => {
                let word = verdict.map_or("passed", Verdict::as_str);
                if let Some(index) = VERDICTS.iter().position(|known| *known == word) {
                    self.verdicts[index].add(1);
                }
            }
        }
        if let Some(class) = self.classes.get(usize::from(status / 100).wrapping_sub(1)) {
            class.add(1);
        }
        self.time.record(took);
    }

    pub(super) fn render(&self, page: &mut Page) {
        let words = VERDICTS
            .into_iter()
            .chain(Problem::ALL.iter().map(|problem| problem.name()));
        let counters = self.verdicts.iter().chain(&self.problems);
        let verdicts: Vec<_> = words.zip(counters).collect();
        page.family(
            "hapax_requests_total",
            "Requests answered, by what became of them.",
            "verdict",
            &verdicts,
        );
        let classes: Vec<_> = CLASSES.into_iter().zip(&self.classes).collect();
        page.family(
            "hapax_responses_total",
            "Requests answered, by the class of the status.",
            "class",
            &classes,
        );
        page.histogram(
            "hapax_request_seconds",
            "From a request's head to the head of its answer.",
            &self.time,
        );
        page.gauge(
            "hapax_requests_in_flight",
            "Requests whose answer has not begun.",
            self.in_flight.load(Relaxed) as f64,
        );
        let upstream = [
            ("unsent", &self.upstream_unsent),
            ("timeout", &self.upstream_timed_out),
            ("reset", &self.upstream_broke),
        ];
        page.family(
            "hapax_upstream_failures_total",
            "Tries that the backend did not answer, by what that proves: unsent had no effect, the others may have.",
            "proof",
            &upstream,
        );
    }
}

/// What is remembered of a request for its line.
#[derive(Debug)]
pub(crate) struct Asked {
    method: Method,
    /// Its query is not written.
    uri: Uri,
}

/// Writes access lines, if they are wanted.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    sink: Sink,
    format: LogFormat,
    clock: Clock,
}

impl AccessLog {
    pub(crate) fn new(config: &Log, sink: Sink) -> Self {
        let wanted = matches!(config.level, Level::Info | Level::Debug | Level::Trace);
        Self(wanted.then(|| {
            Arc::new(Inner {
                sink,
                format: config.format,
                clock: Clock::default(),
            })
        }))
    }

    /// What a line needs of a request; `None` if no line is wanted.
    pub(crate) fn asked(&self, method: &Method, uri: &Uri) -> Option<Asked> {
        self.0.as_ref().map(|_| Asked {
            method: method.clone(),
            uri: uri.clone(),
        })
    }

    pub(crate) fn write(&self, asked: &Asked, report: Option<&Report>, status: u16, took: Duration) {
        let Some(inner) = &self.0 else { return };
        let line = Line {
            time: inner.clock.reading().0.to_string(),
            method: asked.method.as_str(),
            route: report
                .and_then(|report| report.route.as_ref())
                .map_or("-", |name| name.as_str()),
            path: shown(asked.uri.path()),
            status,
            verdict: report.map_or("passed", |report| report.verdict.as_str()),
            operation: report.and_then(|report| report.operation).map(|id| id.to_string()),
            ms: took.as_secs_f64() * 1e3,
            waited_ms: report.map_or(Duration::ZERO, |report| report.waited).as_secs_f64() * 1e3,
        };
        inner.sink.put(line.render(inner.format).as_bytes());
    }
}

/// The path as it may be written: a question about an operation has its key in it.
fn shown(path: &str) -> &str {
    match path.starts_with("/.hapax/operations/") {
        true => "/.hapax/operations/{key}",
        false => path,
    }
}

struct Line<'a> {
    time: String,
    method: &'a str,
    route: &'a str,
    path: &'a str,
    status: u16,
    verdict: &'a str,
    operation: Option<String>,
    ms: f64,
    waited_ms: f64,
}

impl Line<'_> {
    fn render(&self, format: LogFormat) -> String {
        match format {
            LogFormat::Text => format!(
                "{}  INFO request method={} route={} path={} status={} verdict={} operation={} ms={:.3} waited_ms={:.3}\n",
                self.time,
                self.method,
                self.route,
                self.path,
                self.status,
                self.verdict,
                self.operation.as_deref().unwrap_or("-"),
                self.ms,
                self.waited_ms,
            ),
            LogFormat::Json => {
                let line = serde_json::json!({
                    "timestamp": self.time,
                    "level": "INFO",
                    "message": "request",
                    "method": self.method,
                    "route": self.route,
                    "path": self.path,
                    "status": self.status,
                    "verdict": self.verdict,
                    "operation": self.operation,
                    "ms": self.ms,
                    "waited_ms": self.waited_ms,
                });
                format!("{line}\n")
            }
        }
    }
}
