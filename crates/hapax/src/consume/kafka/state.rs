//! What a consumer session knows: its partitions, what was taken and not given out, what waits to be given again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::tracker::Tracker;
use super::trouble::Trouble;
use crate::consume::{Lag, Message};

/// A topic and a partition.
pub(super) type Place = (Arc<str>, i32);

/// Who asked how far behind the group is.
pub(super) type Question = tokio::sync::oneshot::Sender<Result<Lag, Trouble>>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Offsets between the last confirmed commit and the last message taken, of one partition.
    pub(super) window: u64,
    /// Messages taken and not given out.
    pub(super) buffer: usize,
    /// Bytes taken and not given out, or waiting to be given again.
    pub(super) bytes: usize,
    /// Messages of one partition that wait to be given again.
    pub(super) parked: usize,
}

/// A message with what it takes to settle it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) place: Place,
    /// The assignment that it was taken in.
    pub(super) generation: u64,
    pub(super) offset: i64,
    pub(super) message: Message,
}

impl Held {
    fn bytes(&self) -> usize {
        let message = &self.message;
        let headers = message.headers.iter().map(|(name, value)| name.len() + value.len());
        message.payload.len() + message.key.as_ref().map_or(0, bytes::Bytes::len) + headers.sum::<usize>()
    }
}

/// One assignment of a partition.
#[derive(Debug)]
struct Partition {
    generation: u64,
    tracker: Tracker,
    /// Where the log ended when it was assigned: what came later was given to nobody before.
    end: Option<i64>,
    /// What is below may have been given out before.
    doubt: i64,
    parked: usize,
    paused: bool,
}

/// What waits to be given again, the earliest first.
#[derive(Debug)]
struct Parked {
    due: Instant,
    held: Held,
}

impl PartialEq for Parked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Parked {}

impl PartialOrd for Parked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Parked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.held.offset).cmp(&(other.due, other.held.offset))
    }
}

/// An offset to commit, of one assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) place: Place,
    pub(super) generation: u64,
    pub(super) offset: i64,
}

/// What the broker is to be told about partitions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) pause: Vec<Place>,
    pub(super) resume: Vec<Place>,
}

#[derive(Debug)]
pub(super) struct State {
    bounds: Bounds,
    partitions: HashMap<Place, Partition>,
    generations: u64,
    ready: VecDeque<(Held, bool)>,
    parked: BinaryHeap<Reverse<Parked>>,
    bytes: usize,
    /// Whether it was assigned anything yet, be it nothing.
    pub(super) joined: bool,
    /// Whether messages are wanted at all.
    pub(super) wanted: bool,
    pub(super) trouble: Option<Trouble>,
    pub(super) questions: Vec<Question>,
    /// Whether the source wants the group to be left.
    pub(super) closing: bool,
    /// Whether nothing is polled any more, so that there is nothing to commit but at the end.
    pub(super) idle: bool,
    pub(super) ended: bool,
}

