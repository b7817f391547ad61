//! The reference model: the plainest store that carries out the protocol. Every other store is compared with it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::Duration;

use crate::decide::{Verdict, decide};
use crate::fingerprint::RecipeId;
use crate::record::{
    AmendVerdict, EnqueueVerdict, FinishVerdict, Record, RenewVerdict, State, StateName, TakeVerdict, Tended,
};
use crate::store::{
    Amended, Amendment, AuditEntry, AuditPage, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Filter, Finish,
    Finished, Page, Renewed, Ruling, Starter, Summary, Swept, Take, TakeName, Taken, Work,
};
use crate::time::Timestamp;
use crate::words::{Fence, OperationId, Scope};

/// Records in maps. Each method is one step of [`Store`](crate::Store), with `now` as an argument.
#[derive(Debug, Clone, Default)]
pub struct Model {
    records: HashMap<OperationId, (i64, Timestamp, Record)>,
    by_age: BTreeMap<i64, OperationId>,
    /// What is not done of each group, by age.
    open: BTreeMap<(OperationId, i64), OperationId>,
    next_position: i64,
    last_fence: u64,
    recipes: Vec<String>,
    audit: Vec<AuditEntry>,
}

impl Model {
    /// See [`Store::claim`](crate::Store::claim).
    pub fn claim(&mut self, claim: &Claim, now: Timestamp) -> Claimed {
        let id = claim.operation.id();
        let ruling = match decide(self.record(id), claim, now) {
            Verdict::Run => {
                self.last_fence += 1;
                let (record, lease) = Record::started(self.record(id), claim, Fence::new(self.last_fence), now);
                self.put(id, record, Record::first_look(claim, now));
                Ruling::Won(lease)
            }
            Verdict::Resume(lease) => Ruling::Won(lease),
            Verdict::Lapse(record) => {
                let refusal = record.refusal(now);
                self.replace(id, *record);
                Ruling::Refused(refusal)
            }
            Verdict::Refuse(refusal) => Ruling::Refused(refusal),
        };
        Claimed { now, ruling }
    }

    /// See [`Store::renew`](crate::Store::renew).
    pub fn renew(&mut self, id: OperationId, fence: Fence, lease: Duration, now: Timestamp) -> Renewed {
        let Some((_, _, record)) = self.records.get_mut(&id) else {
            return Renewed::Fenced;
        };
        match record.renew(fence, lease, now) {
            RenewVerdict::Until(until) => {
                if let State::Running { deadline, starter, .. } = &mut record.state {
                    *deadline = until;
                    if *starter == Starter::Alone {
                        *starter = Starter::System;
                    }
                }
                Renewed::Until(until)
            }
            RenewVerdict::Over => Renewed::Over,
            RenewVerdict::Fenced => Renewed::Fenced,
        }
    }

    /// See [`Store::finish`](crate::Store::finish).
    pub fn finish(&mut self, id: OperationId, fence: Fence, finish: &Finish, now: Timestamp) -> Finished {
        let Some(record) = self.record(id) else {
            return Finished::Fenced { now, record: None };
        };
        match record.finish(fence, finish, now) {
            FinishVerdict::Becomes(record) => {
                self.replace(id, *record);
                self.pass_turn(id, now);
                Finished::Applied { now }
            }
            FinishVerdict::Already => Finished::Already {
                now,
                record: Box::new(record.clone()),
            },
            FinishVerdict::Fenced => Finished::Fenced {
                now,
                record: Some(Box::new(record.clone())),
            },
        }
    }

    /// See [`Store::read`](crate::Store::read).
    #[must_use]
    pub fn record(&self, id: OperationId) -> Option<&Record> {
        self.records.get(&id).map(|(_, _, record)| record)
    }

