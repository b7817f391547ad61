//! The time-outs of one inbound connection, all on one timer.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::connection::{ConnState, Reading};
use crate::gateway::limits::ListenerLimits;
use crate::gateway::timer::LazyTimer;

/// What a client is too slow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The first byte, or the next request. Close without a word.
    Idle,
    /// The rest of a head. Answer, then close.
    Head,
    /// Taking an answer, or sending a body that nobody waits for. Cut.
    Stuck,
    /// Closing a connection that is to end. Cut; nothing is lost.
    Closing,
}

/// What is waited for now. The counter tells one wait from the next of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Nothing,
    Idle(u32),
    Head(u32),
    Write(u32),
    Leftover(u32),
    Closing(u32),
}

/// Watches one connection. To be polled after each poll of the connection.
#[derive(Debug)]
pub(super) struct Watch {
    wait: Wait,
    timer: LazyTimer,
}

impl Watch {
    pub(super) fn new() -> Self {
        Watch {
            wait: Wait::Nothing,
            timer: LazyTimer::default(),
        }
    }

    /// Ready when the client is too late. `is_ending`: no more requests are wanted.
    pub(super) fn poll(
        &mut self,
        state: &ConnState,
        is_ending: bool,
        limits: &ListenerLimits,
        cx: &mut Context<'_>,
    ) -> Poll<Late> {
        let wait = current(state, is_ending);
        if wait != self.wait {
            self.wait = wait;
            match timeout(wait, limits) {
                Some(timeout) => self.timer.set(Instant::now() + timeout),
                None => self.timer.clear(),
            }
        }
        self.timer.poll(cx).map(|()| match wait {
            Wait::Idle(_) | Wait::Nothing => Late::Idle,
            Wait::Head(_) => Late::Head,
            Wait::Write(_) | Wait::Leftover(_) => Late::Stuck,
            Wait::Closing(_) => Late::Closing,
        })
    }
}

fn current(state: &ConnState, is_ending: bool) -> Wait {
    let (is_write_blocked, writes) = state.writing();
    if is_write_blocked {
        return Wait::Write(writes);
    }
    if state.in_flight() > 0 || state.refusal().is_some() {
        return Wait::Nothing;
    }
    if is_ending {
        return Wait::Closing(state.requests());
    }
    match state.reading() {
        Reading::Idle => Wait::Idle(state.requests()),
        Reading::Head => Wait::Head(state.requests()),
        Reading::Body => Wait::Leftover(state.requests()),
    }
}

fn timeout(wait: Wait, limits: &ListenerLimits) -> Option<Duration> {
    match wait {
        Wait::Nothing => None,
        Wait::Idle(0) => Some(limits.first_byte_timeout),
        Wait::Idle(_) => Some(limits.idle_timeout),
        Wait::Head(_) => Some(limits.head_timeout),
        Wait::Write(_) => Some(limits.write_timeout),
        Wait::Leftover(_) => Some(limits.body_idle_timeout),
        Wait::Closing(_) => Some(limits.linger),
    }
}
