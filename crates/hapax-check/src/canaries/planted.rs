//! A store of its own, as plain as the reference model, in which bugs can be planted.

mod queue;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_core::record::{FinishVerdict, RenewVerdict, Tended};
use hapax_core::store::check_raise;
use hapax_core::{
    Amended, Amendment, AuditEntry, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Fence,
    Filter, Finish, Finished, LastError, NotKept, Operation, OperationId, Outcome, Page, RecipeId, Record, Refusal,
    Renewed, Ruling, Scope, Starter, State, Store, StoreError, Summary, Swept, Take, Taken, Timestamp, Verdict, decide,
};
use hapax_store::Clock;
use tokio::task::yield_now;

use super::Bug;

/// A store in memory with one bug. Clones share the records.
#[derive(Clone)]
pub struct Planted {
    bug: Bug,
    clock: Clock,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Default)]
struct Rows {
    rows: HashMap<OperationId, Row>,
    /// Under which identity an operation is kept.
    kept_as: HashMap<OperationId, OperationId>,
    positions: i64,
    last_fence: u64,
    recipes: Vec<String>,
    audit: Vec<AuditEntry>,
}

struct Row {
    position: i64,
    look: Timestamp,
    record: Record,
}

impl Planted {
    /// An empty store with a bug.
    #[must_use]
    pub fn new(bug: Bug, clock: Clock) -> Self {
        Self {
            bug,
            clock,
            rows: Arc::default(),
        }
    }

    fn now(&self) -> Timestamp {
        match self.bug {
            Bug::FollowsAnyClock => self.clock.reading().0,
            _ => self.clock.now(),
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Canaries hold nothing worth saving.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Rows, Bug, Timestamp) -> T,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let mut rows = self.rows();
        let result = step(&mut rows, self.bug, self.now());
        Box::pin(std::future::ready(Ok(result)))
    }
}

impl Rows {
    fn id(&self, id: OperationId) -> OperationId {
        self.kept_as.get(&id).copied().unwrap_or(id)
    }

    fn record(&self, id: OperationId) -> Option<&Record> {
        self.rows.get(&self.id(id)).map(|row| &row.record)
    }

    /// Carries a claim out on the record that was seen, be it still there or not.
    fn claim(&mut self, bug: Bug, seen: Option<&Record>, mut claim: Claim, now: Timestamp) -> Claimed {
        match bug {
            Bug::UnscopedKey => self.drop_scope(&claim.operation),
            Bug::LeaseIsRetention => {
                claim.lease = claim.retention.remember_for;
                claim.max_run = claim.max_run.max(claim.lease);
            }
            _ => {}
        }
        let id = self.id(claim.operation.id());
        let ruling = match verdict(bug, seen, &mut claim, now) {
            Verdict::Run => {
                let fence = self.next_fence(bug);
                match (bug, seen) {
                    (Bug::ClaimForgetsInput, _) => claim.input = None,
                    (Bug::ClaimKeepsFirstOnly, Some(_)) => claim.input = None,
                    _ => {}
                }
                let (record, lease) = Record::started(seen, &claim, fence, now);
                self.put(id, record, Record::first_look(&claim, now));
                Ruling::Won(lease)
            }
            Verdict::Resume(lease) => Ruling::Won(lease),
            Verdict::Lapse(record) => {
                let refusal = record.refusal(now);
                self.write(id, *record);
                Ruling::Refused(refusal)
            }
            Verdict::Refuse(refusal) => Ruling::Refused(refusal),
        };
        Claimed { now, ruling }
    }

    fn drop_scope(&mut self, operation: &Operation) {
        if let Ok(scope) = Scope::new("anonymous") {
            let unscoped = Operation::new(scope, operation.name().clone(), operation.key().clone());
            self.kept_as.insert(operation.id(), unscoped.id());
        }
    }

    fn next_fence(&mut self, bug: Bug) -> Fence {
        if bug == Bug::FenceFromRecords {
            let highest = self.rows.values().map(|row| row.record.fence.get()).max();
            self.last_fence = highest.unwrap_or(0);
        }
        self.last_fence += 1;
        Fence::new(self.last_fence)
    }

