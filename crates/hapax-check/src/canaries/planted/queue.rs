//! What runners and people do to the store with a bug.

use std::collections::BTreeMap;
use std::time::Duration;

use hapax_core::record::{AmendVerdict, EnqueueVerdict, Record, TakeVerdict};
use hapax_core::{
    Amend, Amended, Amendment, AuditEntry, AuditPage, Census, Cursor, DeadReason, Enqueue, Enqueued, OperationId,
    Refusal, Resolution, State, StateName, Summary, Take, TakeName, Taken, Timestamp, Work,
};

use super::{Bug, Rows};

/// The time by which a store with this bug takes.
fn soon(bug: Bug, now: Timestamp) -> Timestamp {
    match bug {
        Bug::TakesBeforeDue => now.after(Duration::from_secs(5)),
        _ => now,
    }
}

impl Rows {
    /// Enqueues on the record that was seen, be it still there or not.
    pub(super) fn enqueue(&mut self, bug: Bug, seen: Option<Record>, enqueue: &Enqueue, now: Timestamp) -> Enqueued {
        if bug == Bug::UnscopedKey {
            self.drop_scope(&enqueue.operation);
        }
        let id = self.id(enqueue.operation.id());
        let before = seen.filter(|record| {
            let ended = matches!(record.state, State::Done(_) | State::Dead { .. });
            !(ended && bug == Bug::EnqueueOverwrites)
        });
        let mut enqueue = enqueue.clone();
        if bug == Bug::EnqueueIgnoresDelay {
            enqueue.delay = Duration::ZERO;
        }
        let fence = self.next_fence(bug);
        let refusal = match Record::enqueue(before.as_ref(), &enqueue, fence, now) {
            EnqueueVerdict::Write(record) => {
                self.put(id, *record, Record::first_look_enqueued(&enqueue, now));
                None
            }
            EnqueueVerdict::Already if bug == Bug::EnqueueLosesToItself => Some(Refusal::Later { due: now }),
            EnqueueVerdict::Already => None,
            EnqueueVerdict::Lapse(record) => {
                let refusal = record.refusal(now);
                self.write(id, *record);
                Some(refusal)
            }
            EnqueueVerdict::Refuse(refusal) => Some(refusal),
        };
        Enqueued { now, refusal }
    }

    /// The records whose time has come, as they are, the longest due first.
    pub(super) fn due(&self, bug: Bug, take: &Take, now: Timestamp) -> Vec<(OperationId, Record)> {
        let mut due: Vec<_> = self.rows.iter().collect();
        let now = soon(bug, now);
        due.retain(|(_, row)| {
            let named = take.names.iter().any(|name| name.name == *row.record.operation.name());
            (named || bug == Bug::TakesAnyName) && row.record.wake_at.is_some_and(|at| at <= now)
        });
        due.sort_by_key(|(_, row)| (row.record.wake_at, row.position));
        if bug == Bug::TakesNewestFirst {
            due.reverse();
        }
        due.into_iter().map(|(id, row)| (*id, row.record.clone())).collect()
    }

    /// Takes the records that were seen, be they still as they were or not.
    pub(super) fn take(&mut self, bug: Bug, take: &Take, seen: Vec<(OperationId, Record)>, now: Timestamp) -> Taken {
        let limit = if take.alone { 1 } else { take.limit };
        let mut taken = Taken {
            now,
            work: vec![],
            ended: vec![],
            suspects: false,
            more: false,
        };
        if take.again && bug != Bug::TakeLosesToItself {
            let mine = self.rows.values().filter_map(|row| {
                let lease = row.record.taken_by(take, now)?;
                Some(Work::Run(Box::new(row.record.clone()), lease))
            });
            taken.work.extend(mine);
        }
        let mut put_off = 0;
        for (id, record) in seen {
            let named = take.names.iter().find(|name| name.name == *record.operation.name());
            let Some(name) = named.or(take.names.first()) else {
                continue;
            };
            let enough = put_off >= Take::MOST_PUT_OFF && bug != Bug::UnboundedTake;
            if taken.work.len() >= limit || enough {
                taken.more = bug != Bug::NeverMore;
                break;
            }
            let fence = self.next_fence(bug);
            let mut name = name.clone();
            name.crashes_count &= bug != Bug::SuspectsRunBesideOthers;
            let before = self.before(bug, id, &name);
            match record.take(take, &name, before, fence, soon(bug, now)) {
                TakeVerdict::Run(record, lease) => {
                    self.write(id, (*record).clone());
                    taken.work.push(Work::Run(record, lease));
                }
                TakeVerdict::Resolve(record) => {
                    self.write(id, (*record).clone());
                    taken.work.push(Work::Resolve(record));
                }
                TakeVerdict::Becomes(record) => {
                    self.write(id, (*record).clone());
                    taken.ended.push(*record);
                }
                TakeVerdict::Suspect => taken.suspects = true,
                TakeVerdict::Leave => {}
                TakeVerdict::Later(at) => {
                    put_off += 1;
                    let wake_at = Some(at);
                    self.write(id, Record { wake_at, ..record });
                }
            }
        }
        taken
    }

