//! Claims: one statement decides those of absent and claimable records; [`decide`] tells the others why not.

use std::collections::HashMap;

use hapax_core::time::millis;
use hapax_core::{
    Claim, Claimed, Fence, Lease, OperationId, Record, Refusal, Ruling, Starter, Timestamp, Verdict, decide,
};
use tokio_postgres::Row;

use super::failure::Failure;
use super::lanes::Step;
use super::link::Link;
use super::rows::{self, Columns};
use super::runs::place;
use super::statements::{CLAIM, LAPSE};
use super::time::Reading;
use crate::clock::Clock;

pub(super) struct ClaimStep(pub(super) Claim);

impl Step for ClaimStep {
    type Answer = Claimed;
    const NAME: &'static str = "claim";

    fn id(&self) -> OperationId {
        self.0.operation.id()
    }

    async fn carry_out(link: &mut Link, clock: &Clock, batch: &[&Self]) -> Result<Vec<Option<Claimed>>, Failure> {
        let claims: Vec<&Claim> = batch.iter().map(|step| &step.0).collect();
        let seen = send(link, clock, &claims).await?;
        let mut lapses = Vec::new();
        let mut answers: Vec<Option<Claimed>> = Vec::with_capacity(claims.len());
        for (index, claim) in claims.iter().enumerate() {
            let ruling = match seen.get(&claim.operation.id()) {
                Some(Seen::Won(now, lease)) => Some((*now, Ruling::Won(*lease))),
                Some(Seen::Record(now, record)) => match decide(Some(record), claim, *now) {
                    Verdict::Resume(lease) => Some((*now, Ruling::Won(lease))),
                    Verdict::Refuse(refusal) => Some((*now, Ruling::Refused(refusal))),
                    Verdict::Lapse(lapsed) => {
                        lapses.push(Lapse {
                            index,
                            id: claim.operation.id(),
                            fence: record.fence,
                            refusal: lapsed.refusal(*now),
                        });
                        None
                    }
                    // Somebody was faster.
                    Verdict::Run => None,
                },
                None => None,
            };
            answers.push(ruling.map(|(now, ruling)| Claimed { now, ruling }));
        }
        for (index, claimed) in lapse(link, clock, lapses).await? {
            answers[index] = Some(claimed);
        }
        Ok(answers)
    }
}

/// What the statement showed of a claim's record.
enum Seen {
    Won(Timestamp, Lease),
    Record(Timestamp, Box<Record>),
}

async fn send(link: &mut Link, clock: &Clock, claims: &[&Claim]) -> Result<HashMap<OperationId, Seen>, Failure> {
    fn column<'a, T>(claims: &[&'a Claim], of: impl Fn(&'a Claim) -> T) -> Vec<T> {
        claims.iter().map(|claim| of(claim)).collect()
    }
    let ids: Vec<OperationId> = column(claims, |c| c.operation.id());
    let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    let scopes = column(claims, |c| c.operation.scope().as_str());
    let names = column(claims, |c| c.operation.name().as_str());
    let keys = column(claims, |c| c.operation.key().as_str());
    let recipes = column(claims, |c| i64::from(c.fingerprint.recipe().get()));
    let fingerprints = column(claims, |c| c.fingerprint.digest().as_slice());
    let attempts = column(claims, |c| c.attempt.as_bytes().as_slice());
    let counted = column(claims, |c| i64::from(c.starter != Starter::Caller));
    let leases = column(claims, |c| millis(c.lease));
    let max_runs = column(claims, |c| millis(c.max_run));
    let after_failures = column(claims, |c| c.after_failure.as_str());
    let replay_fors = column(claims, |c| millis(c.retention.replay_for));
    let remember_fors = column(claims, |c| millis(c.retention.remember_for));
    let starters = column(claims, |c| c.starter.as_str());
    let attended = column(claims, |c| c.attended);

    let reading = Reading::begin(clock);
    let params = reading.params(&[
        &ids,
        &scopes,
        &names,
        &keys,
        &recipes,
        &fingerprints,
        &attempts,
        &counted,
        &leases,
        &max_runs,
        &after_failures,
        &replay_fors,
        &remember_fors,
        &starters,
        &attended,
    ]);
    let rows = link.run(&CLAIM, &params).await?;
    if let Some(row) = rows.first() {
        reading.end(clock, row);
    }
    let by_id: HashMap<OperationId, &Claim> = claims.iter().map(|claim| (claim.operation.id(), *claim)).collect();
    let seen: Result<_, &'static str> = rows.iter().map(|row| read(row, &by_id)).collect();
    let seen: Vec<(OperationId, Seen)> = seen.map_err(|what| Failure::corrupt(what, &link.target().label))?;
    let mut all = HashMap::with_capacity(seen.len());
    for (id, what) in seen {
        // A claim that took a record over has two rows; that it won is what counts.
        if matches!(what, Seen::Won(..)) || !all.contains_key(&id) {
            all.insert(id, what);
        }
    }
    Ok(all)
}

/// A row of `claim.sql`: id, won, now, wall, the record.
fn read(row: &Row, claims: &HashMap<OperationId, &Claim>) -> Result<(OperationId, Seen), &'static str> {
    const RECORD: usize = 4;
    let id: &[u8] = row.get(0);
    let id = OperationId::from_bytes(id.try_into().map_err(|_| "an identity of another length")?);
    let now = Timestamp::from_millis(row.get(2));
    if row.get(1) {
        let columns = Columns { row, first: RECORD };
        let lease = Lease {
            fence: Fence::new(columns.number(rows::FENCE)?),
            deadline: columns.time(rows::DEADLINE)?,
            run_until: columns.time(rows::RUN_UNTIL)?,
            tries: columns.number(rows::TRIES)?,
        };
        return Ok((id, Seen::Won(now, lease)));
    }
    let claim = claims.get(&id).ok_or("a record that was not asked for")?;
    let record = rows::record(row, RECORD, claim.operation.clone())?;
    Ok((id, Seen::Record(now, Box::new(record))))
}

/// A holder whose lease ran out, and what its claimer is told.
struct Lapse {
    index: usize,
    id: OperationId,
    fence: Fence,
    refusal: Refusal,
}

/// Writes the lapses. Those that meanwhile changed are left out: their claims have to look again.
async fn lapse(link: &mut Link, clock: &Clock, lapses: Vec<Lapse>) -> Result<Vec<(usize, Claimed)>, Failure> {
    if lapses.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&[u8]> = lapses.iter().map(|lapse| lapse.id.as_bytes().as_slice()).collect();
    let fences: Vec<i64> = lapses.iter().map(|lapse| lapse.fence.get() as i64).collect();
    let reading = Reading::begin(clock);
    let rows = link.run(&LAPSE, &reading.params(&[&ids, &fences])).await?;
    let mut written = vec![None; lapses.len()];
    for row in &rows {
        written[place(row)] = Some(reading.end(clock, row));
    }
    let told = lapses.into_iter().zip(written).filter_map(|(lapse, written)| {
        let ruling = Ruling::Refused(lapse.refusal);
        Some((lapse.index, Claimed { now: written?, ruling }))
    });
    Ok(told.collect())
}