    fn finish(&mut self, bug: Bug, id: OperationId, fence: Fence, finish: &Finish, now: Timestamp) -> Finished {
        let Some(record) = self.record(id).cloned() else {
            return Finished::Fenced { now, record: None };
        };
        let fence = if bug == Bug::UnfencedFinish {
            record.fence
        } else {
            fence
        };
        let verdict = match record.finish(fence, finish, now) {
            FinishVerdict::Already if bug == Bug::LastFinishStands => {
                let (state, since) = (finish.state(now), now);
                FinishVerdict::Becomes(Box::new(Record {
                    state,
                    since,
                    ..record.clone()
                }))
            }
            verdict => verdict,
        };
        match verdict {
            FinishVerdict::Becomes(mut becomes) => {
                let id = self.id(id);
                let released = matches!(becomes.state, State::Waiting { .. });
                match bug {
                    Bug::ErrorCutShort => {
                        let cut =
                            |error: LastError| LastError::new(&error.as_str().chars().take(100).collect::<String>());
                        becomes.last_error = becomes.last_error.map(cut);
                    }
                    Bug::UncountedStaysTry => becomes.tries = record.tries,
                    Bug::ReleaseForgetsInput if released => becomes.input = None,
                    _ => {}
                }
                if bug == Bug::DeletedOnError && matches!(finish, Finish::Unknown { .. }) {
                    self.rows.remove(&id);
                } else {
                    self.write(id, *becomes);
                    self.pass_turn(bug, id, now);
                }
                Finished::Applied { now }
            }
            FinishVerdict::Already => Finished::Already {
                now,
                record: Box::new(record),
            },
            FinishVerdict::Fenced => Finished::Fenced {
                now,
                record: Some(Box::new(record)),
            },
        }
    }

    fn renew(&mut self, bug: Bug, id: OperationId, fence: Fence, lease: Duration, now: Timestamp) -> Renewed {
        let id = self.id(id);
        let Some(row) = self.rows.get_mut(&id) else {
            return Renewed::Fenced;
        };
        let verdict = row.record.renew(fence, lease, now);
        let State::Running { deadline, starter, .. } = &mut row.record.state else {
            return Renewed::Fenced;
        };
        if verdict != RenewVerdict::Fenced && *starter == Starter::Alone {
            *starter = Starter::System;
        }
        match verdict {
            RenewVerdict::Fenced => Renewed::Fenced,
            RenewVerdict::Until(_) | RenewVerdict::Over if bug == Bug::EndlessRenewal => {
                *deadline = now.after(lease).max(*deadline);
                Renewed::Until(*deadline)
            }
            RenewVerdict::Until(until) => {
                *deadline = until;
                Renewed::Until(until)
            }
            RenewVerdict::Over => Renewed::Over,
        }
    }

    fn list(&self, filter: &Filter, after: Option<Cursor>, limit: usize, now: Timestamp) -> Page {
        let mut rows: Vec<_> = self.rows.values().collect();
        rows.sort_by_key(|row| row.position);
        let mut found: Vec<(i64, Summary)> = rows
            .into_iter()
            .filter(|row| after.is_none_or(|after| row.position > after.0))
            .map(|row| (row.position, Summary::of(&row.record, now)))
            .filter(|(_, summary)| filter.holds(summary))
            .collect();
        let limit = limit.clamp(1, 1000);
        let more = found.len() > limit;
        found.truncate(limit);
        Page {
            now,
            next: found.last().filter(|_| more).map(|(position, _)| Cursor(*position)),
            records: found.into_iter().map(|(_, summary)| summary).collect(),
        }
    }

    fn sweep(&mut self, bug: Bug, limit: usize, now: Timestamp) -> Swept {
        let is_due = |row: &Row| match (bug, &row.record.state) {
            (Bug::SweepsClaimed, State::Running { .. }) | (Bug::StrippedEarly, State::Done(Outcome::Answer(_))) => true,
            _ => row.look <= now,
        };
        let rows = self.rows.iter().filter(|(_, row)| is_due(row));
        let mut due: Vec<_> = rows.map(|(id, row)| (row.look, *id)).collect();
        due.sort();
        if bug != Bug::UnboundedSweep {
            due.truncate(limit);
        }
        let mut swept = Swept {
            looked_at: due.len(),
            ..Swept::default()
        };
        for (_, id) in due {
            let Some(row) = self.rows.get_mut(&id) else { continue };
            match tend(bug, &row.record, now) {
                Tended::Keep(look) => row.look = look,
                Tended::Becomes(record, look) => {
                    match record.state {
                        State::Unknown { .. } => swept.lapsed += 1,
                        _ => swept.stripped += 1,
                    }
                    (row.record, row.look) = (*record, look);
                }
                Tended::Forget => {
                    swept.forgotten += 1;
                    self.rows.remove(&id);
                }
            }
        }
        swept
    }

    /// What a sweep would forget.
    fn ended(&self, now: Timestamp) -> HashSet<OperationId> {
        let ended = self
            .rows
            .iter()
            .filter(|(_, row)| row.look <= now && row.record.tend(now) == Tended::Forget);
        ended.map(|(id, _)| *id).collect()
    }

    fn put(&mut self, id: OperationId, record: Record, look: Timestamp) {
        let position = self.rows.get(&id).map(|row| row.position);
        let position = position.unwrap_or_else(|| {
            self.positions += 1;
            self.positions
        });
        self.rows.insert(id, Row { position, look, record });
    }

    fn write(&mut self, id: OperationId, record: Record) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.record = record;
        }
    }
}

