//! Claims. A short statement makes the records of operations that have none; one that decides everything is for the
//! others: there [`decide`] tells those that did not win why not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hapax_core::time::millis;
use hapax_core::{
    Claim, Claimed, Fence, Lease, OperationId, Record, Refusal, Ruling, Starter, Timestamp, Verdict, decide,
};
use tokio_postgres::Row;

use super::failure::Failure;
use super::lanes::Step;
use super::link::{Link, Param};
use super::rows;
use super::runs::place;
use super::statements::{CLAIM, CLAIM_CARRYING, CLAIM_FRESH, CLAIM_PLAIN, LAPSE, Sql, carries, is_plain};
use super::time::Reading;
use crate::clock::Clock;

/// Claims an operation.
pub(super) struct ClaimStep {
    claim: Claim,
    trend: Arc<Trend>,
    /// The short statement did not win it.
    seen: AtomicBool,
}

impl ClaimStep {
    pub(super) fn new(claim: Claim, trend: &Arc<Trend>) -> Self {
        Self {
            claim,
            trend: Arc::clone(trend),
            seen: AtomicBool::new(false),
        }
    }
}

/// The share of claims that lately found a record, in 1/1024. Where most do, the short statement would be
/// a round trip for nothing.
#[derive(Debug, Default)]
pub(super) struct Trend(AtomicU32);

impl Trend {
    const ALL: u32 = 1024;

    fn is_fresh(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= Self::ALL / 2
    }

    /// `present` of `all` claims had a record. A count lost to another lane changes little.
    fn note(&self, present: usize, all: usize) {
        let share = (present * Self::ALL as usize / all.max(1)) as u32;
        let before = self.0.load(Ordering::Relaxed);
        self.0.store((before * 3 + share) / 4, Ordering::Relaxed);
    }
}

impl Step for ClaimStep {
    type Answer = Claimed;
    const NAME: &'static str = "claim";

    fn id(&self) -> OperationId {
        self.claim.operation.id()
    }

    async fn carry_out(link: &mut Link, clock: &Clock, batch: &[&Self]) -> Result<Vec<Option<Claimed>>, Failure> {
        let claims: Vec<&Claim> = batch.iter().map(|step| &step.claim).collect();
        let Some(first) = batch.first() else {
            return Ok(Vec::new());
        };
        let untried = batch.iter().all(|step| !step.seen.load(Ordering::Relaxed));
        if untried && first.trend.is_fresh() {
            let answers = claim_fresh(link, clock, &claims).await?;
            for (step, answer) in batch.iter().zip(&answers) {
                step.seen.store(answer.is_none(), Ordering::Relaxed);
            }
            let present = answers.iter().filter(|answer| answer.is_none()).count();
            first.trend.note(present, batch.len());
            return Ok(answers);
        }
        let (answers, present) = claim(link, clock, &claims).await?;
        if untried {
            first.trend.note(present, batch.len());
        }
        Ok(answers)
    }
}

/// Claims those that have no record; the others get no answer. The claims are in the order of their identities.
async fn claim_fresh(link: &mut Link, clock: &Clock, claims: &[&Claim]) -> Result<Vec<Option<Claimed>>, Failure> {
    let reading = Reading::begin(clock);
    let carrying = claims.iter().any(|claim| carries(claim));
    let sql = match carrying {
        true => &CLAIM_CARRYING,
        false if claims.iter().all(|claim| is_plain(claim)) => &CLAIM_PLAIN,
        false => &CLAIM_FRESH,
    };
    let rows = send(link, sql, &reading, claims, carrying).await?;
    let corrupt = |what| Failure::corrupt(what, &link.target().label);
    let mut answers = vec![None; claims.len()];
    for row in &rows {
        let id = identity(row).map_err(corrupt)?;
        let place = claims.binary_search_by_key(&id, |claim| claim.operation.id());
        let place = place.map_err(|_| corrupt("a record that was not asked for"))?;
        let lease = lease(row).map_err(corrupt)?;
        answers[place] = Some(Claimed {
            now: reading.end(clock, row),
            ruling: Ruling::Won(lease),
        });
    }
    Ok(answers)
}

