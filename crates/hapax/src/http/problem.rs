//! What the door itself answers when it does not pass on somebody else's answer: RFC 9457 problems, one page of
//! documentation each (`docs/problems/<name>.md`).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

use super::profile::Profile;

macro_rules! problems {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $status:ident, $title:literal;)+) => {
        /// Every problem that hapax answers with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Problem {
            $($(#[$doc])* $variant),+
        }

        impl Problem {
            /// Every problem.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name: the end of its `type`, and the name of its page.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The status that goes with it.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// A short text, the same every time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

problems! {
    /// The route requires a key.
    KeyMissing => "key-missing", BAD_REQUEST, "Idempotency key missing";
    /// There is no telling which key is meant.
    KeyInvalid => "key-invalid", BAD_REQUEST, "Idempotency key invalid";
    /// The key was used for another request.
    KeyReused => "key-reused", UNPROCESSABLE_ENTITY, "Idempotency key reused";
    /// The operation runs.
    InProgress => "in-progress", CONFLICT, "Operation in progress";
    /// It is done, but its answer is not there.
    AnswerNotKept => "answer-not-kept", CONFLICT, "Done, answer not kept";
    /// It is not done and not due.
    RetryLater => "retry-later", SERVICE_UNAVAILABLE, "Not due yet";
    /// It may have happened.
    OutcomeUnknown => "outcome-unknown", CONFLICT, "Outcome unknown";
    /// No retry will be made any more.
    DeadLetter => "dead-letter", INTERNAL_SERVER_ERROR, "Failed for good";
    /// Nobody has ever asked for the operation, or it is forgotten.
    OperationAbsent => "operation-absent", NOT_FOUND, "No such operation";
    /// It cannot be said whose request it is.
    ScopeMissing => "scope-missing", UNAUTHORIZED, "Scope missing";
    /// What says whose request it is changes from retry to retry.
    ScopeUnstable => "scope-unstable", UNAUTHORIZED, "Scope not stable";
    /// The store cannot be reached.
    StoreUnavailable => "store-unavailable", SERVICE_UNAVAILABLE, "Store unavailable";
    /// Nothing could be sent to the upstream.
    UpstreamUnavailable => "upstream-unavailable", SERVICE_UNAVAILABLE, "Upstream unavailable";
    /// The upstream did not answer in time.
    UpstreamTimeout => "upstream-timeout", GATEWAY_TIMEOUT, "Upstream timed out";
    /// The upstream ended without a whole answer.
    UpstreamReset => "upstream-reset", BAD_GATEWAY, "Upstream gave no answer";
    /// The request's body is larger than the route's limit.
    BodyTooLarge => "body-too-large", PAYLOAD_TOO_LARGE, "Request body too large";
    /// The request's body ended early.
    BodyIncomplete => "body-incomplete", BAD_REQUEST, "Request body incomplete";
    /// The request can be read in two ways.
    RequestAmbiguous => "request-ambiguous", BAD_REQUEST, "Ambiguous request";
    /// The request's head is larger than the limit.
    RequestHeadTooLarge => "request-head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "Request head too large";
    /// The request came too slowly.
    RequestTimeout => "request-timeout", REQUEST_TIMEOUT, "Request timed out";
    /// The server does as much at a time as it may.
    Overloaded => "overloaded", SERVICE_UNAVAILABLE, "Overloaded";
    /// More requests of one caller than the limit.
    TooManyRequests => "too-many-requests", TOO_MANY_REQUESTS, "Too many requests";
}

impl Problem {
    /// The whole `type`.
    #[must_use]
    pub fn urn(self) -> String {
        format!("urn:hapax:problem:{}", self.name())
    }

    /// Whether the same request may do better after a pause.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(
            self,
            Self::InProgress
                | Self::RetryLater
                | Self::StoreUnavailable
                | Self::UpstreamUnavailable
                | Self::RequestTimeout
                | Self::Overloaded
                | Self::TooManyRequests
                | Self::BodyIncomplete
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A problem with what is known of the case at hand.
#[derive(Debug, Clone)]
pub struct Details {
    problem: Problem,
    detail: String,
    retry_after: Option<Duration>,
    members: Map<String, Value>,
}

impl Details {
    /// A problem; `detail` says what to do next.
    #[must_use]
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self {
            problem,
            detail: detail.into(),
            retry_after: None,
            members: Map::new(),
        }
    }

    /// When to try again: a `Retry-After` header in whole seconds, rounded up, at least 1; and `retry_after`.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A member of the problem beyond the standard ones.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Which problem it is.
    #[must_use]
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The answer, as clients of the profile expect it.
    pub fn response<B: From<Bytes>>(self, profile: Profile) -> Response<B> {
        let Self {
            problem,
            detail,
            retry_after,
            mut members,
        } = self;
        let status = profile.status(problem);
        let seconds = retry_after.map(whole_seconds);
        members.insert("type".into(), problem.urn().into());
        members.insert("title".into(), problem.title().into());
        members.insert("status".into(), status.as_u16().into());
        members.insert("detail".into(), detail.into());
        if let Some(seconds) = seconds {
            members.insert("retry_after".into(), seconds.into());
        }
        profile.dress(problem, &mut members);
        let mut response = Response::new(B::from(Value::Object(members).to_string().into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(profile.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 demands a challenge.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(value) = profile.should_retry(problem.may_pass()) {
            headers.insert(STRIPE_SHOULD_RETRY, value);
        }
        response
    }
}

pub(super) const STRIPE_SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");

/// Whole seconds for a `Retry-After`: rounded up, at least 1.
#[must_use]
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).clamp(1, u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests;
