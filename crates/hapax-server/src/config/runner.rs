//! `[runner]`: who runs what was accepted with respond-async, and looks into unknown outcomes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Mistakes;
use super::source::Step::{Index, Key};
use super::values::Period;
use super::{Config, check};

/// The runner of this process. Several processes on one store share the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Runner {
    /// Whether this process takes work.
    pub(crate) enabled: bool,
    /// Operations that it runs at a time.
    pub(crate) concurrency: u32,
    /// The longest pause between two looks for work that other processes left.
    pub(crate) poll: Period,
}

impl Default for Runner {
    fn default() -> Self {
        let defaults = hapax::RunnerOptions::default();
        Self {
            enabled: true,
            concurrency: u32::try_from(defaults.concurrency).unwrap_or(u32::MAX),
            poll: Period(defaults.poll),
        }
    }
}

const MOST: u32 = 10_000;

pub(super) fn check(config: &Config, mistakes: &mut Mistakes) {
    let runner = &config.runner;
    if !(1..=MOST).contains(&runner.concurrency) {
        mistakes.add(
            &[Key("runner"), Key("concurrency")],
            format!("runner.concurrency is {}", runner.concurrency),
            format!("write 1 to {MOST}, or enabled = false for none"),
        );
    }
    check::positive(&[Key("runner"), Key("poll")], "runner.poll", runner.poll, mistakes);
    if runner.enabled {
        return;
    }
    let nobody = "the runner is not enabled: nobody would run them";
    let help = "write enabled = true under [runner], or leave respond_async out";
    if config.respond_async {
        let problem = format!("requests are accepted with respond_async, but {nobody}");
        mistakes.add(&[Key("respond_async")], problem, help);
    }
    for (index, route) in config.routes.iter().enumerate() {
        if route.respond_async == Some(true) {
            mistakes.add(
                &[Key("route"), Index(index), Key("respond_async")],
                format!(
                    "requests of the route {:?} are accepted with respond_async, but {nobody}",
                    route.name.to_string()
                ),
                help,
            );
        }
    }
}
