//! Work for runners. One statement starts what simply waits, and shows what else is due; [`Record::take`] decides on
//! that, and what it decides is written only to records that did not change meanwhile.

use std::collections::HashSet;

use hapax_core::record::TakeVerdict;
use hapax_core::time::millis;
use hapax_core::{Fence, Lease, OperationId, Record, State, Take, TakeName, Taken, Timestamp, Work};
use tokio_postgres::Row;

use super::failure::Failure;
use super::link::{Link, Param};
use super::rows;
use super::runs::read;
use super::statements::{LINE, TAKE, TAKE_ORDERED, TAKEN, TURNED};
use super::time::Reading;
use super::writes::{Write, write};
use crate::clock::Clock;

/// The most records that one statement looks at.
const PASS: usize = 1000;

pub(super) async fn take(link: &mut Link, clock: &Clock, take: &Take) -> Result<Taken, Failure> {
    let limit = if take.alone { 1 } else { take.limit };
    let names = names(take);
    let mut taken = Taken {
        now: Timestamp::from_millis(0),
        work: Vec::new(),
        ended: Vec::new(),
        suspects: false,
        more: false,
    };
    if take.again {
        taken_before(link, clock, take, &mut taken).await?;
    }
    let mut after = (i64::MIN, i64::MIN);
    let mut put_off = 0;
    loop {
        let room = limit.saturating_sub(taken.work.len()).min(PASS);
        let look = look(link, clock, take, &names, after, room).await?;
        taken.now = look.now;
        let full = look.found.len() == room;
        if let Some(last) = look.found.last() {
            after = last.place;
        }
        let behind: Vec<OperationId> = look.found.iter().filter(|f| f.is_behind).map(|f| f.id).collect();
        put_off += behind.len();
        taken.more |= turned(link, &behind).await?;
        settle(link, clock, take, &names, look.found, &mut taken).await?;
        if taken.work.len() >= limit {
            // The next one may be due too.
            taken.more = true;
            return Ok(taken);
        }
        if !full {
            return Ok(taken);
        }
        if put_off >= Take::MOST_PUT_OFF {
            taken.more = true;
            return Ok(taken);
        }
    }
}

/// Whether the turn of any of those that were just put off came meanwhile. It is woken: whoever ended what was before it
/// may have found it held by this take, and left it.
async fn turned(link: &mut Link, put_off: &[OperationId]) -> Result<bool, Failure> {
    if put_off.is_empty() {
        return Ok(false);
    }
    let ids: Vec<&[u8]> = put_off.iter().map(|id| id.as_bytes().as_slice()).collect();
    Ok(!link.run(&TURNED, &[&ids]).await?.is_empty())
}

/// The names to look for. Only where a crash counts are there suspects.
fn names(take: &Take) -> Vec<&TakeName> {
    let mut seen = HashSet::new();
    let first = take.names.iter().filter(|name| seen.insert(&name.name));
    first.filter(|name| !take.alone || name.crashes_count).collect()
}

/// What a look showed, the longest due first.
struct Look {
    now: Timestamp,
    found: Vec<Found>,
}

struct Found {
    id: OperationId,
    /// Its place in the order of runners.
    place: (i64, i64),
    /// The record, if the look started it.
    started: Option<(Record, Lease)>,
    /// The look put it off, since others of its group are before it.
    is_behind: bool,
}