    /// How many records are before this one in its line.
    fn before(&self, bug: Bug, id: OperationId, name: &TakeName) -> usize {
        let Some(row) = self.rows.get(&id) else { return 0 };
        let Some(group) = row.record.line(name).filter(|_| bug != Bug::IgnoresOrder) else {
            return 0;
        };
        let older = self.rows.values().filter(|other| {
            let settled = match other.record.state {
                State::Dead { .. } => bug == Bug::DeadPassesTurn,
                State::Done(_) => true,
                _ => false,
            };
            let in_line = bug != Bug::OrderOfOneName || other.record.operation.name() == &name.name;
            other.record.group == Some(group) && other.position < row.position && !settled && in_line
        });
        older.take(2).count()
    }

    /// Wakes the next of the group of a record that is done.
    pub(super) fn pass_turn(&mut self, bug: Bug, id: OperationId, now: Timestamp) {
        let Some(row) = self.rows.get(&id).filter(|row| row.record.is_done()) else {
            return;
        };
        let (Some(group), position) = (row.record.group, row.position) else {
            return;
        };
        let behind = self
            .rows
            .values_mut()
            .filter(|other| other.record.group == Some(group) && other.position > position && !other.record.is_done());
        let next = behind.min_by_key(|row| row.position).filter(|_| bug != Bug::KeepsTurn);
        if let Some(next) = next
            && let Some(at) = next.record.turn(now)
        {
            next.record.wake_at = Some(at);
        }
    }

    pub(super) fn amend(&mut self, bug: Bug, id: OperationId, mut amendment: Amendment, now: Timestamp) -> Amended {
        let Some(record) = self.record(id).cloned() else {
            return Amended::Absent;
        };
        let mut seen = record.clone();
        match (bug, &mut amendment.amend, &record.state) {
            (
                Bug::RedrivesUndone,
                Amend::Redrive,
                State::Dead {
                    reason: DeadReason::Undone,
                    ..
                },
            )
            | (Bug::RedrivesDone, Amend::Redrive, State::Done(_)) => {
                seen.state = State::Dead {
                    reason: DeadReason::Refused,
                    answer: None,
                };
            }
            (
                Bug::BelievesNotDoneTooSoon,
                Amend::Resolve {
                    resolution: Resolution::NotDone,
                    settle,
                },
                _,
            ) => *settle = Duration::ZERO,
            _ => {}
        }
        let fence = self.next_fence(bug);
        let fence = if bug == Bug::AmendKeepsFence {
            record.fence
        } else {
            fence
        };
        let mut entry = AuditEntry {
            at: now,
            operation: record.operation.clone(),
            action: amendment.amend.as_str().to_owned(),
            audit: amendment.audit.clone(),
            before: record.lapsed(now).as_ref().unwrap_or(&record).state.name(),
            after: None,
        };
        let id = self.id(id);
        let amended = match seen.amend(&amendment, fence, now) {
            AmendVerdict::Forget => {
                self.rows.remove(&id);
                Amended::Forgotten
            }
            AmendVerdict::Becomes(record) => {
                entry.after = Some(record.state.name());
                self.write(id, (*record).clone());
                self.pass_turn(bug, id, now);
                Amended::Became(record)
            }
            AmendVerdict::Refuse(state) => return Amended::Refused(state),
            AmendVerdict::Changed(state) => return Amended::Changed(state),
            AmendVerdict::Unsettled(until) => return Amended::Unsettled(until),
        };
        if bug != Bug::AmendUnaudited {
            self.audit.push(entry);
        }
        amended
    }

    pub(super) fn audit(&self, id: Option<OperationId>, after: Option<Cursor>, limit: usize) -> AuditPage {
        let start = after.map_or(0, |after| after.0);
        let numbered = (1_i64..).zip(&self.audit);
        let mut found: Vec<_> = numbered
            .filter(|(number, entry)| *number > start && id.is_none_or(|id| entry.operation.id() == id))
            .collect();
        let limit = limit.clamp(1, 1000);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(number, _)| Cursor(*number));
        (found.into_iter().map(|(_, entry)| entry.clone()).collect(), next)
    }

    pub(super) fn census(&self, bug: Bug, scopes: bool, now: Timestamp) -> Census {
        let mut census = Census::default();
        let mut counts = BTreeMap::new();
        for row in self.rows.values() {
            let summary = Summary::of(&row.record, now);
            let (due, since) = (row.record.wake_at.filter(|at| *at <= now), Some(summary.since));
            match summary.state {
                StateName::Waiting => {
                    census.waiting += 1;
                    let dues = [census.oldest_due, due].into_iter().flatten();
                    census.oldest_due = if bug == Bug::LatestIsOldest {
                        dues.max()
                    } else {
                        dues.min()
                    };
                }
                StateName::Unknown if row.record.wake_at.is_some() => {
                    census.unknown += 1;
                    census.oldest_unknown = [census.oldest_unknown, since].into_iter().flatten().min();
                }
                StateName::Dead => census.dead += 1,
                StateName::Unknown | StateName::Running | StateName::Done => {}
            }
            *counts.entry(row.record.operation.scope().clone()).or_insert(0) += 1;
        }
        if scopes {
            census.scopes = counts.into_iter().collect();
        }
        census
    }
}
