//! `hapax records resolve`: a person says what became of an operation whose outcome nobody knew.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hapax::core::{
    Amend, Amended, Amendment, Answer, NotKept, Outcome, Record, Resolution, State, StateName, Timestamp,
};
use http::HeaderValue;

use super::print;
use super::which::Which;
use crate::audit::Why;
use crate::cli::StoreArg;
use crate::config::values::Period;
use crate::exit::{Exit, Failure};
use crate::store;

#[derive(Debug, Args)]
pub(crate) struct Resolve {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    which: Which,
    /// It happened: retries are told so, or get the answer given with --status
    #[arg(long)]
    done: bool,
    /// It did not happen: it runs again, by itself if its input is stored, else at its next arrival
    #[arg(long)]
    not_done: bool,
    /// It is not to be tried again: it becomes a dead letter
    #[arg(long)]
    dead: bool,
    /// With --done: the status that retries are answered with
    #[arg(long, value_name = "CODE")]
    status: Option<String>,
    /// With --status: the body that retries are answered with
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// With --body-file: its type [default: application/json]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    #[command(flatten)]
    why: Why,
    /// With --not-done: how long what was sent may still take effect; the backend's longest time for a request
    #[arg(long, value_name = "TIME", default_value_t = Period::seconds(30))]
    settle: Period,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

fn usage(message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, message)
}

fn failed(message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, message)
}

pub(super) async fn resolve(args: Resolve) -> Result<(), Failure> {
    // All that can be wrong in what was typed, before anything else is looked at.
    let resolution = args.resolution()?;
    let audit = args.why.audit()?;
    let store = store::open_existing(&args.store.store).await?;
    let found = args.which.find(&*store).await?;
    let amendment = Amendment {
        amend: Amend::Resolve {
            resolution,
            settle: args.settle.0,
        },
        fence: Some(found.fence),
        audit,
    };
    match store.amend(found.operation.id(), amendment).await? {
        Amended::Became(record) => {
            let (now, _) = store.time(false).await?;
            args.tell(&record, now)
        }
        Amended::Absent => Err(args.which.absent()),
        Amended::Refused(state) => Err(failed(args.refused(state))),
        Amended::Changed(state) => Err(failed(format!(
            "it changed just now and is {state}; nothing was written: look at it again with hapax records show {}",
            args.which.key
        ))),
        Amended::Unsettled(from) => {
            let (now, _) = store.time(false).await?;
            Err(failed(args.unsettled(from, now)))
        }
        Amended::Forgotten => Err(Failure::new(Exit::Internal, "the store forgot the record instead")),
    }
}

impl Resolve {
    fn resolution(&self) -> Result<Resolution, Failure> {
        let given = [self.done, self.not_done, self.dead]
            .into_iter()
            .filter(|given| *given)
            .count();
        if given != 1 {
            let how_many = if given == 0 {
                "no verdict"
            } else {
                "more than one verdict"
            };
            return Err(usage(format!(
                "{how_many}: give exactly one of --done (it happened), --not-done (it did not, and may run again) and \
                 --dead (leave it)"
            )));
        }
        if !self.done && (self.status.is_some() || self.body_file.is_some() || self.content_type.is_some()) {
            return Err(usage(
                "--status, --body-file and --content-type are the answer of an operation that happened: give them with \
                 --done only",
            ));
        }
        Ok(match (self.done, self.not_done) {
            (true, _) => Resolution::Done(self.outcome()?),
            (_, true) => Resolution::NotDone,
            _ => Resolution::Dead,
        })
    }