async fn look(
    link: &mut Link,
    clock: &Clock,
    take: &Take,
    names: &[&TakeName],
    after: (i64, i64),
    limit: usize,
) -> Result<Look, Failure> {
    let words: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    let leases: Vec<i64> = names.iter().map(|name| millis(name.lease)).collect();
    let max_runs: Vec<i64> = names.iter().map(|name| millis(name.max_run)).collect();
    let after_failures: Vec<&str> = names.iter().map(|name| name.after_failure.as_str()).collect();
    let tries: Vec<i64> = names.iter().map(|name| i64::from(name.tries)).collect();
    let attempt = take.attempt.as_bytes().as_slice();
    let limit = limit as i64;
    let reading = Reading::begin(clock);
    let ordered: Vec<bool> = names.iter().map(|name| name.ordered).collect();
    let (turn, line) = (millis(Record::TURN_PAUSE), millis(Record::LINE_PAUSE));
    let mut params = reading.params(&[
        &after.0,
        &after.1,
        &words,
        &take.alone,
        &limit,
        &leases,
        &max_runs,
        &after_failures,
        &tries,
        &attempt,
    ]);
    let keeps_order = ordered.contains(&true);
    if keeps_order {
        params.extend([&ordered as Param<'_>, &turn, &line]);
    }
    let sql = if keeps_order { &TAKE_ORDERED } else { &TAKE };
    let rows = link.run(sql, &params).await?;
    let corrupt = |what| Failure::corrupt(what, &link.target().label);
    let now = reading.end(clock, rows.first().ok_or_else(|| corrupt("no time"))?);
    let found: Result<Vec<_>, _> = rows
        .iter()
        .filter_map(|row| found(row, keeps_order).transpose())
        .collect();
    let mut found = found.map_err(corrupt)?;
    found.sort_unstable_by_key(|found| found.place);
    Ok(Look { now, found })
}

/// A row of `take.sql`, `taken.sql` or, with one more column, `take_ordered.sql`; `None` where they have only the time
/// to tell.
fn found(row: &Row, keeps_order: bool) -> Result<Option<Found>, &'static str> {
    const ID: usize = 2;
    const OPERATION: usize = 5;
    const RECORD: usize = 8;
    const IS_BEHIND: usize = RECORD + rows::COLUMNS;
    let Some(id) = row.get::<_, Option<&[u8]>>(ID) else {
        return Ok(None);
    };
    let id: [u8; 16] = id.try_into().map_err(|_| "an identity of another length")?;
    let started = match row.get::<_, Option<&str>>(OPERATION) {
        Some(_) => {
            let record = rows::full_record(row, RECORD, rows::operation(row, OPERATION)?)?;
            let lease = lease(&record).ok_or("a record that was started and does not run")?;
            Some((record, lease))
        }
        None => None,
    };
    Ok(Some(Found {
        id: OperationId::from_bytes(id),
        place: (row.get(ID + 1), row.get(ID + 2)),
        started,
        is_behind: keeps_order && row.get(IS_BEHIND),
    }))
}

fn lease(record: &Record) -> Option<Lease> {
    match record.state {
        State::Running {
            deadline, run_until, ..
        } => Some(Lease {
            fence: record.fence,
            deadline,
            run_until,
            tries: record.tries,
        }),
        _ => None,
    }
}

async fn taken_before(link: &mut Link, clock: &Clock, take: &Take, taken: &mut Taken) -> Result<(), Failure> {
    let reading = Reading::begin(clock);
    let attempt = take.attempt.as_bytes().as_slice();
    let rows = link.run(&TAKEN, &reading.params(&[&attempt])).await?;
    let corrupt = |what| Failure::corrupt(what, &link.target().label);
    reading.end(clock, rows.first().ok_or_else(|| corrupt("no time"))?);
    let found: Result<Vec<_>, _> = rows.iter().filter_map(|row| found(row, false).transpose()).collect();
    let mut found = found.map_err(corrupt)?;
    // The oldest record first.
    found.sort_unstable_by_key(|found| found.place.1);
    let held = found.into_iter().filter_map(|found| found.started);
    taken
        .work
        .extend(held.map(|(record, lease)| Work::Run(Box::new(record), lease)));
    Ok(())
}

/// Adds what was found, in its order, after deciding on what was not started.
async fn settle(
    link: &mut Link,
    clock: &Clock,
    take: &Take,
    names: &[&TakeName],
    found: Vec<Found>,
    taken: &mut Taken,
) -> Result<(), Failure> {
    let rest: Vec<OperationId> = found
        .iter()
        .filter(|found| found.started.is_none() && !found.is_behind)
        .map(|found| found.id)
        .collect();
    let mut decided = decide(link, clock, take, names, &rest).await?.into_iter();
    for found in found {
        if let Some((record, lease)) = found.started {
            taken.work.push(Work::Run(Box::new(record), lease));
            continue;
        }
        if found.is_behind {
            continue;
        }
        match decided.next() {
            Some(Decided::Work(work)) => taken.work.push(work),
            Some(Decided::Ended(record)) => taken.ended.push(*record),
            Some(Decided::Suspect) => taken.suspects = true,
            Some(Decided::Raced) => taken.more = true,
            Some(Decided::Left) | None => {}
        }
    }
    Ok(())
}

/// What became of a record that was due and was not simply waiting.
enum Decided {
    Work(Work),
    Ended(Box<Record>),
    Suspect,
    /// It changed meanwhile, and may be due again.
    Raced,
    Left,
}

async fn decide(
    link: &mut Link,
    clock: &Clock,
    take: &Take,
    names: &[&TakeName],
    ids: &[OperationId],
) -> Result<Vec<Decided>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (now, records) = read(link, clock, ids).await?;
    let before = before(link, names, &records).await?;
    // The fence is drawn where the record is written.
    let verdicts: Vec<Option<TakeVerdict>> = records
        .iter()
        .zip(&before)
        .map(|(record, before)| {
            // One that was settled meanwhile is no runner's business.
            let record = record.as_ref().filter(|record| record.wake_at.is_some())?;
            let name = names.iter().find(|name| name.name == *record.operation.name())?;
            Some(record.take(take, name, *before, Fence::new(0), now))
        })
        .collect();
    let later: Vec<Option<Record>> = records.iter().zip(&verdicts).map(postponed).collect();
    let mut writes = Vec::new();
    let mut writers = Vec::new();
    for (index, verdict) in verdicts.iter().enumerate() {
        let (after, new_fence) = match verdict {
            Some(TakeVerdict::Run(after, _)) => (Some(&**after), true),
            Some(TakeVerdict::Resolve(after) | TakeVerdict::Becomes(after)) => (Some(&**after), false),
            _ => (later[index].as_ref(), false),
        };
        if let (Some(before), Some(after)) = (&records[index], after) {
            writers.push(index);
            writes.push(Write {
                new_fence,
                ..Write::new(before, after)
            });
        }
    }
    let mut fences: Vec<Option<Fence>> = vec![None; ids.len()];
    for (index, fence) in writers.into_iter().zip(write(link, &writes).await?) {
        fences[index] = fence;
    }
    let decided = verdicts.into_iter().zip(fences).zip(later);
    Ok(decided
        .map(|((verdict, fence), later)| outcome(verdict, fence, later.is_some()))
        .collect())
}

