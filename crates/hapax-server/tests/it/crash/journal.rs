//! What the clients saw, operation by operation, judged as it comes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::client::{Answer, Ask};
use super::rig::{LEASE, Mode};

/// How long past its time anything may take on a busy machine.
pub(super) const SLACK: Duration = Duration::from_secs(10);
/// An operation that is in progress for longer, with nobody running it, is stuck.
const STUCK: Duration = LEASE.saturating_mul(2).saturating_add(SLACK);

/// What a client learned for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Unknown,
    Mismatch,
    /// It was told what it may not be told, or nothing in time: a violation is noted.
    Wrong,
}

/// An operation: whose key, and which.
pub(super) type Name = (&'static str, String);

/// What the clients saw of one operation.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// What was asked for, as far as is known: to ask again.
    pub(super) ask: Ask,
    pub(super) first_sent: Instant,
    pub(super) ended: Option<Instant>,
    /// How many kills there had been by then.
    pub(super) kills: (u64, u64),
    pub(super) success: Option<(Instant, Answer)>,
    /// Successes that were no replays.
    pub(super) fresh: u64,
    pub(super) unknown: bool,
    /// It was accepted, to be run by a runner.
    pub(super) accepted: bool,
    in_progress: Option<Instant>,
}

/// Counts over all operations.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) cut: u64,
    pub(super) replays: u64,
    pub(super) in_progress: u64,
    pub(super) accepted: u64,
    pub(super) mismatches: u64,
    pub(super) unavailable: u64,
}

/// The whole story.
#[derive(Debug, Clone)]
pub(super) struct Story {
    pub(super) seen: BTreeMap<Name, Seen>,
    pub(super) counts: Counts,
    pub(super) kills: u64,
    last_kill: Instant,
    pub(super) violations: Vec<String>,
}

pub(super) struct Journal {
    mode: Mode,
    story: Mutex<Story>,
}

impl Journal {
    pub(super) fn new(mode: Mode) -> Self {
        let story = Story {
            seen: BTreeMap::new(),
            counts: Counts::default(),
            kills: 0,
            last_kill: Instant::now(),
            violations: Vec::new(),
        };
        Self {
            mode,
            story: Mutex::new(story),
        }
    }

    pub(super) fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap()
    }

    pub(super) fn violated(&self, what: String) {
        self.story().violations.push(what);
    }

    pub(super) fn killed(&self) {
        let mut story = self.story();
        story.kills += 1;
        story.last_kill = Instant::now();
    }

    /// Somebody is about to ask for the operation.
    pub(super) fn asked(&self, ask: &Ask) {
        let mut story = self.story();
        let kills = (story.kills, story.kills);
        story.seen.entry((ask.scope, ask.key.clone())).or_insert_with(|| Seen {
            ask: ask.clone(),
            first_sent: Instant::now(),
            ended: None,
            kills,
            success: None,
            fresh: 0,
            unknown: false,
            accepted: false,
            in_progress: None,
        });
    }

    /// Somebody who asked knows the end.
    pub(super) fn ended(&self, ask: &Ask) {
        let mut story = self.story();
        let kills = story.kills;
        if let Some(seen) = story.seen.get_mut(&(ask.scope, ask.key.clone())) {
            seen.ended = Some(Instant::now());
            seen.kills.1 = kills;
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.story().counts);
    }

    /// What an answer to a request that was sent at `sent` means; `None` if the client has to ask again.
    pub(super) fn judge(&self, ask: &Ask, sent: Instant, answer: Answer) -> Option<End> {
        let problem = answer.problem();
        let mut story = self.story();
        let Story {
            seen,
            counts,
            last_kill,
            violations,
            ..
        } = &mut *story;
        let seen = seen.get_mut(&(ask.scope, ask.key.clone())).unwrap();
        let done_before = seen.success.as_ref().is_some_and(|(at, _)| *at < sent);
        let complaint = match (answer.status, problem.as_deref()) {
            (201, None) => {
                counts.replays += u64::from(answer.replayed);
                match seen.succeeded(ask, answer, self.mode) {
                    None => return Some(End::Done),
                    Some(complaint) => complaint,
                }
            }
            (422, Some("key-reused")) => {
                counts.mismatches += 1;
                return Some(End::Mismatch);
            }
            (409, Some("outcome-unknown")) if self.mode == Mode::Hold && !done_before => {
                seen.unknown = true;
                seen.ask = ask.clone();
                return Some(End::Unknown);
            }
            (409, Some("in-progress")) if !done_before => {
                counts.in_progress += 1;
                // A kill starts the clock of retry mode anew: the next claim may have been cut off, too.
                let began = *seen.in_progress.get_or_insert(sent);
                let began = if self.mode == Mode::Hold {
                    began
                } else {
                    began.max(*last_kill)
                };
                if began.elapsed() < STUCK {
                    return None;
                }
                format!("still in progress after {:?}", began.elapsed())
            }
            (202, None) if ask.later && !done_before => {
                counts.accepted += 1;
                seen.accepted = true;
                // Nobody may have been there to run it since.
                let began = *seen.in_progress.get_or_insert(sent).max(last_kill);
                if began.elapsed() < STUCK {
                    return None;
                }
                format!("still not run after {:?}", began.elapsed())
            }
            (503, Some("store-unavailable" | "upstream-unavailable")) => {
                counts.unavailable += 1;
                return None;
            }
            (status, problem) => {
                let body = String::from_utf8_lossy(&answer.body);
                format!("answered {status} {problem:?} (done before: {done_before}): {body}")
            }
        };
        violations.push(format!("{}/{} {}: {complaint}", ask.scope, ask.key, ask.path));
        Some(End::Wrong)
    }
}

impl Seen {
    /// Notes a success; says what is wrong with it.
    fn succeeded(&mut self, ask: &Ask, answer: Answer, mode: Mode) -> Option<String> {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if !text.contains(&format!(r#""customer":"{}""#, ask.scope)) {
            return Some(format!("got what belongs to another scope: {text}"));
        }
        if !answer
            .header("location")
            .is_some_and(|location| location.starts_with(ask.path))
        {
            return Some(format!("got the answer to another request: {answer:?}"));
        }
        if answer.replayed == answer.has_cookie {
            return Some(format!(
                "the cookie belongs to the first answer, and only there: {answer:?}"
            ));
        }
        self.ask = ask.clone();
        self.fresh += u64::from(!answer.replayed);
        if self.fresh > 1 && mode == Mode::Hold {
            return Some(format!("a second answer that is no replay: {text}"));
        }
        match &self.success {
            Some((_, first)) if !first.says(&answer) => Some(format!("{answer:?} differs from the first, {first:?}")),
            Some(_) => None,
            None => {
                self.success = Some((Instant::now(), answer));
                None
            }
        }
    }
}