    fn outcome(&self) -> Result<Outcome, Failure> {
        let Some(status) = &self.status else {
            if self.body_file.is_some() || self.content_type.is_some() {
                return Err(usage(
                    "a body alone is no answer: add --status, such as --status 201; without both, retries are told \
                     that it is done and that its answer is not kept",
                ));
            }
            return Ok(Outcome::NotKept(NotKept::Discarded));
        };
        let status = status
            .parse::<u16>()
            .ok()
            .filter(|status| (200..=599).contains(status))
            .ok_or_else(|| {
                usage(format!(
                    "--status {status} is no status of an answer: give a number from 200 to 599, the one that the \
                     backend would have answered with"
                ))
            })?;
        let (mut headers, mut body) = (Vec::new(), Vec::new());
        if let Some(path) = &self.body_file {
            body = read(path)?;
            if !body.is_empty() && matches!(status, 204 | 205 | 304) {
                return Err(usage(format!(
                    "an answer with status {status} has no body: leave out --body-file, or give another --status"
                )));
            }
            let given = self.content_type.as_deref().unwrap_or("application/json");
            let value = HeaderValue::from_str(given)
                .ok()
                .filter(|value| !value.is_empty())
                .ok_or_else(|| {
                    usage(format!(
                        "--content-type {given:?} cannot be a header: write one such as application/json"
                    ))
                })?;
            headers.push(("content-type".into(), value.as_bytes().to_vec().into()));
        } else if self.content_type.is_some() {
            return Err(usage(
                "--content-type is the type of a body: give the body with --body-file FILE",
            ));
        }
        Ok(Outcome::Answer(Answer {
            status,
            headers,
            body: body.into(),
        }))
    }

    /// Why a state cannot be resolved, and what can be done instead.
    fn refused(&self, state: StateName) -> String {
        let key = print::word(&self.which.key);
        match state {
            StateName::Running => format!(
                "it is running: its own end tells what became of it. Wait for that, or for its lease to end \
                 (hapax records show {key} says when), then resolve what is left unknown"
            ),
            StateName::Waiting => format!(
                "it is waiting to be tried, so there is nothing to resolve before that has ended; hapax records show \
                 {key} says when it is due"
            ),
            StateName::Done => format!(
                "it is done, and what is done never changes: hapax records show {key} --body shows its answer, \
                 hapax audit {key} who settled it, if anybody did"
            ),
            StateName::Dead => format!(
                "it is a dead letter, which can only be said to be done (--done). To run it again: hapax dead redrive \
                 {key} --reason …; to close it without an answer: hapax dead discard {key} --reason …"
            ),
            StateName::Unknown => "the store refused it without a reason".to_owned(),
        }
    }

    fn unsettled(&self, from: Timestamp, now: Timestamp) -> String {
        format!(
            "too early: what was sent to the backend may still take effect, so \"not done\" counts only from {from} on, \
             in {}. Look at the backend again then and repeat this; if its requests never take that long, give a shorter \
             --settle (it is {})",
            seconds(from.since(now)),
            self.settle
        )
    }

    fn tell(&self, record: &Record, now: Timestamp) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", print::record(record, now, false))?;
            return Ok(());
        }
        let next = match &record.state {
            State::Done(Outcome::Answer(answer)) => format!("done; retries get the answer {}", answer.status),
            State::Done(Outcome::NotKept(_)) => "done; retries are told so, without an answer".to_owned(),
            State::Waiting { .. } if record.input.is_some() => "waiting; a runner runs it now".to_owned(),
            State::Waiting { .. } => "waiting; its next arrival runs it (no input is stored)".to_owned(),
            other => format!("{}; no automatic retry touches it", other.name()),
        };
        writeln!(out, "resolved: {} is {next}", record.operation.key())?;
        Ok(())
    }
}

/// Rounded up, so that who waits for so long has waited long enough.
fn seconds(left: Duration) -> Period {
    Period(Duration::from_secs(
        left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
    ))
}

/// A file's content, if a store can keep that much.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    const LARGEST: u64 = 256 << 20;
    let fault = |error: io::Error| {
        usage(format!(
            "--body-file {}: {error}; give a file that can be read",
            path.display()
        ))
    };
    let file = File::open(path).map_err(fault)?;
    let mut body = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut body).map_err(fault)?;
    if read as u64 > LARGEST {
        return Err(usage(format!(
            "--body-file {} is larger than 256 MiB, which no store keeps: leave out --status and --body-file, so that \
             retries are told that it is done and that its answer is not kept",
            path.display()
        )));
    }
    Ok(body)
}
