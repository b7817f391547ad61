//! What runners ask: operations laid before them, and work taken in the order in which it is due.

use std::collections::VecDeque;

use hapax_core::record::{EnqueueVerdict, TakeVerdict};
use hapax_core::{Enqueue, Enqueued, Fence, OperationId, Record, StateName, Take, TakeName, Taken, Timestamp, Work};
use rusqlite::params;

use super::super::row;
use super::{Batch, Failure, Outcome, find, millis, number};

/// Records that one portion of a take looks at: few enough that requests which share its transaction do not feel it,
/// however many suspects there are to be passed over.
const LOOKS: usize = 256;
/// Entries of the index that are read ahead for one name and state.
const PAGE: usize = 32;

/// Where a take stands that goes in portions.
#[derive(Debug, Clone, Copy)]
pub(in crate::sqlite) struct Spot {
    /// What was due then is looked at: what comes due while the take goes on is for the next one. `None` before the
    /// first portion.
    until: Option<Timestamp>,
    /// Due times and positions up to this have been looked at.
    after: (i64, i64),
    /// How many more records are wanted.
    wanted: usize,
    /// How many records were put off.
    put_off: usize,
}

impl Spot {
    /// Where a take begins.
    pub(in crate::sqlite) fn first(take: &Take) -> Self {
        Self {
            until: None,
            after: (i64::MIN, 0),
            wanted: if take.alone { 1 } else { take.limit },
            put_off: 0,
        }
    }
}

/// What one portion of a take found, and where the next begins; `None` if it was the last.
#[derive(Debug)]
pub(in crate::sqlite) struct Portion {
    pub(in crate::sqlite) taken: Taken,
    pub(in crate::sqlite) rest: Option<Spot>,
}

impl Batch<'_, '_> {
    pub(in crate::sqlite) fn enqueue(&mut self, enqueue: &Enqueue) -> Outcome<Enqueued> {
        let now = self.now;
        let fence = self.last_fence + 1;
        if let EnqueueVerdict::Write(record) = Record::enqueue(None, enqueue, Fence::new(fence as u64), now)
            && self.enqueue_fresh(&record, enqueue)?
        {
            self.last_fence = fence;
            return Ok(Enqueued { now, refusal: None });
        }
        let Some((position, before)) = find(&mut self.sql.known, enqueue.operation.id().as_bytes())? else {
            return Err(Failure::guard("enqueue_fresh"));
        };
        let refusal = match Record::enqueue(Some(&before), enqueue, Fence::new(fence as u64), now) {
            EnqueueVerdict::Write(next) => {
                self.last_fence = fence;
                self.write(position, &before, &next)?;
                self.look_again(position, Record::first_look_enqueued(enqueue, now))?;
                None
            }
            EnqueueVerdict::Already => None,
            EnqueueVerdict::Lapse(next) => {
                self.write(position, &before, &next)?;
                Some(next.refusal(now))
            }
            EnqueueVerdict::Refuse(refusal) => Some(refusal),
        };
        Ok(Enqueued { now, refusal })
    }

    fn enqueue_fresh(&mut self, record: &Record, enqueue: &Enqueue) -> Outcome<bool> {
        let operation = &record.operation;
        let inserted = self.sql.enqueue_fresh.execute(params![
            number(record.fence),
            operation.id().as_bytes(),
            operation.scope().as_str(),
            operation.name().as_str(),
            operation.key().as_str(),
            record.fingerprint.recipe().get(),
            record.fingerprint.digest(),
            record.attempt.as_bytes(),
            record.created.as_millis(),
            millis(record.retention.replay_for),
            millis(record.retention.remember_for),
            record.wake_at.map(Timestamp::as_millis),
            Record::first_look_enqueued(enqueue, self.now).as_millis(),
            &enqueue.input.0[..],
            enqueue.group.as_ref().map(OperationId::as_bytes),
        ])?;
        if inserted == 0 {
            return Ok(false);
        }
        self.changed = true;
        self.namespaces.add(operation, self.sql)?;
        Ok(true)
    }

    /// Takes what is due from a spot on.
    pub(in crate::sqlite) fn take(&mut self, take: &Take, spot: Spot) -> Outcome<Portion> {
        let mut taken = Taken {
            now: self.now,
            work: Vec::new(),
            ended: Vec::new(),
            suspects: false,
            more: false,
        };
        if spot.until.is_none() && take.again {
            taken.work = self.taken_before(take)?;
        }
        let mut spot = Spot {
            until: Some(spot.until.unwrap_or(self.now)),
            wanted: spot.wanted.saturating_sub(taken.work.len()),
            ..spot
        };
        // Only what was running can be suspect.
        let states: &[StateName] = if take.alone { &SUSPECTS } else { &TAKEABLE };
        let mut due = Due::new(take, states, spot);
        for _ in 0..LOOKS {
            if spot.wanted == 0 || spot.put_off >= Take::MOST_PUT_OFF {
                taken.more = Due::new(take, &TAKEABLE, spot).next(self)?.is_some();
                return Ok(Portion { taken, rest: None });
            }
            let Some((state, name, at, position)) = due.next(self)? else {
                return Ok(Portion { taken, rest: None });
            };
            let before = taken.work.len();
            let put_off = self.take_one(take, name, state, position, &mut taken)?;
            spot.put_off += usize::from(put_off);
            spot.after = (at, position);
            spot.wanted -= taken.work.len() - before;
        }
        Ok(Portion {
            taken,
            rest: Some(spot),
        })
    }

