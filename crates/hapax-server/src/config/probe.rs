//! `[probe]` and `[route.probe]`: how the backend is asked whether a request had its effect.

mod check;
mod target;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Period, Pointer, Status};
pub(super) use check::check;
pub(crate) use target::{Placeholder, ProbeRequest};

/// A question to the backend that changes nothing, and how its answer is read. What is neither found nor not found is
/// no answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    /// Method and path, such as `GET /orders/by-key/{key}`. `{key}`, `{name}` and `{operation}` are filled in.
    pub(crate) request: ProbeRequest,
    /// Headers to send, such as an Authorization of the gateway's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    /// Statuses that say that it happened; with a pointer, that the body is worth reading.
    #[serde(default = "ok")]
    pub(crate) found: Vec<Status>,
    /// Statuses that say that it did not happen. None if absent: a wrong path answers 404 too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_found: Vec<Status>,
    /// Where in a JSON body to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<Pointer>,
    /// Values there that say that it happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) found_values: Vec<Scalar>,
    /// Values there that say that it did not happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_found_values: Vec<Scalar>,
    /// How long the whole question may take.
    #[serde(default = "five_seconds")]
    pub(crate) timeout: Period,
    /// What duplicates are told once it is found.
    #[serde(default)]
    pub(crate) answer: ProbeAnswer,
}

/// What duplicates of a found operation are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProbeAnswer {
    /// That it is done, and that its answer was not kept.
    #[default]
    None,
    /// What the probe was answered.
    Probe,
}

/// A value in a JSON body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a value to compare with is no text, whole number, true or false; write one of these"
)]
pub(crate) enum Scalar {
    /// A text.
    Text(String),
    /// true or false.
    Flag(bool),
    /// A whole number.
    Number(i64),
}

fn ok() -> Vec<Status> {
    vec![Status(http::StatusCode::OK)]
}

fn five_seconds() -> Period {
    Period::seconds(5)
}

impl Scalar {
    /// Whether a JSON value is this one.
    pub(crate) fn is(&self, value: &serde_json::Value) -> bool {
        match self {
            Self::Text(text) => value.as_str() == Some(text),
            Self::Flag(flag) => value.as_bool() == Some(*flag),
            Self::Number(number) => value.as_i64() == Some(*number),
        }
    }
}