    /// See [`Store::list`](crate::Store::list).
    #[must_use]
    pub fn list(&self, filter: &Filter, after: Option<Cursor>, limit: usize, now: Timestamp) -> Page {
        let limit = limit.clamp(1, 1000);
        let start = after.map_or(Bound::Unbounded, |Cursor(position)| Bound::Excluded(position));
        let mut found = self
            .by_age
            .range((start, Bound::Unbounded))
            .filter_map(|(position, id)| {
                let summary = Summary::of(self.record(*id)?, now);
                filter.holds(&summary).then_some((*position, summary))
            });
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        let next = page.last().filter(|_| more).map(|(position, _)| Cursor(*position));
        Page {
            now,
            records: page.into_iter().map(|(_, summary)| summary).collect(),
            next,
        }
    }

    /// See [`Store::enqueue`](crate::Store::enqueue).
    pub fn enqueue(&mut self, enqueue: &Enqueue, now: Timestamp) -> Enqueued {
        let id = enqueue.operation.id();
        let fence = Fence::new(self.last_fence + 1);
        let refusal = match Record::enqueue(self.record(id), enqueue, fence, now) {
            EnqueueVerdict::Write(record) => {
                self.last_fence += 1;
                self.put(id, *record, Record::first_look_enqueued(enqueue, now));
                None
            }
            EnqueueVerdict::Already => None,
            EnqueueVerdict::Lapse(record) => {
                let refusal = record.refusal(now);
                self.replace(id, *record);
                Some(refusal)
            }
            EnqueueVerdict::Refuse(refusal) => Some(refusal),
        };
        Enqueued { now, refusal }
    }

    /// See [`Store::take`](crate::Store::take).
    pub fn take(&mut self, take: &Take, now: Timestamp) -> Taken {
        let limit = if take.alone { 1 } else { take.limit };
        let mut taken = Taken {
            now,
            work: if take.again {
                self.taken_before(take, now)
            } else {
                Vec::new()
            },
            ended: Vec::new(),
            suspects: false,
            more: false,
        };
        let mut put_off = 0;
        for (id, name) in self.due(take, now) {
            if taken.work.len() >= limit || put_off >= Take::MOST_PUT_OFF {
                taken.more = true;
                break;
            }
            let fence = Fence::new(self.last_fence + 1);
            let before = self.before(id, name);
            let Some(verdict) = self
                .record(id)
                .map(|record| record.take(take, name, before, fence, now))
            else {
                continue;
            };
            match verdict {
                TakeVerdict::Run(record, lease) => {
                    self.last_fence += 1;
                    self.replace(id, (*record).clone());
                    taken.work.push(Work::Run(record, lease));
                }
                TakeVerdict::Resolve(record) => {
                    self.replace(id, (*record).clone());
                    taken.work.push(Work::Resolve(record));
                }
                TakeVerdict::Becomes(record) => {
                    self.replace(id, (*record).clone());
                    taken.ended.push(*record);
                }
                TakeVerdict::Suspect => taken.suspects = true,
                TakeVerdict::Leave => {}
                TakeVerdict::Later(at) => {
                    put_off += 1;
                    if let Some((_, _, record)) = self.records.get_mut(&id) {
                        record.wake_at = Some(at);
                    }
                }
            }
        }
        taken
    }

