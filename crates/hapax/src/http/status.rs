//! `GET /.hapax/operations/{key}`: what is known of an operation. Never runs anything.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::{Key, Name, Operation, Record, State, StateName, Summary, Timestamp};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use serde_json::{Map, Value, json};

use super::problem::{Details, Problem, whole_seconds};
use super::report::Verdict;
use super::service::Shared;
use super::{percent, reply};

pub(super) const PREFIX: &str = "/.hapax/operations/";

/// The key's path segment, if the request asks for the status of an operation.
pub(super) fn asked<'a>(method: &Method, path: &'a str) -> Option<&'a str> {
    let segment = path.strip_prefix(PREFIX)?;
    (*method == Method::GET || *method == Method::HEAD).then_some(segment)
}

/// The answer, with a body for `HEAD` too: the server leaves it out.
pub(super) async fn answer<B: From<Bytes>>(shared: &Shared, parts: &Parts) -> (Response<B>, Verdict) {
    let profile = shared.routes.profile();
    match found(shared, parts).await {
        Ok((now, record)) => (shown(shared, &record, now), Verdict::Status),
        Err(details) => reply::problem(details, profile),
    }
}

async fn found(shared: &Shared, parts: &Parts) -> Result<(Timestamp, Record), Details> {
    let scope = shared.scope.scope(parts).map_err(super::scope::ScopeError::details)?;
    let segment = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let key = percent::decode(segment)
        .and_then(|key| Key::new(key).ok())
        .ok_or_else(|| {
            let detail = "The path does not end in a key. Percent-encode the key as one path segment.";
            Details::new(Problem::KeyInvalid, detail)
        })?;
    let name = name(shared, parts.uri.query())?;
    let operation = Operation::new(scope, name, key);
    match shared.engine.store().read(operation.id()).await {
        Ok((now, Some(record))) => Ok((now, record)),
        Ok((_, None)) => Err(Details::new(
            Problem::OperationAbsent,
            "No operation with this key and name is known to this caller: it was never asked for, or is forgotten. \
             Check the key, and give the route's name as ?name= where routes are named.",
        )),
        Err(_) => Err(reply::store_down()),
    }
}

/// The name in the query, or the one for callers that give none.
fn name(shared: &Shared, query: Option<&str>) -> Result<Name, Details> {
    let given = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("name="));
    let name = match given {
        Some(text) => percent::decode(text).and_then(|name| Name::new(name).ok()),
        None => shared.routes.default_name().cloned(),
    };
    name.ok_or_else(|| {
        let detail = "Routes are named here. Say which route the key was used on: ?name=NAME, percent-encoded.";
        Details::new(Problem::OperationAbsent, detail)
    })
}

fn shown<B: From<Bytes>>(shared: &Shared, record: &Record, now: Timestamp) -> Response<B> {
    let summary = Summary::of(record, now);
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("key", summary.operation.key().as_str().into());
    put("name", summary.operation.name().as_str().into());
    put("state", summary.state.as_str().into());
    put("tries", summary.tries.into());
    put("created", summary.created.to_string().into());
    put("since", summary.since.to_string().into());
    let lapsed = record.lapsed(now);
    let needs_help = match lapsed.as_ref().map_or(&record.state, |lapsed| &lapsed.state) {
        State::Running { deadline, .. } => {
            put("deadline", deadline.to_string().into());
            false
        }
        State::Waiting { due } => {
            put("due", due.to_string().into());
            false
        }
        State::Unknown { cause, .. } => {
            put("cause", cause.as_str().into());
            !shared.routes.resolves(record.operation.name())
        }
        State::Done(_) => {
            put("done_at", summary.since.to_string().into());
            false
        }
        State::Dead { reason, .. } => {
            put("reason", reason.as_str().into());
            true
        }
    };
    put("needs_help", needs_help.into());
    if let Some(status) = summary.status {
        put("answer", json!({ "status": status }));
    }
    let mut response = Response::new(B::from(Value::Object(members).to_string().into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = ask_again(&summary, now) {
        headers.insert(RETRY_AFTER, whole_seconds(after).into());
    }
    response
}

/// When there may be news.
fn ask_again(summary: &Summary, now: Timestamp) -> Option<Duration> {
    match summary.state {
        StateName::Running => Some(Duration::from_secs(1)),
        StateName::Waiting => summary.until.map(|due| due.since(now)),
        StateName::Unknown | StateName::Done | StateName::Dead => None,
    }
}
