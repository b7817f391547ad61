//! `[quota]`: what one scope may take, so that one tenant does not fill the store or the waiters of another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Mistakes;
use super::source::Step::Key;

/// Limits of each scope; what is absent is not limited.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Quota {
    /// New operations a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) new_per_second: Option<f64>,
    /// Requests at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) in_flight: Option<u32>,
    /// Records in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<u64>,
}

impl Quota {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn check(quota: &Quota, mistakes: &mut Mistakes) {
    const HELP: &str = "leave it out for no limit";
    if let Some(rate) = quota.new_per_second
        // Written so that no number fails too.
        && !(rate > 0.0 && rate <= 1e9)
    {
        mistakes.add(
            &[Key("quota"), Key("new_per_second")],
            format!("quota.new_per_second is {rate}"),
            format!("write a number above 0, such as 100 (0.5 is one in two seconds), or {HELP}"),
        );
    }
    for (key, is_zero) in [
        ("in_flight", quota.in_flight == Some(0)),
        ("records", quota.records == Some(0)),
    ] {
        if is_zero {
            mistakes.add(
                &[Key("quota"), Key(key)],
                format!("quota.{key} is 0: nothing could ever run"),
                format!("write at least 1, or {HELP}"),
            );
        }
    }
}
