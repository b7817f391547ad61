//! The reference model: the plainest store that carries out the protocol. Every other store is compared with it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::Duration;

use crate::decide::{Verdict, decide};
use crate::fingerprint::RecipeId;
use crate::record::{FinishVerdict, Record, RenewVerdict, State, Tended};
use crate::store::{
    Amend, Amended, Claim, Claimed, Cursor, Filter, Finish, Finished, Page, Renewed, Ruling, Summary, Swept,
};
use crate::time::Timestamp;
use crate::words::{Fence, OperationId};

/// Records in maps. Each method is one step of [`Store`](crate::Store), with `now` as an argument.
#[derive(Debug, Clone, Default)]
pub struct Model {
    records: HashMap<OperationId, (i64, Timestamp, Record)>,
    by_age: BTreeMap<i64, OperationId>,
    next_position: i64,
    last_fence: u64,
    recipes: Vec<String>,
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
                if let State::Running { deadline, .. } = &mut record.state {
                    *deadline = until;
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

    /// See [`Store::amend`](crate::Store::amend).
    pub fn amend(&mut self, id: OperationId, amend: &Amend, now: Timestamp) -> Amended {
        let Some(record) = self.record(id) else {
            return Amended::Absent;
        };
        let amended = record.amend(amend, now);
        if amended == Amended::Forgotten {
            self.remove(id);
        }
        amended
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
        self.records.insert(id, (position, look, record));
    }

    fn replace(&mut self, id: OperationId, record: Record) {
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
        if let Some((position, ..)) = self.records.remove(&id) {
            self.by_age.remove(&position);
        }
    }
}

#[cfg(test)]
mod tests;
