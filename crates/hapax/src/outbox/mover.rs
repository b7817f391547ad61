//! Takes staged effects over: from the table `hapax_outbox` into the store that the relay works from.
//!
//! Enqueue, then remove: a crash between them leaves a row that is enqueued already, which the next round finds out
//! and removes. So several movers at once do no harm, and nothing is lost. A row that can never be enqueued is marked
//! with the reason and passed over; it keeps nobody waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hapax_core::{Name, StoreError};
use tokio::time::sleep;

use super::staging::{Staged, Staging, Text};
use super::{Effect, Entered, Outbox, OutboxError};
use crate::failpoint::{self, Failpoint};

/// How a mover works. Every field has a default.
#[derive(Debug, Clone)]
pub struct MoverOptions {
    /// Rows at a time (500).
    pub batch: u32,
    /// The longest pause between two looks (1 s). While rows come in, it looks again at once.
    pub poll: Duration,
}

impl Default for MoverOptions {
    fn default() -> Self {
        Self {
            batch: 500,
            poll: Duration::from_secs(1),
        }
    }
}

/// Moves staged effects into an outbox.
pub struct Mover {
    outbox: Outbox,
    staging: Arc<dyn Staging>,
    effects: Vec<Name>,
    options: MoverOptions,
    observer: Box<dyn Fn(&Move) + Send + Sync>,
}

/// What one round did.
#[derive(Debug)]
pub enum Move {
    /// Rows were looked at.
    Done(Moved),
    /// The staging table, or the store, failed: what was not moved is moved later.
    Failed(StoreError),
}

/// Rows of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Enqueued for the first time.
    pub new: usize,
    /// Enqueued before, by another mover or before a crash, or by a caller that enqueued twice.
    pub before: usize,
    /// Marked, since they never can be.
    pub refused: usize,
    /// Left for the next round, since the store failed.
    pub left: usize,
}

/// What became of a row.
enum Fate {
    Moved(Entered),
    Refused(String),
    Left(StoreError),
}

impl Mover {
    /// Moves the rows of these effects; those of others are left alone.
    #[must_use]
    pub fn new(outbox: &Outbox, staging: Arc<dyn Staging>, effects: Vec<Name>, options: MoverOptions) -> Self {
        Self {
            outbox: outbox.clone(),
            staging,
            effects,
            options,
            observer: Box::new(|_| {}),
        }
    }

    /// Tells of each round that did something.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&Move) + Send + Sync + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Moves until `shutdown`; a round that is under way is ended first.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        /// The pause after a look that found nothing doubles up to the longest.
        const SHORTEST: Duration = Duration::from_millis(20);
        let mut stop = std::pin::pin!(shutdown);
        let mut pause = SHORTEST;
        loop {
            let round = self.step().await;
            let again = match &round {
                Ok(moved) => moved.new + moved.before + moved.refused > 0 && moved.left == 0,
                Err(_) => false,
            };
            pause = if again {
                SHORTEST
            } else {
                (pause * 2).min(self.options.poll)
            };
            match round {
                Ok(moved) if moved == Moved::default() => {}
                Ok(moved) => (self.observer)(&Move::Done(moved)),
                Err(error) => {
                    pause = self.options.poll;
                    (self.observer)(&Move::Failed(error));
                }
            }
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = sleep(if again { Duration::ZERO } else { pause }) => {}
            }
        }
    }

    /// One round: takes over at most [`MoverOptions::batch`] rows.
    ///
    /// # Errors
    /// The failure of the staging table, or of the store if it kept the whole round from happening.
    pub async fn step(&self) -> Result<Moved, StoreError> {
        let rows = self.staging.read(&self.effects, self.options.batch).await?;
        if rows.is_empty() {
            return Ok(Moved::default());
        }
        let chains = join_all(chains(rows).into_iter().map(|chain| self.enter(chain))).await;
        failpoint::hit(Failpoint::Moved);
        let (mut moved, mut gone, mut refused, mut failure) = (Moved::default(), Vec::new(), Vec::new(), None);
        for (id, fate) in chains.into_iter().flatten() {
            match fate {
                Fate::Moved(Entered::New) => moved.new += 1,
                Fate::Moved(Entered::Before) => moved.before += 1,
                Fate::Refused(why) => {
                    refused.push((id, why));
                    continue;
                }
                Fate::Left(error) => {
                    moved.left += 1;
                    failure = Some(error);
                    continue;
                }
            }
            gone.push(id);
        }
        moved.refused = refused.len();
        if !gone.is_empty() {
            self.staging.remove(&gone).await?;
        }
        if !refused.is_empty() {
            self.staging.refuse(&refused).await?;
        }
        match failure {
            Some(error) if gone.is_empty() && refused.is_empty() => Err(error),
            _ => Ok(moved),
        }
    }

    /// Enqueues rows one after the other; those behind one that the store failed at wait for it.
    async fn enter(&self, rows: Vec<Staged>) -> Vec<(i64, Fate)> {
        let mut fates = Vec::new();
        for row in rows {
            let id = row.id;
            let fate = match effect(row) {
                Ok(effect) => match self.outbox.enqueue_now(&effect).await {
                    Ok(entered) => Fate::Moved(entered),
                    Err(OutboxError::Store(error)) => Fate::Left(error),
                    Err(error) => Fate::Refused(error.to_string()),
                },
                Err(why) => Fate::Refused(why),
            };
            let is_left = matches!(fate, Fate::Left(_));
            fates.push((id, fate));
            if is_left {
                break;
            }
        }
        fates
    }
}

