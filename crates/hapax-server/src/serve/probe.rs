//! A resolver that asks the backend whether an unknown request had its effect.
//!
//! It asks by the same client as any request, so with the same TLS and the same time-outs; not while the breaker is
//! open. It never sees or logs a key: what it saw is told by the request as it is configured.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax::core::{Answer, BoxFuture, NotKept, Outcome, Record};
use hapax::retry::Destination;
use hapax::{Found, ResolveError, Resolver};
use http::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::time::timeout;

use crate::config::probe::{Placeholder, Probe as Config, ProbeAnswer};
use crate::config::values::Pointer;
use crate::gateway::body::Body;
use crate::gateway::upstream::{AnswerBody, Upstream};

/// More of an answer is not read.
const MOST_BYTES: usize = 1 << 20;
/// Longer texts of the backend are not repeated in the audit.
const SHOWN: usize = 32;

/// The probe of a route.
pub(super) struct Probe {
    upstream: Upstream,
    destination: Destination,
    config: Config,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Found,
    NotFound,
    Neither,
}

impl Probe {
    pub(super) fn resolver(config: &Config, upstream: Upstream, destination: Destination) -> Arc<dyn Resolver> {
        // Checked when they were read.
        let headers = config
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?)));
        Arc::new(Self {
            upstream,
            destination,
            headers: headers.collect(),
            config: config.clone(),
        })
    }

    fn request(&self, record: &Record) -> Result<Request<Body>, ResolveError> {
        let operation = &record.operation;
        let path = self.config.request.path(|place| match place {
            Placeholder::Key => operation.key().as_str().to_owned(),
            Placeholder::Name => operation.name().as_str().to_owned(),
            Placeholder::Operation => operation.id().to_string(),
        });
        let mut request = Request::builder()
            .method(self.config.request.method.clone())
            .uri(path)
            .body(Body::Empty)
            .map_err(|error| ResolveError::new("the probe's path makes no sense with this key").caused_by(error))?;
        request.headers_mut().extend(self.headers.iter().cloned());
        Ok(request)
    }

    async fn ask(&self, record: &Record) -> Result<Found, ResolveError> {
        if let Some(open_for) = self.destination.open_for() {
            let text = format!("not asked: the breaker leaves the backend alone for {open_for:.1?}");
            return Err(ResolveError::new(text));
        }
        let answer = self
            .upstream
            .send(self.request(record)?)
            .await
            .map_err(|error| ResolveError::new("the backend did not answer").caused_by(error))?;
        let (parts, body) = answer.into_parts();
        let body = match self.config.pointer.is_some() || self.config.answer == ProbeAnswer::Probe {
            true => read(body).await?,
            false => None,
        };
        let (says, saw) = self.judge(&Response::from_parts(parts.clone(), ()), body.as_ref());
        let saw = format!("{} answered {saw}", self.config.request);
        Ok(match says {
            Says::Found => {
                let outcome = match self.config.answer {
                    ProbeAnswer::Probe => kept(&parts, body),
                    ProbeAnswer::None => Outcome::NotKept(NotKept::Discarded),
                };
                Found::Done { outcome, saw }
            }
            Says::NotFound => Found::NotFound { saw },
            Says::Neither => Found::CannotSay { saw },
        })
    }

    /// What an answer says, and what was seen. A body that is larger than what is read is `None`.
    fn judge(&self, answer: &Response<()>, body: Option<&Bytes>) -> (Says, String) {
        let status = answer.status();
        let is_in = |list: &[crate::config::values::Status]| list.iter().any(|listed| listed.0 == status);
        let saw = format!("status {}", status.as_u16());
        if is_in(&self.config.not_found) {
            return (Says::NotFound, saw);
        }
        if !is_in(&self.config.found) {
            return (Says::Neither, format!("{saw}, which is in neither list"));
        }
        let Some(pointer) = &self.config.pointer else {
            return (Says::Found, saw);
        };
        let (says, value) = self.judge_body(pointer, body);
        (says, format!("{saw}, {value}"))
    }

    fn judge_body(&self, pointer: &Pointer, body: Option<&Bytes>) -> (Says, String) {
        let neither = |text: String| (Says::Neither, text);
        let Some(body) = body else {
            return neither(format!("a body of more than {MOST_BYTES} bytes"));
        };
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return neither(format!("a body of {} bytes that is no JSON", body.len()));
        };
        let Some(value) = json.pointer(&pointer.0) else {
            return neither(format!("a body with nothing at {pointer}"));
        };
        let saw = format!("{pointer} is {}", shown(value));
        let is_in = |list: &[crate::config::probe::Scalar]| list.iter().any(|listed| listed.is(value));
        if is_in(&self.config.found_values) {
            (Says::Found, saw)
        } else if is_in(&self.config.not_found_values) {
            (Says::NotFound, saw)
        } else {
            neither(format!("{saw}, which is in neither list"))
        }
    }
}

impl Resolver for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn resolve<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
        let limit: Duration = self.config.timeout.0;
        Box::pin(async move {
            match timeout(limit, self.ask(record)).await {
                Ok(found) => found,
                Err(_) => Err(ResolveError::new(format!(
                    "the backend did not answer within {limit:?}"
                ))),
            }
        })
    }
}

/// The body; `None` if it is larger than what is read.
async fn read(body: AnswerBody) -> Result<Option<Bytes>, ResolveError> {
    match Limited::new(body, MOST_BYTES).collect().await {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Ok(None),
        Err(error) => Err(ResolveError::new("the backend's answer broke off").caused_by(error)),
    }
}

/// The probe's answer as the operation's. Nothing in it depends on who asked.
fn kept(parts: &http::response::Parts, body: Option<Bytes>) -> Outcome {
    let Some(body) = body else {
        return Outcome::NotKept(NotKept::TooLarge);
    };
    let headers = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE]
        .into_iter()
        .filter_map(|name| {
            let value = parts.headers.get(&name)?;
            Some((Box::from(name.as_str()), Bytes::copy_from_slice(value.as_bytes())))
        })
        .collect();
    Outcome::Answer(Answer {
        status: parts.status.as_u16(),
        headers,
        body,
    })
}

/// A short scalar as it is; of anything else, what it is.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > SHOWN => format!("a text of {} bytes", text.len()),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests;