/// How many records are before each of these in its line, counted up to two.
async fn before(link: &mut Link, names: &[&TakeName], records: &[Option<Record>]) -> Result<Vec<usize>, Failure> {
    let mut before = vec![0; records.len()];
    let in_line = |record: &Record| {
        names
            .iter()
            .any(|name| name.name == *record.operation.name() && record.line(name).is_some())
    };
    let waiting: Vec<(usize, OperationId)> = records
        .iter()
        .enumerate()
        .filter_map(|(index, record)| Some((index, record.as_ref().filter(|record| in_line(record))?.operation.id())))
        .collect();
    if waiting.is_empty() {
        return Ok(before);
    }
    let ids: Vec<&[u8]> = waiting.iter().map(|(_, id)| id.as_bytes().as_slice()).collect();
    for row in link.run(&LINE, &[&ids]).await? {
        let (n, count): (i64, i64) = (row.get(0), row.get(1));
        before[waiting[n as usize - 1].0] = count as usize;
    }
    Ok(before)
}

/// The record with the time of its next look, where that moves.
fn postponed((record, verdict): (&Option<Record>, &Option<TakeVerdict>)) -> Option<Record> {
    match (record, verdict) {
        (Some(record), Some(TakeVerdict::Later(at))) if record.wake_at != Some(*at) => Some(Record {
            wake_at: Some(*at),
            ..record.clone()
        }),
        _ => None,
    }
}

/// `written` is the fence of the record that was written.
fn outcome(verdict: Option<TakeVerdict>, written: Option<Fence>, postponed: bool) -> Decided {
    match (verdict, written) {
        (Some(TakeVerdict::Run(mut record, mut lease)), Some(fence)) => {
            record.fence = fence;
            lease.fence = fence;
            Decided::Work(Work::Run(record, lease))
        }
        (Some(TakeVerdict::Resolve(record)), Some(_)) => Decided::Work(Work::Resolve(record)),
        (Some(TakeVerdict::Becomes(record)), Some(_)) => Decided::Ended(record),
        (Some(TakeVerdict::Suspect), _) => Decided::Suspect,
        (Some(TakeVerdict::Run(..) | TakeVerdict::Resolve(_) | TakeVerdict::Becomes(_)), None) => Decided::Raced,
        (Some(TakeVerdict::Later(_)), None) if postponed => Decided::Raced,
        (Some(TakeVerdict::Later(_) | TakeVerdict::Leave) | None, _) => Decided::Left,
    }
}