impl std::fmt::Debug for Mover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mover")
            .field("staging", &self.staging.label())
            .field("effects", &self.effects)
            .finish_non_exhaustive()
    }
}

/// Rows of one aggregate are enqueued in their order, and so are those of one key: the first one has it. All others are
/// enqueued at once. Ends before a row whose key is in another chain: its turn is the next round.
fn chains(rows: Vec<Staged>) -> Vec<Vec<Staged>> {
    let mut chains: Vec<Vec<Staged>> = Vec::new();
    let (mut of, mut of_key) = (HashMap::new(), HashMap::new());
    for row in rows {
        let key = (row.effect.clone(), row.key.clone());
        // With its kind, lest a key be an aggregate.
        let link = match &row.aggregate {
            Some(aggregate) => (true, row.effect.clone(), aggregate.clone()),
            None => (false, row.effect.clone(), row.key.clone()),
        };
        let chain = of.get(&link).copied().unwrap_or(chains.len());
        if *of_key.entry(key).or_insert(chain) != chain {
            break;
        }
        of.insert(link, chain);
        match chains.get_mut(chain) {
            Some(rows) => rows.push(row),
            None => chains.push(vec![row]),
        }
    }
    chains
}

/// The effect of a row, or why there is none.
fn effect(row: Staged) -> Result<Effect, String> {
    let said = |what: &str, text: Text| text.map_err(|error| format!("{what}: {error}"));
    let (name, key) = (said("effect", row.effect)?, said("key", row.key)?);
    let effect = Effect::new(&name, &key, row.payload).map_err(|error| error.to_string())?;
    let effect = effect.content_type(&said("content type", row.content_type)?);
    let effect = effect.map_err(|error| error.to_string())?;
    match row.aggregate {
        None => Ok(effect),
        Some(aggregate) => effect
            .aggregate(&said("aggregate", aggregate)?)
            .map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, Option<&str>)]) -> Vec<Staged> {
        let row = |(id, (key, aggregate)): (usize, &(&str, Option<&str>))| Staged {
            id: id as i64,
            effect: Ok("paid".to_owned()),
            key: Ok((*key).to_owned()),
            payload: "{}".into(),
            content_type: Ok("text/plain".to_owned()),
            aggregate: aggregate.map(|aggregate| Ok(aggregate.to_owned())),
        };
        rows.iter().enumerate().map(row).collect()
    }

    #[track_caller]
    fn check(given: &[(&str, Option<&str>)], expected: &[&[i64]]) {
        let of = |chain: &Vec<Staged>| chain.iter().map(|row| row.id).collect::<Vec<_>>();
        let chained: Vec<_> = chains(rows(given)).iter().map(of).collect();
        assert_eq!(chained, expected, "{given:?}");
    }

    #[test]
    fn rows_of_one_aggregate_or_one_key_are_enqueued_in_their_order() {
        check(&[("a", None), ("b", None), ("a", None)], &[&[0, 2], &[1]]);
        check(&[("a", Some("x")), ("b", None), ("c", Some("x"))], &[&[0, 2], &[1]]);
        check(&[("a", Some("x")), ("x", None)], &[&[0], &[1]]);
        check(&[("a", Some("x")), ("a", Some("x"))], &[&[0, 1]]);
    }

    #[test]
    fn a_key_in_two_chains_waits_for_the_next_round() {
        check(
            &[("a", Some("x")), ("b", None), ("a", None), ("c", None)],
            &[&[0], &[1]],
        );
        check(&[("a", None), ("a", Some("x")), ("c", None)], &[&[0]]);
        check(&[("a", Some("x")), ("a", Some("y"))], &[&[0]]);
    }
}
