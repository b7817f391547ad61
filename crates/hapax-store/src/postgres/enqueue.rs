//! Operations laid before the runners: one statement writes those that are new; [`Record::enqueue`] decides on the
//! others.

use std::collections::HashMap;

use hapax_core::record::EnqueueVerdict;
use hapax_core::time::millis;
use hapax_core::{Enqueue, Enqueued, Fence, OperationId, Record, Refusal, Timestamp};

use super::failure::Failure;
use super::lanes::Step;
use super::link::Link;
use super::runs::read;
use super::statements::ENQUEUE;
use super::time::Reading;
use super::writes::{Write, write};
use crate::clock::Clock;

pub(super) struct EnqueueStep(pub(super) Enqueue);

impl Step for EnqueueStep {
    type Answer = Enqueued;
    const NAME: &'static str = "enqueue";
    const UNHEARD: bool = true;

    fn id(&self) -> OperationId {
        self.0.operation.id()
    }

    fn weight(&self) -> usize {
        self.0.input.0.len()
    }

    async fn carry_out(link: &mut Link, clock: &Clock, batch: &[&Self]) -> Result<Vec<Option<Enqueued>>, Failure> {
        let enqueues: Vec<&Enqueue> = batch.iter().map(|step| &step.0).collect();
        let made = send(link, clock, &enqueues).await?;
        let mut answers: Vec<Option<Enqueued>> = enqueues
            .iter()
            .map(|enqueue| {
                let now = *made.get(&enqueue.operation.id())?;
                Some(Enqueued { now, refusal: None })
            })
            .collect();
        let known: Vec<usize> = (0..enqueues.len()).filter(|index| answers[*index].is_none()).collect();
        for (index, enqueued) in settle(link, clock, &enqueues, known).await? {
            answers[index] = Some(enqueued);
        }
        Ok(answers)
    }
}

/// Writes the new ones, and says when each was written.
async fn send(
    link: &mut Link,
    clock: &Clock,
    enqueues: &[&Enqueue],
) -> Result<HashMap<OperationId, Timestamp>, Failure> {
    fn column<'a, T>(enqueues: &[&'a Enqueue], of: impl Fn(&'a Enqueue) -> T) -> Vec<T> {
        enqueues.iter().map(|enqueue| of(enqueue)).collect()
    }
    let ids: Vec<OperationId> = column(enqueues, |e| e.operation.id());
    let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    let scopes = column(enqueues, |e| e.operation.scope().as_str());
    let names = column(enqueues, |e| e.operation.name().as_str());
    let keys = column(enqueues, |e| e.operation.key().as_str());
    let recipes = column(enqueues, |e| i64::from(e.fingerprint.recipe().get()));
    let fingerprints = column(enqueues, |e| e.fingerprint.digest().as_slice());
    let attempts = column(enqueues, |e| e.attempt.as_bytes().as_slice());
    let delays = column(enqueues, |e| millis(e.delay));
    let replay_fors = column(enqueues, |e| millis(e.retention.replay_for));
    let remember_fors = column(enqueues, |e| millis(e.retention.remember_for));
    let inputs = column(enqueues, |e| e.input.0.as_ref());
    let groups = column(enqueues, |e| e.group.as_ref().map(|group| group.as_bytes().as_slice()));

    let reading = Reading::begin(clock);
    let params = reading.params(&[
        &ids,
        &scopes,
        &names,
        &keys,
        &recipes,
        &fingerprints,
        &attempts,
        &delays,
        &replay_fors,
        &remember_fors,
        &inputs,
        &groups,
    ]);
    let mut made = HashMap::new();
    for row in link.run(&ENQUEUE, &params).await? {
        let id: [u8; 16] = row
            .get::<_, &[u8]>(0)
            .try_into()
            .map_err(|_| Failure::corrupt("an identity of another length", &link.target().label))?;
        made.insert(OperationId::from_bytes(id), Timestamp::from_millis(row.get(1)));
    }
    Ok(made)
}

/// Decides on those whose records exist. Those that lost a race are left out: they have to look again.
async fn settle(
    link: &mut Link,
    clock: &Clock,
    enqueues: &[&Enqueue],
    known: Vec<usize>,
) -> Result<Vec<(usize, Enqueued)>, Failure> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<OperationId> = known.iter().map(|index| enqueues[*index].operation.id()).collect();
    let (now, records) = read(link, clock, &ids).await?;
    let mut settled = Vec::new();
    let mut pending: Vec<(usize, Record, Record, Option<Refusal>)> = Vec::new();
    for (index, before) in known.into_iter().zip(records) {
        // Forgotten meanwhile.
        let Some(before) = before else { continue };
        let refusal = match Record::enqueue(Some(&before), enqueues[index], Fence::new(0), now) {
            EnqueueVerdict::Write(after) => {
                pending.push((index, before, *after, None));
                continue;
            }
            EnqueueVerdict::Lapse(after) => {
                let refusal = after.refusal(now);
                pending.push((index, before, *after, Some(refusal)));
                continue;
            }
            EnqueueVerdict::Already => None,
            EnqueueVerdict::Refuse(refusal) => Some(refusal),
        };
        settled.push((index, Enqueued { now, refusal }));
    }
    let writes: Vec<Write<'_>> = pending
        .iter()
        .map(|(index, before, after, refusal)| Write {
            new_fence: refusal.is_none(),
            look_at: refusal
                .is_none()
                .then(|| Record::first_look_enqueued(enqueues[*index], now)),
            ..Write::new(before, after)
        })
        .collect();
    let written = write(link, &writes).await?;
    for ((index, _, _, refusal), written) in pending.into_iter().zip(written) {
        if written.is_some() {
            settled.push((index, Enqueued { now, refusal }));
        }
    }
    Ok(settled)
}
