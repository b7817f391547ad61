//! Renewals and finishes of those who run, and reads.

use std::time::Duration;

use hapax_core::record::{FinishVerdict, RenewVerdict};
use hapax_core::time::millis;
use hapax_core::{Answer, Fence, Finish, Finished, LastError, OperationId, Outcome, Record, Renewed, Timestamp};

use tokio_postgres::Row;

use super::failure::Failure;
use super::lanes::Step;
use super::link::Link;
use super::rows;
use super::statements::{FINISH, FINISH_DONE, PASS_TURN, READ, RENEW};
use super::time::Reading;
use crate::clock::Clock;

/// Ends a run.
pub(super) struct FinishStep {
    pub(super) id: OperationId,
    pub(super) fence: Fence,
    pub(super) finish: Finish,
}

impl Step for FinishStep {
    type Answer = Finished;
    const NAME: &'static str = "finish";
    const UNHEARD: bool = true;

    fn id(&self) -> OperationId {
        self.id
    }

    fn weight(&self) -> usize {
        answer(&self.finish).map_or(0, Answer::size)
    }

    async fn carry_out(link: &mut Link, clock: &Clock, batch: &[&Self]) -> Result<Vec<Option<Finished>>, Failure> {
        let ids: Vec<&[u8]> = batch.iter().map(|step| step.id.as_bytes().as_slice()).collect();
        let fences: Vec<i64> = batch.iter().map(|step| step.fence.get() as i64).collect();
        let reasons: Vec<Option<&str>> = batch.iter().map(|step| reason(&step.finish)).collect();
        let answers: Vec<Option<&Answer>> = batch.iter().map(|step| answer(&step.finish)).collect();
        let statuses: Vec<Option<i32>> = answers.iter().map(|a| a.map(|a| i32::from(a.status))).collect();
        let headers: Vec<_> = answers.iter().map(|a| a.map(Answer::encode_headers)).collect();
        let headers: Vec<Option<&[u8]>> = headers.iter().map(Option::as_deref).collect();
        let bodies: Vec<Option<&[u8]>> = answers.iter().map(|a| a.map(|a| a.body.as_ref())).collect();

        let reading = Reading::begin(clock);
        let rows = if batch.iter().all(|step| matches!(step.finish, Finish::Done(_))) {
            let params = reading.params(&[&ids, &fences, &reasons, &statuses, &headers, &bodies]);
            link.run(&FINISH_DONE, &params).await?
        } else {
            let states: Vec<&str> = batch.iter().map(|step| state(&step.finish)).collect();
            let afters: Vec<Option<i64>> = batch.iter().map(|step| after(&step.finish)).collect();
            let errors: Vec<Option<&str>> = batch.iter().map(|step| last_error(&step.finish)).collect();
            let give_back: Vec<bool> = batch.iter().map(|step| gives_back(&step.finish)).collect();
            let params = reading.params(&[
                &ids, &fences, &states, &afters, &reasons, &statuses, &headers, &bodies, &errors, &give_back,
            ]);
            link.run(&FINISH, &params).await?
        };
        let mut finished: Vec<Option<Finished>> = batch.iter().map(|_| None).collect();
        let mut passing = Vec::new();
        for row in rows {
            let now = reading.end(clock, &row);
            let place = place(&row);
            finished[place] = Some(Finished::Applied { now });
            if row.get(PASSES) {
                passing.push(batch[place].id);
            }
        }
        pass_turn(link, clock, &passing).await;
        for (index, now, record) in left_over(link, clock, batch, &finished).await? {
            let step = batch[index];
            finished[index] = match record
                .as_ref()
                .map(|record| record.finish(step.fence, &step.finish, now))
            {
                // Somebody was faster with something that leaves room for this finish.
                Some(FinishVerdict::Becomes(_)) => None,
                Some(FinishVerdict::Already) => record.map(|record| Finished::Already {
                    now,
                    record: Box::new(record),
                }),
                Some(FinishVerdict::Fenced) | None => Some(Finished::Fenced {
                    now,
                    record: record.map(Box::new),
                }),
            };
        }
        Ok(finished)
    }
}

/// Column of `finish.sql` and `finish_done.sql`.
const PASSES: usize = 3;

/// Wakes the next of the groups of these records, which are done. That is known already, so that a failure only costs
/// those who wait the rest of their pause.
pub(super) async fn pass_turn(link: &mut Link, clock: &Clock, done: &[OperationId]) {
    if done.is_empty() {
        return;
    }
    let ids: Vec<&[u8]> = done.iter().map(|id| id.as_bytes().as_slice()).collect();
    let reading = Reading::begin(clock);
    if let Err(failure) = link.run(&PASS_TURN, &reading.params(&[&ids])).await {
        tracing::debug!(
            message = failure.message,
            "the next of a group will wake a little later"
        );
    }
}

fn state(finish: &Finish) -> &'static str {
    match finish {
        Finish::Done(_) => "done",
        Finish::Release { .. } => "waiting",
        Finish::Unknown { .. } => "unknown",
        Finish::Dead { .. } => "dead",
    }
}

fn after(finish: &Finish) -> Option<i64> {
    match finish {
        Finish::Release { after, .. } => Some(millis(*after)),
        _ => None,
    }
}

