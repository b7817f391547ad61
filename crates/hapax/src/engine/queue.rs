//! Operations that are not run at once: laid before the runners, or only asked about.

use std::time::Duration;

use hapax_core::{Claim, Enqueue, Enqueued, Input, RecipeId, Refusal, StoreError, Verdict, decide};

use super::{Arrival, Engine, Inner, Refingerprint};
use crate::event::Event;
use crate::failpoint::{self, Failpoint};

impl Engine {
    /// Lays the operation before the runners, to be run with `input` once `delay` is over; or tells what the record
    /// says, if it was asked for before.
    ///
    /// Waits for nothing but the store: [`Arrival::wait`] is not used. After an error the operation may be enqueued all
    /// the same; the same arrival, repeated, is then told so.
    ///
    /// # Errors
    /// The store's failure, if it lasts for longer than
    /// [`EngineOptions::store_patience`](super::EngineOptions::store_patience).
    pub async fn enqueue(&self, arrival: Arrival, input: Input, delay: Duration) -> Result<Enqueued, StoreError> {
        let mut claim = arrival.claim()?;
        let inner = &self.inner;
        if let Some(refusal) = inner.cached(&claim)
            && let Some(now) = inner.store_time()
        {
            let refusal = Some(refusal);
            return Ok(Enqueued { now, refusal });
        }
        failpoint::hit(Failpoint::BeforeEnqueue);
        let mut enqueued = inner.lay(&claim, &input, delay).await?;
        while let Some(Refusal::OtherRecipe(recipe)) = enqueued.refusal {
            if !inner.under(recipe, &mut claim, &arrival.refingerprint).await? {
                enqueued.refusal = Some(Refusal::Mismatch);
                break;
            }
            enqueued = inner.lay(&claim, &input, delay).await?;
        }
        match &enqueued.refusal {
            Some(refusal) => inner.refused(&claim, refusal),
            None => {
                failpoint::hit(Failpoint::Enqueued);
                inner.alarm.set(delay);
                inner.emit(&Event::Enqueued {
                    operation: &claim.operation,
                    delay,
                });
            }
        }
        Ok(enqueued)
    }

    /// What a claim would be told now, without claiming: `None` if the operation would run.
    ///
    /// # Errors
    /// The store's failure, if it lasts for longer than
    /// [`EngineOptions::store_patience`](super::EngineOptions::store_patience).
    pub async fn peek(&self, arrival: &Arrival) -> Result<Option<Refusal>, StoreError> {
        let mut claim = arrival.claim()?;
        let inner = &self.inner;
        if let Some(refusal) = inner.cached(&claim) {
            return Ok(Some(refusal));
        }
        let (id, patience) = (claim.operation.id(), inner.options.store_patience);
        let (now, record) = inner.insist("read", patience, |store| store.read(id)).await?;
        inner.learn_time(now);
        let mut verdict = decide(record.as_ref(), &claim, now);
        while let Verdict::Refuse(Refusal::OtherRecipe(recipe)) = verdict {
            verdict = match inner.under(recipe, &mut claim, &arrival.refingerprint).await? {
                true => decide(record.as_ref(), &claim, now),
                false => Verdict::Refuse(Refusal::Mismatch),
            };
        }
        let refusal = match verdict {
            Verdict::Run | Verdict::Resume(_) => None,
            Verdict::Lapse(record) => Some(record.refusal(now)),
            Verdict::Refuse(refusal) => Some(refusal),
        };
        if let Some(refusal) = &refusal {
            inner.refused(&claim, refusal);
        }
        Ok(refusal)
    }
}

impl Inner {
    async fn lay(&self, claim: &Claim, input: &Input, delay: Duration) -> Result<Enqueued, StoreError> {
        let enqueue = Enqueue {
            operation: claim.operation.clone(),
            fingerprint: claim.fingerprint,
            attempt: claim.attempt,
            input: input.clone(),
            delay,
            retention: claim.retention,
            group: claim.group,
        };
        let patience = self.options.store_patience;
        let ask = self.insist("enqueue", patience, |store| store.enqueue(enqueue.clone()));
        let enqueued = ask.await?;
        self.learn_time(enqueued.now);
        Ok(enqueued)
    }

    /// Computes the claim's fingerprint under the recipe of the record. False if that cannot be done: what cannot be
    /// compared cannot be called the same.
    pub(crate) async fn under(
        &self,
        recipe: RecipeId,
        claim: &mut Claim,
        refingerprint: &Refingerprint,
    ) -> Result<bool, StoreError> {
        let text = self.store.recipe_text(recipe).await?;
        match text.and_then(|text| refingerprint(&text, recipe)) {
            Some(fingerprint) if fingerprint.recipe() == recipe => {
                claim.fingerprint = fingerprint;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub(super) fn refused(&self, claim: &Claim, refusal: &Refusal) {
        self.cache.keep_refusal(claim, refusal);
        self.emit(&Event::Refused {
            operation: &claim.operation,
            refusal,
            cached: false,
        });
    }
}
