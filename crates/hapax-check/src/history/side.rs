//! One of the two stores in a history, and its answers in comparable form.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    AfterFailure, Amend, Amended, Amendment, Answer, AttemptId, Audit, AuditEntry, Census, Claim, Claimed, Enqueue,
    Enqueued, Fence, Filter, Fingerprint, Finish, Finished, Input, Key, LastError, Lease, Name, Operation, OperationId,
    Outcome, RecipeId, Record, Refusal, Renewed, Resolution, Retention, Ruling, Scope, Starter, Store, Summary, Swept,
    Take, TakeName, Timestamp, Work,
};

use super::steps::{Change, Ending, Step, Ways};
use crate::conformance::Failure;

pub(super) struct Side {
    handles: Vec<Arc<dyn Store>>,
    recipes: [RecipeId; 2],
    /// In the order in which they were given out; those of one take in the order of its keys.
    fences: Vec<Fence>,
    highest: Fence,
    steps: usize,
}

/// What a step was answered, with fences and recipes by number of order.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Claimed(Claimed),
    Renewed(Renewed),
    Finished(Finished),
    Enqueued(Enqueued),
    Taken(Given),
    Amended(Amended),
    Audited(Vec<Vec<AuditEntry>>),
    Counted(Census),
    Swept(Swept),
    Read(Timestamp, Option<Box<Record>>),
    Listed(Vec<Vec<Summary>>),
    Passed,
}

