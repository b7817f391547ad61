//! Answers on their way back to the callers of a batch.
//!
//! To wake a task of another runtime costs a system call and, often, a context switch; to wake one of one's own costs
//! next to nothing. So all answers of a batch that go to one runtime travel in one task of that runtime, which hands
//! them out there.

use tokio::runtime::Handle;

/// Where a caller waits: its runtime, if it is in one.
#[derive(Debug, Clone)]
pub(crate) struct Home(Option<Handle>);

impl Home {
    /// The caller's.
    pub(crate) fn here() -> Self {
        Self(Handle::try_current().ok())
    }
}

/// Gives each answer where its caller waits.
pub(crate) fn give<F: FnOnce() + Send + 'static>(answers: impl Iterator<Item = (Home, F)>) {
    let mut parcels: Vec<(Handle, Vec<F>)> = Vec::new();
    for (home, answer) in answers {
        let Home(Some(home)) = home else {
            answer();
            continue;
        };
        // A handful of runtimes at most.
        match parcels.iter_mut().find(|(to, _)| to.id() == home.id()) {
            Some((_, parcel)) => parcel.push(answer),
            None => parcels.push((home, vec![answer])),
        }
    }
    for (home, parcel) in parcels {
        if parcel.len() == 1 {
            parcel.into_iter().for_each(|answer| answer());
        } else {
            // Should the runtime have ended, so have the callers in it.
            home.spawn(async move { parcel.into_iter().for_each(|answer| answer()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;

    fn answers(home: &Home, to: &UnboundedSender<ThreadId>, count: usize) -> Vec<(Home, impl FnOnce() + Send + use<>)> {
        let answer = |to: UnboundedSender<ThreadId>| move || to.send(thread::current().id()).unwrap();
        (0..count).map(|_| (home.clone(), answer(to.clone()))).collect()
    }

    #[tokio::test]
    async fn a_parcel_is_opened_where_its_callers_wait() {
        let (to, mut given) = unbounded_channel();
        let parcel = answers(&Home::here(), &to, 3);
        thread::spawn(move || give(parcel.into_iter())).join().unwrap();
        drop(to);
        for _ in 0..3 {
            assert_eq!(given.recv().await, Some(thread::current().id()));
        }
        assert_eq!(given.recv().await, None);
    }

    #[test]
    fn callers_without_a_runtime_are_answered_at_once() {
        let (to, mut given) = unbounded_channel();
        give(answers(&Home::here(), &to, 2).into_iter());
        assert_eq!(given.try_recv(), Ok(thread::current().id()));
        assert_eq!(given.try_recv(), Ok(thread::current().id()));
    }

    #[test]
    fn a_parcel_for_a_runtime_that_ended_is_dropped() {
        let (to, mut given) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let parcel = answers(&runtime.block_on(async { Home::here() }), &to, 2);
        drop((runtime, to));
        give(parcel.into_iter());
        assert!(
            given.blocking_recv().is_none(),
            "nobody is left to hear it, and nobody waits for it"
        );
    }
}
