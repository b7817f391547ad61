//! What the clients do to each operation: drawn from a seed, so that the storm without hapax is the same one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::{Answered, Ask, Client};
use super::tally::Tally;

/// When the storm ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// No operation begins after this time.
    Time(Duration),
    /// After this many operations.
    Operations(u64),
}

/// How long a client keeps trying before it gives an operation up.
const GIVE_UP: Duration = Duration::from_secs(30);
/// Pauses of a client between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

pub(super) struct Storm {
    target: SocketAddr,
    seed: u64,
    limit: Limit,
    begun: Instant,
    next: AtomicU64,
    done: AtomicU64,
    pub(super) tally: Tally,
}

/// How an operation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Once.
    Plain,
    /// Several times at once.
    Duplicates(u64),
    /// The client hangs up after a while and tries again.
    HangUp(Duration),
    /// Once, and then once more with another payload.
    Altered,
}

impl Storm {
    pub(super) fn new(target: SocketAddr, seed: u64, limit: Limit) -> Self {
        Self {
            target,
            seed,
            limit,
            begun: Instant::now(),
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            tally: Tally::default(),
        }
    }

    /// Operations that were carried through.
    pub(super) fn operations(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Works on `clients` operations at a time until the limit is reached and all of them are through.
    pub(super) async fn run(self: Arc<Self>, clients: usize) {
        let mut workers = JoinSet::new();
        for _ in 0..clients {
            let storm = Arc::clone(&self);
            workers.spawn(async move {
                let mut client = Client::new(storm.target);
                while let Some(index) = storm.draw() {
                    storm.operation(index, &mut client).await;
                    storm.done.fetch_add(1, Relaxed);
                }
            });
        }
        while workers.join_next().await.is_some() {}
    }

    fn draw(&self) -> Option<u64> {
        if let Limit::Time(time) = self.limit
            && self.begun.elapsed() >= time
        {
            return None;
        }
        let index = self.next.fetch_add(1, Relaxed);
        match self.limit {
            Limit::Operations(operations) if index >= operations => None,
            _ => Some(index),
        }
    }

    async fn operation(&self, index: u64, client: &mut Client) {
        let (ask, manner) = plan(self.seed, index);
        match manner {
            Manner::Plain => self.insist(&ask, client).await,
            Manner::Duplicates(copies) => {
                let others = (1..copies).map(|_| {
                    let ask = ask.clone();
                    async move { self.insist(&ask, &mut Client::new(self.target)).await }
                });
                let others = futures_util::future::join_all(others);
                tokio::join!(self.insist(&ask, client), others);
            }
            Manner::HangUp(after) => {
                self.tally.sent.add(1);
                client.send_and_leave(&ask, after).await;
                self.insist(&ask, client).await;
            }
            Manner::Altered => {
                self.insist(&ask, client).await;
                self.alter(&ask, client).await;
            }
        }
    }

    /// A client that tries until it knows: succeeded, refused for good, or unknown.
    async fn insist(&self, ask: &Ask, client: &mut Client) {
        let begun = Instant::now();
        let mut pause = PAUSES.0;
        while begun.elapsed() < GIVE_UP {
            self.tally.sent.add(1);
            let asked_for = match client.send(ask).await {
                Ok(answered) => match self.judge(ask, &answered) {
                    true => return,
                    false => answered.retry_after,
                },
                Err(_) => None,
            };
            sleep(asked_for.unwrap_or(pause).min(PAUSES.1)).await;
            pause = PAUSES.1.min(pause * 2);
        }
        self.tally.gave_up.add(1);
    }

    /// Whether the client knows what it wanted to know.
    fn judge(&self, ask: &Ask, answered: &Answered) -> bool {
        let tally = &self.tally;
        tally.replays.add(u64::from(answered.replayed));
        match answered.status {
            200..=299 => {
                tally.succeeded(&ask.key, &answered.body);
                true
            }
            409 if answered.is_problem("outcome-unknown") => {
                tally.unknown(&ask.key);
                true
            }
            409 => {
                tally.conflicts.add(1);
                false
            }
            _ => false,
        }
    }

    /// The same key with another payload must be refused, and must not happen.
    async fn alter(&self, ask: &Ask, client: &mut Client) {
        let altered = Ask {
            body: ask.body.replace(r#":1}"#, r#":2}"#),
            ..ask.clone()
        };
        let begun = Instant::now();
        while begun.elapsed() < GIVE_UP {
            self.tally.sent.add(1);
            match client.send(&altered).await {
                Ok(answered) if answered.status == 422 => {
                    self.tally.conflicts.add(1);
                    self.tally.altered_refused.add(1);
                    return;
                }
                Ok(answered) if answered.status < 300 => {
                    self.tally.altered_accepted.add(1);
                    return;
                }
                _ => sleep(PAUSES.0).await,
            }
        }
        self.tally.gave_up.add(1);
    }
}

/// What is asked for, and how.
fn plan(seed: u64, index: u64) -> (Ask, Manner) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index);
    let (path, body) = match dice.roll(3) {
        0 => (
            "/orders",
            format!(r#"{{"customer":"c-{}","item":"tea","quantity":1}}"#, dice.roll(500)),
        ),
        1 => ("/payments", format!(r#"{{"intent":"pi-{index}","amount_cents":1}}"#)),
        _ => (
            "/points",
            format!(r#"{{"customer":"c-{}","points":1}}"#, dice.roll(500)),
        ),
    };
    let dawdle = match dice.roll(4) {
        0 => Duration::from_millis(5 + dice.roll(40)),
        _ => Duration::ZERO,
    };
    let manner = match dice.roll(10) {
        0..=3 => Manner::Plain,
        4..=6 => Manner::Duplicates(2 + dice.roll(4)),
        7..=8 => Manner::HangUp(Duration::from_millis(dice.roll(25))),
        _ => Manner::Altered,
    };
    let key = format!("demo-{seed}-{index}");
    (
        Ask {
            path,
            key,
            body,
            dawdle,
        },
        manner,
    )
}

/// SplitMix64: enough chance for a plan, and the same on every machine.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_storm() {
        let mut manners = std::collections::HashSet::new();
        for index in 0..200 {
            let (ask, manner) = plan(7, index);
            let (again, same) = plan(7, index);
            assert_eq!((&ask.key, &ask.body, manner), (&again.key, &again.body, same));
            assert!(ask.body.contains(":1}"), "can be altered: {}", ask.body);
            manners.insert(std::mem::discriminant(&manner));
        }
        assert_eq!(manners.len(), 4, "every manner occurs");
        assert_ne!(plan(7, 1).0.body, plan(8, 1).0.body);
    }
}