    /// Records that the take asks for and whose time has come, the longest due first.
    fn due<'t>(&self, take: &'t Take, now: Timestamp) -> Vec<(OperationId, &'t TakeName)> {
        let mut due: Vec<_> = self
            .records
            .iter()
            .filter_map(|(id, (position, _, record))| {
                let name = take.names.iter().find(|name| name.name == *record.operation.name())?;
                let at = record.wake_at.filter(|at| *at <= now)?;
                Some(((at, *position), *id, name))
            })
            .collect();
        due.sort_by_key(|(order, ..)| *order);
        due.into_iter().map(|(_, id, name)| (id, name)).collect()
    }

    /// How many records are before this one in its line, counted up to two.
    fn before(&self, id: OperationId, name: &TakeName) -> usize {
        let Some((position, _, record)) = self.records.get(&id) else {
            return 0;
        };
        record.line(name).map_or(0, |group| {
            let older = self.open.range((group, i64::MIN)..(group, *position));
            older.take(2).count()
        })
    }

    /// Wakes the next of the group of a record that is done.
    fn pass_turn(&mut self, id: OperationId, now: Timestamp) {
        let Some((position, _, done)) = self.records.get(&id).filter(|(_, _, record)| record.is_done()) else {
            return;
        };
        let Some(group) = done.group else { return };
        let next = self.open.range((group, *position)..=(group, i64::MAX)).next();
        let Some((_, _, next)) = next.and_then(|(_, id)| self.records.get_mut(id)) else {
            return;
        };
        if let Some(at) = next.turn(now) {
            next.wake_at = Some(at);
        }
    }

    fn taken_before(&self, take: &Take, now: Timestamp) -> Vec<Work> {
        let mut before: Vec<_> = self
            .records
            .values()
            .filter_map(|(position, _, record)| Some((position, record, record.taken_by(take, now)?)))
            .collect();
        before.sort_by_key(|(position, ..)| **position);
        let run = |(_, record, lease): (_, &Record, _)| Work::Run(Box::new(record.clone()), lease);
        before.into_iter().map(run).collect()
    }

    /// See [`Store::amend`](crate::Store::amend).
    pub fn amend(&mut self, id: OperationId, amendment: &Amendment, now: Timestamp) -> Amended {
        let Some(record) = self.record(id) else {
            return Amended::Absent;
        };
        let shown = record.lapsed(now).unwrap_or_else(|| record.clone());
        let mut entry = AuditEntry {
            at: now,
            operation: shown.operation.clone(),
            action: amendment.amend.as_str().to_owned(),
            audit: amendment.audit.clone(),
            before: shown.state.name(),
            after: None,
        };
        let fence = Fence::new(self.last_fence + 1);
        match record.amend(amendment, fence, now) {
            AmendVerdict::Forget => {
                self.audit.push(entry);
                self.remove(id);
                Amended::Forgotten
            }
            AmendVerdict::Becomes(record) => {
                self.last_fence += 1;
                entry.after = Some(record.state.name());
                self.audit.push(entry);
                self.replace(id, (*record).clone());
                self.pass_turn(id, now);
                Amended::Became(record)
            }
            AmendVerdict::Refuse(state) => Amended::Refused(state),
            AmendVerdict::Changed(state) => Amended::Changed(state),
            AmendVerdict::Unsettled(until) => Amended::Unsettled(until),
        }
    }

    /// See [`Store::audit`](crate::Store::audit).
    #[must_use]
    pub fn audit(&self, id: Option<OperationId>, after: Option<Cursor>, limit: usize) -> AuditPage {
        let limit = limit.clamp(1, 1000);
        let start = after.map_or(0, |Cursor(position)| usize::try_from(position).unwrap_or(0));
        let mut found = self
            .audit
            .iter()
            .enumerate()
            .skip(start)
            .filter(|(_, entry)| id.is_none_or(|id| id == entry.operation.id()));
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        let next = page.last().filter(|_| more).map(|(index, _)| Cursor(*index as i64 + 1));
        (page.into_iter().map(|(_, entry)| entry.clone()).collect(), next)
    }

    /// See [`Store::census`](crate::Store::census).
    #[must_use]
    pub fn census(&self, scopes: bool, now: Timestamp) -> Census {
        let mut census = Census::default();
        let mut counts: BTreeMap<&Scope, u64> = BTreeMap::new();
        for (_, _, record) in self.records.values() {
            let summary = Summary::of(record, now);
            let earliest = |before: Option<Timestamp>, at: Timestamp| Some(before.map_or(at, |before| at.min(before)));
            match summary.state {
                // Lapsed, but nobody has noticed yet.
                _ if record.wake_at.is_none() => {}
                StateName::Waiting => {
                    census.waiting += 1;
                    if let Some(due) = record.wake_at.filter(|due| *due <= now) {
                        census.oldest_due = earliest(census.oldest_due, due);
                    }
                }
                StateName::Unknown => {
                    census.unknown += 1;
                    census.oldest_unknown = earliest(census.oldest_unknown, summary.since);
                }
                StateName::Dead => census.dead += 1,
                StateName::Running | StateName::Done => {}
            }
            *counts.entry(record.operation.scope()).or_default() += 1;
        }
        if scopes {
            census.scopes = counts
                .into_iter()
                .map(|(scope, count)| (scope.clone(), count))
                .collect();
        }
        census
    }

    /// See [`Store::sweep`](crate::Store::sweep).
    pub fn sweep(&mut self, limit: usize, now: Timestamp) -> Swept {
        let mut due: Vec<_> = self
            .records
            .iter()
            .filter(|(_, (_, look, _))| *look <= now)
            .map(|(id, (_, look, _))| (*look, *id))
            .collect();
        due.sort();
        due.truncate(limit);
        let mut swept = Swept {
            looked_at: due.len(),
            ..Swept::default()
        };
        for (_, id) in due {
            match self.record(id).map(|record| record.tend(now)) {
                Some(Tended::Keep(look)) => self.look_again(id, look),
                Some(Tended::Becomes(record, look)) => {
                    match record.state {
                        State::Unknown { .. } => swept.lapsed += 1,
                        _ => swept.stripped += 1,
                    }
                    self.put(id, *record, look);
                }
                Some(Tended::Forget) => {
                    swept.forgotten += 1;
                    self.remove(id);
                }
                None => {}
            }
        }
        swept
    }

    /// See [`Store::recipe`](crate::Store::recipe).
    pub fn recipe(&mut self, text: &str) -> RecipeId {
        let known = self.recipes.iter().position(|known| known == text);
        let index = known.unwrap_or_else(|| {
            self.recipes.push(text.to_owned());
            self.recipes.len() - 1
        });
        RecipeId::new(index as u32 + 1)
    }

    /// See [`Store::raise_fence`](crate::Store::raise_fence).
    pub fn raise_fence(&mut self, at_least: Fence) {
        self.last_fence = self.last_fence.max(at_least.get());
    }

    /// See [`Store::recipe_text`](crate::Store::recipe_text).
    #[must_use]
    pub fn recipe_text(&self, recipe: RecipeId) -> Option<&str> {
        self.recipes
            .get((recipe.get() as usize).checked_sub(1)?)
            .map(String::as_str)
    }

    fn put(&mut self, id: OperationId, record: Record, look: Timestamp) {
        let position = match self.records.get(&id) {
            Some((position, ..)) => *position,
            None => {
                self.next_position += 1;
                self.next_position
            }
        };
        self.by_age.insert(position, id);
        self.file(position, &record);
        self.records.insert(id, (position, look, record));
    }

    /// Keeps the list of what is not done true to a record.
    fn file(&mut self, position: i64, record: &Record) {
        let Some(group) = record.group else { return };
        if record.is_done() {
            self.open.remove(&(group, position));
        } else {
            self.open.insert((group, position), record.operation.id());
        }
    }

    fn replace(&mut self, id: OperationId, record: Record) {
        let Some((position, ..)) = self.records.get(&id) else {
            return;
        };
        self.file(*position, &record);
        if let Some((_, _, place)) = self.records.get_mut(&id) {
            *place = record;
        }
    }

    fn look_again(&mut self, id: OperationId, at: Timestamp) {
        if let Some((_, look, _)) = self.records.get_mut(&id) {
            *look = at;
        }
    }

    fn remove(&mut self, id: OperationId) {
        if let Some((position, _, record)) = self.records.remove(&id) {
            self.by_age.remove(&position);
            if let Some(group) = record.group {
                self.open.remove(&(group, position));
            }
        }
    }
}

#[cfg(test)]
mod tests;
