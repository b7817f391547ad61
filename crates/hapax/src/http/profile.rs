//! How answers look on the wire: the IETF draft's way, or as Stripe's clients expect them.

use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::problem::Problem;

/// The dialect that a route's clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// draft-ietf-httpapi-idempotency-key-header with RFC 9457 problems.
    #[default]
    Ietf,
    /// As Stripe's API answers: a mismatch is a 400 `idempotency_error`, `Stripe-Should-Retry` says whether to retry,
    /// and an unknown outcome is told by the original answer.
    Stripe,
}

impl Profile {
    /// The name in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ietf => "ietf",
            Self::Stripe => "stripe",
        }
    }

    /// The profile of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Ietf, Self::Stripe]
            .into_iter()
            .find(|profile| profile.as_str() == name)
    }

    pub(super) fn status(self, problem: Problem) -> StatusCode {
        match (self, problem) {
            // Stripe's clients raise their idempotency error for no other status.
            (Self::Stripe, Problem::KeyReused) => StatusCode::BAD_REQUEST,
            _ => problem.status(),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Ietf => "application/problem+json",
            Self::Stripe => "application/json",
        }
    }

    /// Adds what the profile's clients look for.
    pub(super) fn dress(self, problem: Problem, members: &mut Map<String, Value>) {
        if self == Self::Ietf {
            return;
        }
        let kind = match problem {
            Problem::KeyReused => "idempotency_error",
            problem if problem.status().is_server_error() => "api_error",
            _ => "invalid_request_error",
        };
        let code = match problem {
            Problem::InProgress => "idempotency_key_in_use".to_owned(),
            problem => problem.name().replace('-', "_"),
        };
        let message = members.get("detail").cloned().unwrap_or_default();
        members.insert(
            "error".into(),
            json!({ "type": kind, "code": code, "message": message }),
        );
    }

    /// The value of `Stripe-Should-Retry`, where the profile has it.
    pub(super) fn should_retry(self, retry: bool) -> Option<HeaderValue> {
        (self == Self::Stripe).then(|| HeaderValue::from_static(if retry { "true" } else { "false" }))
    }
}
