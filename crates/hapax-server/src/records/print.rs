//! How records look.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hapax::core::{Answer, LastError, Outcome, Record, State, StateName, Summary, Timestamp};
use serde_json::{Value, json};

/// A key as a shell takes it for one word.
pub(crate) fn word(key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@%+=,".contains(&byte);
    if !key.is_empty() && key.bytes().all(is_plain) {
        return key.to_owned();
    }
    format!("'{}'", key.replace('\'', r"'\''"))
}

/// A listing, written as it comes.
pub(crate) struct Table {
    json: bool,
    begun: bool,
}

impl Table {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, begun: false }
    }

    pub(crate) fn row(&mut self, out: &mut impl Write, summary: &Summary) -> io::Result<()> {
        let operation = &summary.operation;
        if self.json {
            return writeln!(out, "{}", brief(summary));
        }
        if !self.begun {
            self.begun = true;
            writeln!(
                out,
                "{:<8} {:<6} {:<24} {:<16} {:<40} KEY  NOTE",
                "STATE", "STATUS", "SINCE", "NAME", "SCOPE"
            )?;
        }
        let status = summary
            .status
            .map_or_else(|| "-".to_owned(), |status| status.to_string());
        writeln!(
            out,
            "{:<8} {:<6} {:<24} {:<16} {:<40} {}{}",
            summary.state.as_str(),
            status,
            summary.since.to_string(),
            operation.name().as_str(),
            operation.scope().as_str(),
            operation.key(),
            note(summary)
        )
    }
}

/// What else a line of a listing tells: when it is due, or why it is as it is.
fn note(summary: &Summary) -> String {
    let mut note = String::new();
    if let (StateName::Waiting, Some(due)) = (summary.state, summary.until) {
        note = format!("  due {due}");
    }
    if let Some(reason) = summary.dead {
        note = format!("  {reason}");
    }
    if let Some(error) = &summary.last_error {
        note.push_str(if note.is_empty() { "  " } else { ": " });
        note.push_str(error.as_str());
    }
    note
}

/// A summary as JSON.
pub(crate) fn brief(summary: &Summary) -> Value {
    let operation = &summary.operation;
    let until = summary.until.map(|until| until.to_string());
    json!({
        "operation": operation.id().to_string(),
        "scope": operation.scope().as_str(),
        "name": operation.name().as_str(),
        "key": operation.key().as_str(),
        "state": summary.state.as_str(),
        "status": summary.status,
        "fence": summary.fence.get(),
        "tries": summary.tries,
        "created": summary.created.to_string(),
        "since": summary.since.to_string(),
        "due": until.as_ref().filter(|_| summary.state == StateName::Waiting),
        "until": until,
        "reason": summary.dead.map(|reason| reason.as_str()),
        "last_error": summary.last_error.as_ref().map(LastError::as_str),
        "input_stored": summary.has_input,
        "redriven": summary.redriven.map(|at| at.to_string()),
    })
}

/// A record as JSON. The answer's headers and body only if `body`.
pub(crate) fn record(record: &Record, now: Timestamp, body: bool) -> Value {
    let record = record.lapsed(now).unwrap_or_else(|| record.clone());
    let operation = &record.operation;
    let mut value = json!({
        "operation": operation.id().to_string(),
        "scope": operation.scope().as_str(),
        "name": operation.name().as_str(),
        "key": operation.key().as_str(),
        "state": record.state.name().as_str(),
        "fence": record.fence.get(),
        "tries": record.tries,
        "crashes": record.crashes,
        "last_error": record.last_error.as_ref().map(LastError::as_str),
        "input_bytes": record.input.as_ref().map(|input| input.0.len()),
        "redriven": record.redriven.map(|at| at.to_string()),
        "created": record.created.to_string(),
        "since": record.since.to_string(),
        "now": now.to_string(),
        "forget_at": record.forget_at().map(|at| at.to_string()),
    });
    let more = match &record.state {
        State::Running {
            deadline,
            run_until,
            after_failure,
            starter,
        } => json!({
            "deadline": deadline.to_string(),
            "run_until": run_until.to_string(),
            "after_failure": after_failure.as_str(),
            "started_by": starter.as_str(),
        }),
        State::Waiting { due } => json!({ "due": due.to_string() }),
        State::Unknown { cause, answer } => json!({ "cause": cause.as_str(), "answer": optional(answer, body) }),
        State::Done(Outcome::Answer(answer)) => json!({
            "answer": describe(answer, body),
            "answer_until": record.answer_until().to_string(),
        }),
        State::Done(Outcome::NotKept(why)) => json!({ "answer": null, "not_kept": why.as_str() }),
        State::Dead { reason, answer } => json!({ "reason": reason.as_str(), "answer": optional(answer, body) }),
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn optional(answer: &Option<Answer>, body: bool) -> Value {
    answer.as_ref().map_or(Value::Null, |answer| describe(answer, body))
}

fn describe(answer: &Answer, body: bool) -> Value {
    let mut value = json!({ "status": answer.status, "body_bytes": answer.body.len() });
    if body {
        let headers: Vec<Value> = answer
            .headers
            .iter()
            .map(|(name, value)| json!([name, String::from_utf8_lossy(value)]))
            .collect();
        value["headers"] = headers.into();
        match std::str::from_utf8(&answer.body) {
            Ok(text) => value["body"] = text.into(),
            Err(_) => value["body_base64"] = STANDARD.encode(&answer.body).into(),
        }
    }
    value
}

/// A record for people: one value a line.
pub(crate) fn plain(out: &mut impl Write, shown: &Record, now: Timestamp, body: bool) -> io::Result<()> {
    let value = record(shown, now, body);
    let Value::Object(fields) = &value else { return Ok(()) };
    let order = ["key", "name", "scope", "state"];
    let rest = fields.keys().map(String::as_str).filter(|name| !order.contains(name));
    let mut last = None;
    for name in order.into_iter().chain(rest) {
        match &fields[name] {
            Value::Null => {}
            Value::String(text) => writeln!(out, "{name:<18} {text}")?,
            Value::Object(answer) => {
                for (part, value) in answer.iter().filter(|(part, _)| *part != "body") {
                    writeln!(out, "{:<18} {value}", format!("{name}.{part}"))?;
                }
                last = answer.get("body").and_then(Value::as_str);
            }
            other => writeln!(out, "{name:<18} {other}")?,
        }
    }
    match last {
        Some(body) => writeln!(out, "\n{body}"),
        None => Ok(()),
    }
}