impl State {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            partitions: HashMap::new(),
            generations: 0,
            ready: VecDeque::new(),
            parked: BinaryHeap::new(),
            bytes: 0,
            joined: false,
            wanted: true,
            trouble: None,
            questions: Vec::new(),
            closing: false,
            idle: false,
            ended: false,
        }
    }

    /// New partitions, with where their logs end if that is known.
    pub(super) fn assign(&mut self, assigned: impl IntoIterator<Item = (Place, Option<i64>)>) {
        self.joined = true;
        for (place, end) in assigned {
            self.forget(&place);
            self.generations += 1;
            let partition = Partition {
                generation: self.generations,
                tracker: Tracker::default(),
                end,
                doubt: i64::MAX,
                parked: 0,
                paused: false,
            };
            self.partitions.insert(place, partition);
        }
    }

    /// Partitions that go to somebody else, and what of them is still to be committed.
    pub(super) fn revoke(&mut self, revoked: &[Place]) -> Vec<Commit> {
        let mut commits = Vec::new();
        for place in revoked {
            let Some(partition) = self.partitions.get(place) else {
                continue;
            };
            commits.extend(partition.tracker.to_commit().map(|offset| Commit {
                place: place.clone(),
                generation: partition.generation,
                offset,
            }));
            self.forget(place);
        }
        commits
    }

    fn forget(&mut self, place: &Place) {
        if self.partitions.remove(place).is_none() {
            return;
        }
        self.ready.retain(|(held, _)| held.place != *place);
        self.parked.retain(|Reverse(parked)| parked.held.place != *place);
        let ready = self.ready.iter().map(|(held, _)| held.bytes());
        self.bytes = ready
            .chain(self.parked.iter().map(|Reverse(parked)| parked.held.bytes()))
            .sum();
    }

    /// A message from the broker. False if nothing more should be taken before [`wishes`](Self::wishes) were told.
    pub(super) fn push(&mut self, place: &Place, offset: i64, message: Message) -> bool {
        let Bounds { window, parked, .. } = self.bounds;
        let Some(partition) = self.partitions.get_mut(place) else {
            return true;
        };
        if !partition.tracker.take(offset) {
            // What it has in hand may be gone from the log, or come again: either way it is no part of this one.
            let next = partition.tracker.next();
            let paused = partition.paused;
            self.forget(place);
            self.assign([(place.clone(), None)]);
            let Some(partition) = self.partitions.get_mut(place) else {
                return false;
            };
            partition.paused = paused;
            partition.tracker.take(offset);
            partition.doubt = next.max(offset.saturating_add_unsigned(window));
        }
        let Some(partition) = self.partitions.get_mut(place) else {
            return false;
        };
        if partition.doubt == i64::MAX {
            // Nobody gives out more than a window past what is committed, and this begins at that, or later.
            let window = offset.saturating_add_unsigned(window);
            partition.doubt = partition.end.map_or(window, |end| end.min(window));
        }
        let held = Held {
            place: place.clone(),
            generation: partition.generation,
            offset,
            message,
        };
        let blocked = partition.tracker.span() >= window || partition.parked >= parked;
        let doubtful = offset < partition.doubt;
        self.bytes += held.bytes();
        self.ready.push_back((held, doubtful));
        !blocked && !self.is_full()
    }

    /// At most so many messages: what waited first. With whether they may have been given out before.
    pub(super) fn take(&mut self, most: usize, now: Instant) -> Vec<(Held, bool)> {
        let mut taken = Vec::new();
        while taken.len() < most && self.due().is_some_and(|due| due <= now) {
            let Some(Reverse(Parked { held, .. })) = self.parked.pop() else {
                break;
            };
            if let Some(partition) = self.partitions.get_mut(&held.place) {
                partition.parked -= 1;
            }
            taken.push((held, true));
        }
        let rest = (most - taken.len()).min(self.ready.len());
        taken.extend(self.ready.drain(..rest));
        self.bytes -= taken.iter().map(|(held, _)| held.bytes()).sum::<usize>();
        taken
    }

    /// When the next of those that wait is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.parked.peek().map(|Reverse(parked)| parked.due)
    }

    /// Whether it is of the assignment that holds.
    pub(super) fn holds(&self, held: &Held) -> bool {
        let partition = self.partitions.get(&held.place);
        !self.ended && partition.is_some_and(|partition| partition.generation == held.generation)
    }

    /// One is done with. False if its partition is no longer ours, or was assigned anew.
    pub(super) fn done(&mut self, held: &Held) -> bool {
        if !self.holds(held) {
            return false;
        }
        if let Some(partition) = self.partitions.get_mut(&held.place) {
            partition.tracker.done(held.offset);
        }
        true
    }

    /// One is to be given again. False as for [`done`](Self::done): whoever has the partition gives it.
    pub(super) fn park(&mut self, held: Held, due: Instant) -> bool {
        if !self.holds(&held) {
            return false;
        }
        if let Some(partition) = self.partitions.get_mut(&held.place) {
            partition.parked += 1;
        }
        self.bytes += held.bytes();
        self.parked.push(Reverse(Parked { due, held }));
        true
    }

    /// Whether as much is kept as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= self.bounds.buffer || self.bytes >= self.bounds.bytes
    }

    /// Whether a short wait for room could spare a pause, after which the broker sends again what it had sent ahead.
    pub(super) fn could_wait(&self) -> bool {
        self.wanted && self.is_full() && self.partitions.values().any(|partition| !partition.paused)
    }

    /// Which partitions are to be paused and resumed so that everything stays bounded.
    pub(super) fn wishes(&mut self) -> Wishes {
        let Bounds {
            window,
            buffer,
            bytes,
            parked,
        } = self.bounds;
        let full = !self.wanted || self.is_full();
        let roomy = self.wanted && self.ready.len() <= buffer / 2 && self.bytes <= bytes / 2;
        let mut wishes = Wishes::default();
        for (place, partition) in &mut self.partitions {
            let span = partition.tracker.span();
            let blocked = span >= window || partition.parked >= parked;
            let free = span <= window / 2 && partition.parked <= parked / 2;
            if !partition.paused && (full || blocked) {
                partition.paused = true;
                wishes.pause.push(place.clone());
            } else if partition.paused && roomy && free {
                partition.paused = false;
                wishes.resume.push(place.clone());
            }
        }
        wishes
    }

    /// Whether some partition comes near to the end of its window, which a commit moves.
    pub(super) fn presses(&self) -> bool {
        let half = self.bounds.window / 2;
        self.partitions
            .values()
            .any(|partition| partition.tracker.span() > half && partition.tracker.to_commit().is_some())
    }

    /// What to commit now.
    pub(super) fn commits(&self) -> Vec<Commit> {
        let mut commits = Vec::new();
        for (place, partition) in &self.partitions {
            commits.extend(partition.tracker.to_commit().map(|offset| Commit {
                place: place.clone(),
                generation: partition.generation,
                offset,
            }));
        }
        commits
    }

    /// The broker has confirmed these.
    pub(super) fn committed(&mut self, commits: &[Commit]) {
        for commit in commits {
            let partition = self.partitions.get_mut(&commit.place);
            if let Some(partition) = partition.filter(|partition| partition.generation == commit.generation) {
                partition.tracker.confirmed(commit.offset);
            }
        }
    }

    /// Its partitions, each with where its next owner would begin, if that is known here.
    pub(super) fn positions(&self) -> Vec<(Place, Option<i64>)> {
        let position = |(place, partition): (&Place, &Partition)| (place.clone(), partition.tracker.committable());
        self.partitions.iter().map(position).collect()
    }
}

#[cfg(test)]
mod tests;
