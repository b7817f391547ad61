//! One of the two stores in a history, and its answers in comparable form.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    AfterFailure, Amend, Amended, Answer, AttemptId, Claim, Claimed, Fence, Filter, Fingerprint, Finish, Finished, Key,
    Lease, Name, Operation, Outcome, RecipeId, Record, Refusal, Renewed, Retention, Ruling, Scope, Starter, Store,
    Summary, Swept, Timestamp,
};

use super::steps::{Ending, Step};
use crate::conformance::Failure;

pub(super) struct Side {
    handles: Vec<Arc<dyn Store>>,
    recipes: [RecipeId; 2],
    fences: Vec<Fence>,
    taken: usize,
}

/// What a step was answered, with fences and recipes by number of order.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Claimed(Claimed),
    Renewed(Renewed),
    Finished(Finished),
    Amended(Amended),
    Swept(Swept),
    Read(Timestamp, Option<Record>),
    Listed(Vec<Vec<Summary>>),
    Passed,
}

impl Side {
    pub(super) async fn new(handles: Vec<Arc<dyn Store>>) -> Result<Self, Failure> {
        let Some(store) = handles.first() else {
            return Err(Failure("no handle".into()));
        };
        let recipes = [
            store.recipe("first".into()).await?,
            store.recipe("second".into()).await?,
        ];
        Ok(Self {
            handles,
            recipes,
            fences: Vec::new(),
            taken: 0,
        })
    }

    /// Takes a step through the next handle in turn.
    pub(super) async fn take(&mut self, step: &Step) -> Result<Told, Failure> {
        let store = Arc::clone(&self.handles[self.taken % self.handles.len()]);
        self.taken += 1;
        Ok(match step {
            Step::Claim { .. } => {
                let claimed = store.claim(self.claim(step)).await?;
                self.learn(&claimed)?;
                Told::Claimed(self.claimed(claimed))
            }
            Step::Renew { key, run, lease_s } => {
                let lease = Duration::from_secs(*lease_s);
                Told::Renewed(store.renew(operation(*key).id(), self.fence(*run), lease).await?)
            }
            Step::Finish { key, run, ending } => {
                let finish = finish(*ending);
                let finished = store.finish(operation(*key).id(), self.fence(*run), finish).await?;
                Told::Finished(self.finished(finished))
            }
            Step::Forget { key, even_unknown } => {
                let amend = Amend::Forget {
                    even_unknown: *even_unknown,
                };
                Told::Amended(store.amend(operation(*key).id(), amend).await?)
            }
            Step::Sweep => Told::Swept(store.sweep(1000).await?),
            Step::Read { key } => {
                let (now, record) = store.read(operation(*key).id()).await?;
                Told::Read(now, record.map(|record| self.record(record)))
            }
            Step::List { state, key, limit } => {
                let filter = Filter {
                    state: *state,
                    key: key.map(|key| key.to_string()),
                    ..Filter::default()
                };
                Told::Listed(self.list(&store, filter, *limit).await?)
            }
            Step::Pass(_) => Told::Passed,
        })
    }

    fn claim(&self, step: &Step) -> Claim {
        let Step::Claim {
            key,
            attempt,
            payload,
            recipe,
            system,
            retry,
            lease_s,
        } = *step
        else {
            unreachable!("only a claim is made into one");
        };
        Claim {
            operation: operation(key),
            fingerprint: Fingerprint::new(self.recipes[recipe % 2], [payload; 32]),
            attempt: AttemptId::from_bytes([attempt; 16]),
            starter: if system { Starter::System } else { Starter::Caller },
            lease: Duration::from_secs(lease_s),
            max_run: Duration::from_secs(100),
            after_failure: if retry { AfterFailure::Retry } else { AfterFailure::Hold },
            retention: Retention {
                replay_for: Duration::from_secs(1_000),
                remember_for: Duration::from_secs(5_000),
            },
        }
    }

