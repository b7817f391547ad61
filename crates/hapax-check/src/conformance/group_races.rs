//! Cases: groups and raised fences under many hands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hapax_core::{Fence, Store, StoreError, Take};
use tokio::sync::Barrier;
use tokio::task::{JoinSet, yield_now};

use super::Failure;
use super::exam::*;
use super::races::handles;

const GROUPS: u8 = 6;
const LENGTH: usize = 12;

/// Who runs in which group, and how far each has come.
#[derive(Default)]
struct Lines {
    ended: HashMap<u8, usize>,
    running: HashMap<u8, usize>,
    wrong: Option<String>,
}

impl Lines {
    fn begin(&mut self, group: u8, place: usize) {
        let ended = self.ended.get(&group).copied().unwrap_or(0);
        if let Some(other) = self.running.insert(group, place) {
            self.wrong = Some(format!("{place} of group {group} was started while {other} ran"));
        } else if ended != place {
            self.wrong = Some(format!("{place} of group {group} was started after {ended} others"));
        }
    }

    fn end(&mut self, group: u8) {
        self.running.remove(&group);
        *self.ended.entry(group).or_default() += 1;
    }

    fn all(&self) -> usize {
        self.ended.values().sum()
    }
}

/// Takes and ends what is given until nothing is.
async fn work(store: Arc<dyn Store>, take: Take, lines: Arc<Mutex<Lines>>) -> Result<(), StoreError> {
    let lines = || lines.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let taken = store
            .take(Take {
                attempt: new_attempt(),
                limit: 3,
                ..take.clone()
            })
            .await?;
        let runs: Vec<_> = to_run(&taken)
            .into_iter()
            .map(|(record, lease)| (record.operation.clone(), lease.fence))
            .collect();
        if runs.is_empty() && !taken.more {
            return Ok(());
        }
        for (operation, fence) in runs {
            let key = operation.key().as_str().to_owned();
            let (group, place) = key.split_once('-').unwrap_or(("", ""));
            let (group, place) = (group.parse().unwrap_or(0), place.parse().unwrap_or(0));
            lines().begin(group, place);
            yield_now().await;
            // Told before the store, which lets the next one go.
            lines().end(group);
            store.finish(operation.id(), fence, done(b"made")).await?;
        }
    }
}

pub(super) async fn a_line_moves_on_under_many_takers(exam: Exam) -> Checked {
    let handles = handles(&exam).await?;
    for place in 0..LENGTH {
        for group in 0..GROUPS {
            let enqueue = exam.lay_in(group, &format!("{group}-{place}"));
            accepted(handles[place % 2].enqueue(enqueue).await?)?;
        }
    }
    let lines = Arc::<Mutex<Lines>>::default();
    let all = usize::from(GROUPS) * LENGTH;
    for _ in 0..=all {
        let mut workers = JoinSet::new();
        for number in 0..6 {
            let (store, take) = (handles[number % 2].clone(), exam.take_in_order());
            workers.spawn(work(store, take, Arc::clone(&lines)));
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|error| Failure(error.to_string()))??;
        }
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wrong) = &lines.wrong {
            return Err(Failure(wrong.clone()));
        }
        if lines.all() == all {
            return Ok(());
        }
        // Who looked at a record at the wrong moment may have put it off, which costs a pause and no more.
        exam.time.pass(hapax_core::Record::TURN_PAUSE);
    }
    Err(Failure("a line stands still".into()))
}

pub(super) async fn fences_stay_unique_while_they_are_raised(exam: Exam) -> Checked {
    const CLAIMERS: usize = 4;
    let handles = handles(&exam).await?;
    let mut workers = JoinSet::new();
    let gate = Arc::new(Barrier::new(CLAIMERS + 2));
    for number in 0..CLAIMERS + 2 {
        let (store, gate) = (handles[number % 2].clone(), gate.clone());
        let claims: Vec<_> = (0..25).map(|round| exam.ask(&format!("{number}-{round}"))).collect();
        workers.spawn(async move {
            gate.wait().await;
            let (mut fences, mut floor) = (Vec::new(), Fence::new(0));
            for claim in claims {
                if number >= CLAIMERS {
                    // About where the others are, so that a raise that is not one step with its look would lower them.
                    floor = Fence::new(floor.get().max(fences.last().map_or(0, |last: &Fence| last.get()) + 3));
                    store.raise_fence(floor).await?;
                }
                let fence = won(store.claim(claim).await?)?.fence;
                ensure!(fence > floor, "fence {fence} after it was raised to {floor}");
                floor = fence;
                fences.push(fence);
            }
            Ok::<_, Failure>(fences)
        });
    }
    let mut all = Vec::new();
    while let Some(fences) = workers.join_next().await {
        all.extend(fences.map_err(|error| Failure(error.to_string()))??);
    }
    let given = all.len();
    all.sort_unstable();
    all.dedup();
    ensure_eq!(all.len(), given, "different fences");
    Ok(())
}