/// What one take gave: its work and what it ended, by key, and whether it told of suspects.
#[derive(Debug, PartialEq)]
pub(super) struct Given {
    now: Timestamp,
    work: Vec<Work>,
    ended: Vec<Record>,
    suspects: bool,
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
            highest: Fence::new(0),
            steps: 0,
        })
    }

    /// Takes a step through the next handle in turn.
    pub(super) async fn step(&mut self, step: &Step) -> Result<Told, Failure> {
        let store = Arc::clone(&self.handles[self.steps % self.handles.len()]);
        self.steps += 1;
        Ok(match step {
            Step::Claim { .. } => {
                let claimed = store.claim(self.claim(step)).await?;
                if let Ruling::Won(lease) = &claimed.ruling {
                    self.learn(&[lease.fence])?;
                }
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
            Step::Enqueue { .. } => Told::Enqueued(self.enqueue(&store, step).await?),
            Step::Take {
                attempt,
                ways,
                again,
                lease_s,
            } => {
                let take = take(*attempt, *ways, *lease_s);
                Told::Taken(self.given(&store, Take { again: *again, ..take }).await?)
            }
            Step::TakeAlone { ways } => {
                // Leases long enough that no run lapses before the last suspect is taken.
                let take = take(20, *ways, 10);
                Told::Taken(self.given(&store, Take { alone: true, ..take }).await?)
            }
            Step::Amend { key, change, guard } => {
                let amendment = Amendment {
                    fence: guard.map(|run| self.fence(run)),
                    ..amendment(*change)
                };
                let amended = store.amend(operation(*key).id(), amendment).await?;
                if let Amended::Became(record) = &amended {
                    self.learn(&[record.fence])?;
                }
                Told::Amended(match amended {
                    Amended::Became(record) => Amended::Became(Box::new(self.record(*record))),
                    other => other,
                })
            }
            Step::Audit { key, limit } => Told::Audited(self.audit(&store, *key, *limit).await?),
            Step::Census => Told::Counted(store.census(true).await?),
            Step::Sweep => Told::Swept(store.sweep(1000).await?),
            Step::Read { key } => {
                let (now, record) = store.read(operation(*key).id()).await?;
                Told::Read(now, record.map(|record| Box::new(self.record(record))))
            }
            Step::List {
                state,
                key,
                dead,
                group,
                since,
                limit,
            } => {
                let (now, _) = store.time(false).await?;
                let ago = |seconds: u64| Timestamp::from_millis(now.as_millis() - 1_000 * seconds as i64);
                let filter = Filter {
                    state: *state,
                    key: key.map(|key| key.to_string()),
                    dead: *dead,
                    group: group.map(self::group),
                    since: since.filter(|(later, _)| *later).map(|(_, seconds)| ago(seconds)),
                    before: since.filter(|(later, _)| !*later).map(|(_, seconds)| ago(seconds)),
                    ..Filter::default()
                };
                Told::Listed(self.list(&store, filter, *limit).await?)
            }
            Step::RaiseFence(by) => {
                let at_least = Fence::new(self.highest.get().saturating_add_signed(*by));
                store.raise_fence(at_least).await?;
                self.highest = self.highest.max(at_least);
                Told::Passed
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
            attended,
            input,
            group,
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
            after_failure: mode(retry),
            attended,
            retention: retention(),
            input: input.then(|| Input(Bytes::copy_from_slice(&[payload, attempt, 1]))),
            group: group.map(self::group),
        }
    }

    async fn enqueue(&self, store: &Arc<dyn Store>, step: &Step) -> Result<Enqueued, Failure> {
        let Step::Enqueue {
            key,
            attempt,
            payload,
            delay_s,
            group,
        } = *step
        else {
            unreachable!("only an enqueue is made into one");
        };
        let enqueue = Enqueue {
            operation: operation(key),
            fingerprint: Fingerprint::new(self.recipes[0], [payload; 32]),
            attempt: AttemptId::from_bytes([attempt; 16]),
            input: Input(Bytes::copy_from_slice(&[payload, attempt])),
            delay: Duration::from_secs(delay_s),
            retention: retention(),
            group: group.map(self::group),
        };
        let Enqueued { now, refusal } = store.enqueue(enqueue).await?;
        let refusal = refusal.map(|refusal| self.refusal(refusal));
        Ok(Enqueued { now, refusal })
    }

    /// Takes, or takes in solitude until nothing is given, and puts the work in the order of its keys: which of two
    /// records is first is the store's business where both are due since the same time.
    async fn given(&mut self, store: &Arc<dyn Store>, take: Take) -> Result<Given, Failure> {
        let mut all = store.take(take.clone()).await?;
        let mut last = all.work.len() + all.ended.len();
        while take.alone && last > 0 {
            let taken = store.take(take.clone()).await?;
            last = taken.work.len() + taken.ended.len();
            all.work.extend(taken.work);
            all.ended.extend(taken.ended);
            all.suspects |= taken.suspects;
        }
        all.work.sort_by_key(|work| match work {
            Work::Run(record, _) | Work::Resolve(record) => record.operation.id(),
        });
        all.ended.sort_by_key(|record| record.operation.id());
        let fence = |work: &Work| match work {
            Work::Run(_, lease) => Some(lease.fence),
            Work::Resolve(_) => None,
        };
        let fences: Vec<Fence> = all.work.iter().filter_map(fence).collect();
        self.learn(&fences)?;
        Ok(Given {
            now: all.now,
            work: all.work.into_iter().map(|work| self.work(work)).collect(),
            ended: all.ended.into_iter().map(|record| self.record(record)).collect(),
            suspects: all.suspects,
        })
    }

    fn work(&self, work: Work) -> Work {
        match work {
            Work::Run(record, lease) => Work::Run(Box::new(self.record(*record)), self.lease(lease)),
            Work::Resolve(record) => Work::Resolve(Box::new(self.record(*record))),
        }
    }

    async fn audit(
        &self,
        store: &Arc<dyn Store>,
        key: Option<u8>,
        limit: usize,
    ) -> Result<Vec<Vec<AuditEntry>>, Failure> {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let (entries, next) = store.audit(key.map(|key| operation(key).id()), after, limit).await?;
            pages.push(entries);
            after = next;
            if after.is_none() || pages.len() > 80 {
                return Ok(pages);
            }
        }
    }

    /// Notes new fences, which must be higher than all before.
    fn learn(&mut self, fences: &[Fence]) -> Result<(), Failure> {
        let new: Vec<Fence> = fences
            .iter()
            .filter(|fence| !self.fences.contains(fence))
            .copied()
            .collect();
        if let Some(low) = new.iter().find(|fence| **fence <= self.highest) {
            return Err(Failure(format!("fence {low} was given after fence {}", self.highest)));
        }
        self.highest = new.iter().copied().max().unwrap_or(self.highest);
        self.fences.extend(new);
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

    fn lease(&self, lease: Lease) -> Lease {
        Lease {
            fence: self.order(lease.fence),
            ..lease
        }
    }

    fn refusal(&self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::OtherRecipe(recipe) => Refusal::OtherRecipe(self.recipe(recipe)),
            other => other,
        }
    }

    fn claimed(&self, claimed: Claimed) -> Claimed {
        let ruling = match claimed.ruling {
            Ruling::Won(lease) => Ruling::Won(self.lease(lease)),
            Ruling::Refused(refusal) => Ruling::Refused(self.refusal(refusal)),
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

fn group(number: u8) -> OperationId {
    OperationId::from_bytes([number; 16])
}

fn retention() -> Retention {
    Retention {
        replay_for: Duration::from_secs(1_000),
        remember_for: Duration::from_secs(5_000),
    }
}

fn mode(retry: bool) -> AfterFailure {
    if retry { AfterFailure::Retry } else { AfterFailure::Hold }
}

fn take(attempt: u8, ways: Ways, lease_s: u64) -> Take {
    Take {
        attempt: AttemptId::from_bytes([attempt; 16]),
        names: vec![TakeName {
            name: operation(0).name().clone(),
            lease: Duration::from_secs(lease_s),
            max_run: Duration::from_secs(100),
            after_failure: mode(ways.retry),
            tries: ways.tries,
            crashes_count: ways.crashes_count,
            resolves: ways.resolves,
            ordered: ways.ordered,
        }],
        limit: 1000,
        alone: false,
        again: false,
    }
}

fn amendment(change: Change) -> Amendment {
    let resolve = |resolution| Amend::Resolve {
        resolution,
        settle: Duration::from_secs(10),
    };
    Amendment {
        amend: match change {
            Change::Forget(even_unknown) => Amend::Forget { even_unknown },
            Change::Done(number) => resolve(Resolution::Done(Outcome::Answer(answer(number)))),
            Change::NotDone => resolve(Resolution::NotDone),
            Change::Dead => resolve(Resolution::Dead),
            Change::Redrive => Amend::Redrive,
            Change::Discard => Amend::Discard,
            Change::Undo => Amend::Undo,
        },
        fence: None,
        audit: Audit {
            actor: "ann".into(),
            reason: format!("{change:?}"),
        },
    }
}

fn answer(number: u8) -> Answer {
    Answer {
        status: 200 + u16::from(number),
        headers: vec![("etag".into(), Bytes::copy_from_slice(&[number]))],
        body: Bytes::copy_from_slice(&[number; 3]),
    }
}

fn finish(ending: Ending) -> Finish {
    let last_error = |number: u8| Some(LastError::new(&format!("failure {number}")));
    match ending {
        Ending::Answer(number) => Finish::Done(Outcome::Answer(answer(number))),
        Ending::NotKept(why) => Finish::Done(Outcome::NotKept(why)),
        Ending::Release(seconds, counts) => Finish::Release {
            after: Duration::from_secs(seconds),
            counts,
            last_error: last_error(9).filter(|_| counts),
        },
        Ending::Unknown(number) => Finish::Unknown {
            answer: number.map(answer),
            last_error: number.and_then(last_error),
        },
        Ending::Dead(reason, number) => Finish::Dead {
            reason,
            answer: number.map(answer),
            last_error: number.and_then(last_error),
        },
    }
}
