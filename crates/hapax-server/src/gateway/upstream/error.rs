//! What a failure to get an answer proves.

use crate::gateway::body::BodyError;

/// Any error with its cause.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer, and whether the request may have had an effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// Proven: not a byte of the request was handed to the system. It had no effect; sending it
    /// again is safe.
    #[error("upstream: {cause}, nothing was sent: {source}")]
    Unsent { cause: UnsentCause, source: BoxError },
    /// Some of the request may have reached the upstream. It may have had its effect.
    #[error("upstream: {cause}, the request may have been carried out: {source}")]
    Ambiguous { cause: AmbiguousCause, source: BoxError },
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsentCause {
    #[error("its name could not be resolved")]
    Dns,
    #[error("it could not be connected to")]
    Connect,
    #[error("connecting took too long (connect_timeout)")]
    ConnectTimeout,
    #[error("TLS failed")]
    Tls,
    #[error("the connection closed before the request was written")]
    Closed,
    #[error("the request's body failed before the request was written")]
    RequestBody,
    #[error("the request could not be written in time (response_timeout)")]
    Timeout,
}

/// What happened after something may have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AmbiguousCause {
    /// No head of an answer within `response_timeout`.
    #[error("no answer in time (response_timeout)")]
    Timeout,
    /// The connection was closed or reset.
    #[error("the connection was closed before the answer")]
    Reset,
    /// What came is not an HTTP/1.1 answer, or one with ambiguous framing.
    #[error("the answer is not valid HTTP")]
    InvalidAnswer,
    /// The client's body failed under way ([`UpstreamError::body_error`]).
    #[error("the request's body failed half-way")]
    RequestBody,
}

impl UpstreamError {
    /// The failure of the client's body, if that was it: the upstream is not to blame.
    pub(crate) fn body_error(&self) -> Option<&BodyError> {
        let (Self::Unsent { source, .. } | Self::Ambiguous { source, .. }) = self;
        source.downcast_ref()
    }

    pub(super) fn unsent(cause: UnsentCause, source: impl Into<BoxError>) -> Self {
        UpstreamError::Unsent {
            cause,
            source: source.into(),
        }
    }

    pub(super) fn ambiguous(cause: AmbiguousCause, source: impl Into<BoxError>) -> Self {
        UpstreamError::Ambiguous {
            cause,
            source: source.into(),
        }
    }
}
