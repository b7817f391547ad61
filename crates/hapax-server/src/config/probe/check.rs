//! Probes whose parts contradict each other.

use http::{HeaderName, HeaderValue, Method};

use super::{Probe, ProbeAnswer};
use crate::config::Config;
use crate::config::check::{Mistakes, positive};
use crate::config::source::Step::{self, Index, Key};

/// Finds probes that can never answer, or would answer both.
pub(in crate::config) fn check(config: &Config, mistakes: &mut Mistakes) {
    if let Some(probe) = &config.probe {
        Check {
            at: vec![Key("probe")],
            probe,
            mistakes,
        }
        .run(config);
    }
    for (index, route) in config.routes.iter().enumerate() {
        if let Some(probe) = &route.probe {
            let at = vec![Key("route"), Index(index), Key("probe")];
            Check { at, probe, mistakes }.run(config);
        }
    }
}

struct Check<'a> {
    at: Vec<Step>,
    probe: &'a Probe,
    mistakes: &'a mut Mistakes,
}

impl Check<'_> {
    fn add(&mut self, key: &'static str, problem: impl Into<String>, help: impl Into<String>) {
        let path = [self.at.as_slice(), &[Key(key)]].concat();
        self.mistakes.add(&path, problem, help);
    }

    fn run(mut self, config: &Config) {
        let path = [self.at.as_slice(), &[Key("timeout")]].concat();
        positive(&path, "timeout", self.probe.timeout, self.mistakes);
        self.statuses();
        self.values();
        self.headers();
        if !config.runner.enabled {
            let problem = "there is a probe, but the runner is not enabled: nobody would ask";
            self.add(
                "request",
                problem,
                "write enabled = true under [runner], or remove the probe",
            );
        }
        if self.probe.request.method == Method::HEAD && self.probe.answer == ProbeAnswer::Probe {
            let problem = "answer = \"probe\" keeps what the probe was answered, and HEAD is answered without a body";
            self.add("answer", problem, "write GET, or leave answer out");
        }
    }

    fn statuses(&mut self) {
        let probe = self.probe;
        if probe.found.is_empty() {
            let problem = "found has no statuses: the probe could never say that it happened";
            self.add("found", problem, "write found = [200]");
        }
        if let Some(status) = probe.found.iter().find(|status| probe.not_found.contains(status)) {
            let problem = format!("{} is in found and in not_found: what does it say?", status.0.as_u16());
            self.add("not_found", problem, "keep it in one of them");
        }
    }

    fn values(&mut self) {
        let probe = self.probe;
        if probe.pointer.is_none() {
            for (key, values) in [
                ("found_values", &probe.found_values),
                ("not_found_values", &probe.not_found_values),
            ] {
                if !values.is_empty() {
                    let problem = format!("{key} is given without pointer: where are they?");
                    self.add(key, problem, "write pointer = \"/status\" beside it");
                }
            }
            return;
        }
        if probe.found_values.is_empty() {
            let problem = "there is a pointer, but found_values is empty: the probe could never say that it happened";
            self.add(
                "pointer",
                problem,
                "write found_values = [\"paid\"] with the values that say so",
            );
        }
        if let Some(value) = probe
            .found_values
            .iter()
            .find(|value| probe.not_found_values.contains(value))
        {
            let shown = serde_json::to_string(value).unwrap_or_default();
            let problem = format!("{shown} is in found_values and in not_found_values: what does it say?");
            self.add("not_found_values", problem, "keep it in one of them");
        }
        if probe.request.method == Method::HEAD {
            let problem = "pointer looks into a body, and HEAD is answered without one";
            self.add("pointer", problem, "write GET in request, or leave pointer out");
        }
    }

    fn headers(&mut self) {
        for (name, value) in &self.probe.headers {
            let problem = match name.parse::<HeaderName>() {
                Err(_) => format!("{name:?} is no header name"),
                Ok(name) if is_ours(&name) => format!("the header {name} is hapax's own to send"),
                Ok(_) if HeaderValue::from_str(value).is_err() => format!("the value of {name} is no header value"),
                Ok(_) => continue,
            };
            self.add(
                "headers",
                problem,
                "write headers = { Authorization = \"Bearer TOKEN\" }",
            );
        }
    }
}

/// What the transport decides: which connection, which message, which operation.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "connection" | "content-length" | "transfer-encoding" | "idempotency-key" | "te" | "upgrade"
    ) || name.starts_with("hapax-")
}
