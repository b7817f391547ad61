//! A deadline that moves for free.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// A deadline that is set anew for each request or read. The runtime's timer is only touched when
/// the deadline moves nearer, or when it went off for a deadline that has moved on since.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LazyTimer {
    pub(crate) fn set(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    pub(crate) fn clear(&mut self) {
        self.deadline = None;
    }

    pub(crate) fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// Ready once the deadline is over; never while none is set.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                self.deadline = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