fn verdict(bug: Bug, seen: Option<&Record>, claim: &mut Claim, now: Timestamp) -> Verdict {
    let state = seen.map(|record| &record.state);
    let unchecked = match bug {
        Bug::MismatchIgnoredWhenDone => matches!(state, Some(State::Done(_))),
        Bug::MismatchIgnoredWhileRunning => matches!(state, Some(State::Running { .. })),
        _ => false,
    };
    if let Some(record) = seen.filter(|_| unchecked) {
        claim.fingerprint = record.fingerprint;
    }
    match (bug, decide(seen, claim, now)) {
        (Bug::LapsedHoldRunsAgain, Verdict::Lapse(_)) => Verdict::Run,
        (Bug::LosesToItself, Verdict::Resume(lease)) => Verdict::Refuse(Refusal::InProgress {
            since: now,
            deadline: lease.deadline,
        }),
        (Bug::FinishedAttemptRunsAgain, Verdict::Refuse(Refusal::AttemptOver)) => Verdict::Run,
        (_, verdict) => verdict,
    }
}

fn tend(bug: Bug, record: &Record, now: Timestamp) -> Tended {
    match (bug, &record.state) {
        (Bug::SweepsClaimed, State::Running { .. }) => return Tended::Forget,
        (Bug::StrippedEarly, State::Done(Outcome::Answer(_))) => {
            let state = State::Done(Outcome::NotKept(NotKept::Expired));
            let stripped = Box::new(Record {
                state,
                ..record.clone()
            });
            return Tended::Becomes(stripped, now.after(record.retention.remember_for));
        }
        _ => {}
    }
    match record.tend(now) {
        Tended::Becomes(record, _) if bug == Bug::ForgottenWithAnswer && matches!(record.state, State::Done(_)) => {
            Tended::Forget
        }
        tended => tended,
    }
}

impl Store for Planted {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        Box::pin(async move {
            let check = |rows: &Rows| rows.record(claim.operation.id()).cloned();
            if self.bug == Bug::CheckThenAct {
                let seen = check(&self.rows());
                yield_now().await;
                return Ok(self.rows().claim(self.bug, seen.as_ref(), claim, self.now()));
            }
            let mut rows = self.rows();
            let seen = check(&rows);
            Ok(rows.claim(self.bug, seen.as_ref(), claim, self.now()))
        })
    }

    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.step(|rows, bug, now| rows.renew(bug, id, fence, lease, now))
    }

    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        self.step(|rows, bug, now| rows.finish(bug, id, fence, &finish, now))
    }

    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        self.step(|rows, _, now| (now, rows.record(id).cloned()))
    }

    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.step(|rows, _, now| rows.list(&filter, after, limit, now))
    }

    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        Box::pin(async move {
            let see = |rows: &Rows| rows.record(enqueue.operation.id()).cloned();
            if self.bug == Bug::CheckThenAct {
                let seen = see(&self.rows());
                yield_now().await;
                return Ok(self.rows().enqueue(self.bug, seen, &enqueue, self.now()));
            }
            let mut rows = self.rows();
            let seen = see(&rows);
            Ok(rows.enqueue(self.bug, seen, &enqueue, self.now()))
        })
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        Box::pin(async move {
            if self.bug == Bug::TakenByTwo {
                let seen = self.rows().due(self.bug, &take, self.now());
                yield_now().await;
                return Ok(self.rows().take(self.bug, &take, seen, self.now()));
            }
            let mut rows = self.rows();
            let now = self.now();
            let seen = rows.due(self.bug, &take, now);
            Ok(rows.take(self.bug, &take, seen, now))
        })
    }

    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.step(move |rows, bug, now| rows.amend(bug, id, amendment, now))
    }

    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        self.step(move |rows, _, _| rows.audit(id, after, limit))
    }

    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        self.step(move |rows, bug, now| rows.census(bug, scopes, now))
    }

    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        Box::pin(async move {
            let mut seen = HashSet::new();
            if self.bug == Bug::SweepCheckThenAct {
                let now = self.now();
                seen = self.rows().ended(now);
                yield_now().await;
            }
            let mut rows = self.rows();
            rows.rows.retain(|id, _| !seen.contains(id));
            let now = self.now();
            Ok(rows.sweep(self.bug, limit, now))
        })
    }

    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.step(|rows, _, _| {
            let known = rows.recipes.iter().position(|known| *known == text);
            let index = known.unwrap_or(rows.recipes.len());
            if known.is_none() {
                rows.recipes.push(text);
            }
            RecipeId::new(index as u32 + 1)
        })
    }

    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.step(|rows, _, _| {
            let index = recipe.get().checked_sub(1)? as usize;
            rows.recipes.get(index).cloned()
        })
    }

    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        if accept_jump {
            self.clock.accept_jump();
        }
        self.step(|_, _, now| (now, self.clock.jump()))
    }

    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Err(error) = check_raise(at_least) {
            return Box::pin(std::future::ready(Err(error)));
        }
        self.step(|rows, bug, _| {
            rows.last_fence = match bug {
                Bug::IgnoresRaise => rows.last_fence,
                Bug::LowersFence => at_least.get(),
                _ => rows.last_fence.max(at_least.get()),
            };
        })
    }

    fn secret(&self) -> [u8; 32] {
        [7; 32]
    }
}