fn reason(finish: &Finish) -> Option<&'static str> {
    match finish {
        Finish::Done(Outcome::NotKept(why)) => Some(why.as_str()),
        Finish::Unknown { .. } => Some(hapax_core::Cause::Ambiguous.as_str()),
        Finish::Dead { reason, .. } => Some(reason.as_str()),
        Finish::Done(Outcome::Answer(_)) | Finish::Release { .. } => None,
    }
}

fn answer(finish: &Finish) -> Option<&Answer> {
    match finish {
        Finish::Done(Outcome::Answer(answer)) => Some(answer),
        Finish::Unknown { answer, .. } | Finish::Dead { answer, .. } => answer.as_ref(),
        Finish::Done(Outcome::NotKept(_)) | Finish::Release { .. } => None,
    }
}

fn last_error(finish: &Finish) -> Option<&str> {
    finish.last_error().map(LastError::as_str)
}

/// Whether a start by the system is no try.
fn gives_back(finish: &Finish) -> bool {
    matches!(finish, Finish::Release { counts: false, .. })
}

/// Extends a lease.
pub(super) struct RenewStep {
    pub(super) id: OperationId,
    pub(super) fence: Fence,
    pub(super) lease: Duration,
}

impl Step for RenewStep {
    type Answer = Renewed;
    const NAME: &'static str = "renew";

    fn id(&self) -> OperationId {
        self.id
    }

    async fn carry_out(link: &mut Link, clock: &Clock, batch: &[&Self]) -> Result<Vec<Option<Renewed>>, Failure> {
        let ids: Vec<&[u8]> = batch.iter().map(|step| step.id.as_bytes().as_slice()).collect();
        let fences: Vec<i64> = batch.iter().map(|step| step.fence.get() as i64).collect();
        let leases: Vec<i64> = batch.iter().map(|step| millis(step.lease)).collect();
        let reading = Reading::begin(clock);
        let params = reading.params(&[&ids, &fences, &leases]);
        let mut renewed: Vec<Option<Renewed>> = vec![None; batch.len()];
        for row in link.run(&RENEW, &params).await? {
            reading.end(clock, &row);
            renewed[place(&row)] = Some(Renewed::Until(Timestamp::from_millis(row.get(3))));
        }
        for (index, now, record) in left_over(link, clock, batch, &renewed).await? {
            let step = batch[index];
            renewed[index] = match record.map(|record| record.renew(step.fence, step.lease, now)) {
                Some(RenewVerdict::Until(_)) => None,
                Some(RenewVerdict::Over) => Some(Renewed::Over),
                Some(RenewVerdict::Fenced) | None => Some(Renewed::Fenced),
            };
        }
        Ok(renewed)
    }
}

/// Which operation of the batch a row is about: its third column counts from one.
pub(super) fn place(row: &Row) -> usize {
    row.get::<_, i64>(2) as usize - 1
}

/// The records of those steps that changed nothing, with their places in the batch.
async fn left_over<S: Step>(
    link: &mut Link,
    clock: &Clock,
    batch: &[&S],
    answers: &[Option<S::Answer>],
) -> Result<Vec<(usize, Timestamp, Option<Record>)>, Failure> {
    let places: Vec<usize> = (0..batch.len()).filter(|index| answers[*index].is_none()).collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<OperationId> = places.iter().map(|index| batch[*index].id()).collect();
    let (now, records) = read(link, clock, &ids).await?;
    let found = places.into_iter().zip(records);
    Ok(found.map(|(index, record)| (index, now, record)).collect())
}

/// Reads a record, or only the time.
pub(super) struct ReadStep(pub(super) Option<OperationId>);

impl Step for ReadStep {
    type Answer = (Timestamp, Option<Record>);
    const NAME: &'static str = "read";

    fn id(&self) -> OperationId {
        self.0.unwrap_or(OperationId::from_bytes([0; 16]))
    }

    async fn carry_out(link: &mut Link, clock: &Clock, batch: &[&Self]) -> Result<Vec<Option<Self::Answer>>, Failure> {
        let ids: Vec<OperationId> = batch.iter().filter_map(|step| step.0).collect();
        let (now, records) = read(link, clock, &ids).await?;
        let mut records = records.into_iter();
        let answers = batch
            .iter()
            .map(|step| Some((now, step.0.and_then(|_| records.next().flatten()))));
        Ok(answers.collect())
    }
}

/// The records with these identities, in their order.
pub(super) async fn read(
    link: &mut Link,
    clock: &Clock,
    ids: &[OperationId],
) -> Result<(Timestamp, Vec<Option<Record>>), Failure> {
    const OPERATION: usize = 3;
    const RECORD: usize = 6;
    let bytes: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    let reading = Reading::begin(clock);
    let rows = link.run(&READ, &reading.params(&[&bytes])).await?;
    let corrupt = |what| Failure::corrupt(what, &link.target().label);
    let first = rows.first().ok_or_else(|| corrupt("no time"))?;
    let now = reading.end(clock, first);
    let mut records: Vec<Option<Record>> = vec![None; ids.len()];
    for row in &rows {
        let (n, scope): (Option<i64>, Option<&str>) = (row.get(2), row.get(OPERATION));
        if let (Some(n), Some(_)) = (n, scope) {
            let record =
                rows::operation(row, OPERATION).and_then(|operation| rows::full_record(row, RECORD, operation));
            records[n as usize - 1] = Some(record.map_err(corrupt)?);
        }
    }
    Ok((now, records))
}