    /// True if the record was only put off.
    fn take_one(
        &mut self,
        take: &Take,
        name: &TakeName,
        state: StateName,
        position: i64,
        taken: &mut Taken,
    ) -> Outcome<bool> {
        let fence = self.last_fence + 1;
        // Suspects are looked at again and again: without their inputs, which can be large.
        let mut light = state == StateName::Running;
        let (record, verdict) = loop {
            let statement = if light {
                &mut self.sql.summary_at
            } else {
                &mut self.sql.record_at
            };
            let Some((_, record)) = find(statement, position)? else {
                return Err(Failure::guard("record_at"));
            };
            let before = self.before(&record, name, position)?;
            match record.take(take, name, before, Fence::new(fence as u64), self.now) {
                TakeVerdict::Run(..) | TakeVerdict::Resolve(_) | TakeVerdict::Becomes(_) if light => light = false,
                verdict => break (record, verdict),
            }
        };
        match verdict {
            TakeVerdict::Run(next, lease) => {
                self.write(position, &record, &next)?;
                self.last_fence = fence;
                taken.work.push(Work::Run(next, lease));
            }
            TakeVerdict::Resolve(next) => {
                self.write(position, &record, &next)?;
                taken.work.push(Work::Resolve(next));
            }
            TakeVerdict::Becomes(next) => {
                self.write(position, &record, &next)?;
                taken.ended.push(*next);
            }
            TakeVerdict::Suspect => taken.suspects = true,
            TakeVerdict::Leave => {}
            TakeVerdict::Later(at) => {
                let state = record.state.name().as_str();
                let wake_later = &mut self.sql.wake_later;
                let updated = wake_later.execute(params![position, number(record.fence), state, at.as_millis()])?;
                self.wrote(updated, "wake_later")?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many records are before this one in its line, counted up to two.
    fn before(&mut self, record: &Record, name: &TakeName, position: i64) -> Outcome<usize> {
        match record.line(name) {
            Some(group) => {
                let line_before = &mut self.sql.line_before;
                let before: u32 = line_before.query_row(params![group.as_bytes(), position], |row| row.get(0))?;
                Ok(before as usize)
            }
            None => Ok(0),
        }
    }

    /// What the same attempt took before, and still holds.
    fn taken_before(&mut self, take: &Take) -> Outcome<Vec<Work>> {
        let mut rows = self.sql.taken_before.query([take.attempt.as_bytes()])?;
        let mut work = Vec::new();
        while let Some(row) = rows.next()? {
            let (_, record) = row::record(row)?;
            if let Some(lease) = record.taken_by(take, self.now) {
                work.push(Work::Run(Box::new(record), lease));
            }
        }
        Ok(work)
    }
}

const SUSPECTS: [StateName; 1] = [StateName::Running];
const TAKEABLE: [StateName; 3] = [StateName::Running, StateName::Waiting, StateName::Unknown];

/// What is due of all names and states asked for, merged in the order of due times, then of age.
struct Due<'t> {
    streams: Vec<Stream<'t>>,
    until: Timestamp,
}

/// What is due of one name in one state, read page by page.
struct Stream<'t> {
    name: &'t TakeName,
    state: StateName,
    /// Due times and positions.
    ahead: VecDeque<(i64, i64)>,
    /// The last that was read.
    last: (i64, i64),
    ended: bool,
}

impl<'t> Due<'t> {
    fn new(take: &'t Take, states: &[StateName], spot: Spot) -> Self {
        // Of a name given twice, the first counts.
        let names = take.names.iter().enumerate().filter(|(index, name)| {
            let mut earlier = take.names[..*index].iter();
            earlier.all(|earlier| earlier.name != name.name)
        });
        let streams = names.flat_map(|(_, name)| {
            states.iter().map(move |state| Stream {
                name,
                state: *state,
                ahead: VecDeque::new(),
                last: spot.after,
                ended: false,
            })
        });
        Self {
            streams: streams.collect(),
            until: spot.until.unwrap_or(Timestamp::FOREVER),
        }
    }

    fn next(&mut self, batch: &mut Batch<'_, '_>) -> Outcome<Option<(StateName, &'t TakeName, i64, i64)>> {
        for stream in &mut self.streams {
            if stream.ahead.is_empty() && !stream.ended {
                stream.read(self.until, batch)?;
            }
        }
        let heads = self.streams.iter_mut().filter(|stream| !stream.ahead.is_empty());
        let first = heads.min_by_key(|stream| stream.ahead[0]);
        Ok(first.and_then(|stream| {
            let (at, position) = stream.ahead.pop_front()?;
            Some((stream.state, stream.name, at, position))
        }))
    }
}

impl Stream<'_> {
    fn read(&mut self, until: Timestamp, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        let (at, position) = self.last;
        let mut rows = batch.sql.next_woken.query(params![
            self.name.name.as_str(),
            self.state.as_str(),
            until.as_millis(),
            at,
            position,
            PAGE as i64,
        ])?;
        while let Some(row) = rows.next()? {
            self.ahead.push_back((row.get(0)?, row.get(1)?));
        }
        match self.ahead.back() {
            Some(last) => self.last = *last,
            None => self.ended = true,
        }
        self.ended |= self.ahead.len() < PAGE;
        Ok(())
    }
}