    /// Notes a new fence, which must be higher than all before.
    fn learn(&mut self, claimed: &Claimed) -> Result<(), Failure> {
        if let Ruling::Won(lease) = &claimed.ruling
            && !self.fences.contains(&lease.fence)
        {
            if let Some(last) = self.fences.last().filter(|last| **last >= lease.fence) {
                return Err(Failure(format!("fence {} was given after fence {last}", lease.fence)));
            }
            self.fences.push(lease.fence);
        }
        Ok(())
    }

    /// The fence of a run counted from the latest; one that was never given if there is none.
    fn fence(&self, run: usize) -> Fence {
        let index = self.fences.len().checked_sub(run + 1);
        let known = index.and_then(|index| self.fences.get(index).copied());
        known.unwrap_or(Fence::new(1 << 40))
    }

    async fn list(&self, store: &Arc<dyn Store>, filter: Filter, limit: usize) -> Result<Vec<Vec<Summary>>, Failure> {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(filter.clone(), after, limit).await?;
            let summaries = page.records.into_iter().map(|mut summary| {
                summary.fence = self.order(summary.fence);
                summary
            });
            pages.push(summaries.collect());
            after = page.next;
            if after.is_none() || pages.len() > 10 {
                return Ok(pages);
            }
        }
    }

    fn order(&self, fence: Fence) -> Fence {
        let place = self.fences.iter().position(|known| *known == fence);
        Fence::new(place.map_or(u64::MAX, |place| place as u64))
    }

    fn recipe(&self, recipe: RecipeId) -> RecipeId {
        let place = self.recipes.iter().position(|known| *known == recipe);
        RecipeId::new(place.map_or(u32::MAX, |place| place as u32))
    }

    fn record(&self, record: Record) -> Record {
        Record {
            fence: self.order(record.fence),
            fingerprint: Fingerprint::new(self.recipe(record.fingerprint.recipe()), *record.fingerprint.digest()),
            ..record
        }
    }

    fn claimed(&self, claimed: Claimed) -> Claimed {
        let ruling = match claimed.ruling {
            Ruling::Won(lease) => Ruling::Won(Lease {
                fence: self.order(lease.fence),
                ..lease
            }),
            Ruling::Refused(Refusal::OtherRecipe(recipe)) => Ruling::Refused(Refusal::OtherRecipe(self.recipe(recipe))),
            refused => refused,
        };
        Claimed {
            now: claimed.now,
            ruling,
        }
    }

    fn finished(&self, finished: Finished) -> Finished {
        let comparable = |record: Box<Record>| Box::new(self.record(*record));
        match finished {
            Finished::Applied { now } => Finished::Applied { now },
            Finished::Already { now, record } => Finished::Already {
                now,
                record: comparable(record),
            },
            Finished::Fenced { now, record } => Finished::Fenced {
                now,
                record: record.map(comparable),
            },
        }
    }
}

fn operation(key: u8) -> Operation {
    let words = (Scope::new("s"), Name::new("n"), Key::new(key.to_string()));
    match words {
        (Ok(scope), Ok(name), Ok(key)) => Operation::new(scope, name, key),
        words => unreachable!("short printable words are words: {words:?}"),
    }
}

fn finish(ending: Ending) -> Finish {
    let answer = |number: u8| Answer {
        status: 200 + u16::from(number),
        headers: vec![("etag".into(), Bytes::copy_from_slice(&[number]))],
        body: Bytes::copy_from_slice(&[number; 3]),
    };
    match ending {
        Ending::Answer(number) => Finish::Done(Outcome::Answer(answer(number))),
        Ending::NotKept(why) => Finish::Done(Outcome::NotKept(why)),
        Ending::Release(seconds) => Finish::Release {
            after: Duration::from_secs(seconds),
        },
        Ending::Unknown(number) => Finish::Unknown {
            answer: number.map(answer),
        },
        Ending::Dead(reason, number) => Finish::Dead {
            reason,
            answer: number.map(answer),
        },
    }
}