/// Claims all, whatever their records. Those that lost a race get no answer. Also says how many had a record.
async fn claim(link: &mut Link, clock: &Clock, claims: &[&Claim]) -> Result<(Vec<Option<Claimed>>, usize), Failure> {
    let (seen, present) = look(link, clock, claims).await?;
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
    Ok((answers, present))
}

/// What the statement showed of a claim's record.
enum Seen {
    Won(Timestamp, Lease),
    Record(Timestamp, Box<Record>),
}

/// Runs one of the statements, which take the same parameters but for inputs and groups.
async fn send(
    link: &mut Link,
    sql: &'static Sql,
    reading: &Reading,
    claims: &[&Claim],
    carrying: bool,
) -> Result<Vec<Row>, Failure> {
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

    let mut params = reading.params(&[
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
    let (inputs, groups): (Vec<_>, Vec<_>);
    if carrying {
        inputs = column(claims, |c| c.input.as_ref().map(|input| &input.0[..]));
        groups = column(claims, |c| c.group.as_ref().map(|group| group.as_bytes().as_slice()));
        params.extend([&inputs as Param<'_>, &groups]);
    }
    link.run(sql, &params).await
}

/// What `claim.sql` shows of each claim, and how many had a record.
async fn look(
    link: &mut Link,
    clock: &Clock,
    claims: &[&Claim],
) -> Result<(HashMap<OperationId, Seen>, usize), Failure> {
    let reading = Reading::begin(clock);
    let rows = send(link, &CLAIM, &reading, claims, true).await?;
    if let Some(row) = rows.first() {
        reading.end(clock, row);
    }
    let by_id: HashMap<OperationId, &Claim> = claims.iter().map(|claim| (claim.operation.id(), *claim)).collect();
    let seen: Result<_, &'static str> = rows.iter().map(|row| read(row, &by_id)).collect();
    let seen: Vec<(OperationId, Seen)> = seen.map_err(|what| Failure::corrupt(what, &link.target().label))?;
    let present = seen.iter().filter(|(_, what)| matches!(what, Seen::Record(..))).count();
    let mut all = HashMap::with_capacity(seen.len());
    for (id, what) in seen {
        // A claim that took a record over has two rows; that it won is what counts.
        if matches!(what, Seen::Won(..)) || !all.contains_key(&id) {
            all.insert(id, what);
        }
    }
    Ok((all, present))
}

/// A row of `claim.sql`: id, won, now, wall, the record.
fn read(row: &Row, claims: &HashMap<OperationId, &Claim>) -> Result<(OperationId, Seen), &'static str> {
    const RECORD: usize = 4;
    let id = identity(row)?;
    let now = Timestamp::from_millis(row.get(2));
    if row.get(1) {
        return Ok((id, Seen::Won(now, lease(row)?)));
    }
    let claim = claims.get(&id).ok_or("a record that was not asked for")?;
    let record = rows::record(row, RECORD, claim.operation.clone())?;
    Ok((id, Seen::Record(now, Box::new(record))))
}

/// The first column of either statement.
fn identity(row: &Row) -> Result<OperationId, &'static str> {
    let id: &[u8] = row.get(0);
    let id = id.try_into().map_err(|_| "an identity of another length")?;
    Ok(OperationId::from_bytes(id))
}

/// What a claim won: either statement's columns of these names.
fn lease(row: &Row) -> Result<Lease, &'static str> {
    let number = |column| row.try_get::<_, i64>(column).map_err(|_| "a claim without its lease");
    Ok(Lease {
        fence: Fence::new(number("fence")? as u64),
        deadline: Timestamp::from_millis(number("deadline")?),
        run_until: Timestamp::from_millis(number("run_until")?),
        tries: number("tries")? as u32,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trend_follows_what_claims_find() {
        let trend = Trend::default();
        assert!(trend.is_fresh());
        trend.note(10, 10);
        assert!(trend.is_fresh(), "one batch is no trend");
        for _ in 0..5 {
            trend.note(10, 10);
        }
        assert!(!trend.is_fresh());
        for _ in 0..5 {
            trend.note(0, 10);
        }
        assert!(trend.is_fresh());
    }
}
