//! Clients that ask, retry, duplicate, contradict and hang up, until each knows what became of its operation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::client::{Ask, Client, Sent};
use super::journal::{End, Journal, SLACK};
use super::rig::{Dice, LEASE, Mode};

/// Requests under way at a time.
pub(super) const ACTIVE: usize = 24;
/// Operations without an end at a time: those cut off wait for their lease while others go on.
const OPEN: usize = 96;
const SCOPES: [&str; 2] = ["north", "south"];
/// Longest pause of a client before it asks again, in milliseconds.
const BACKOFF: u64 = 100;

/// How an operation is asked for.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Plain,
    /// Several clients at once.
    Duplicates(u64),
    /// Two tenants use the same key.
    TwoScopes,
    /// Two clients at once, with different requests under one key.
    Contested,
    /// Once the end is known, another request under the same key.
    Altered,
    /// The client hangs up after a while and asks again.
    HangUp(Duration),
}

/// The storm, shared by its clients.
pub(super) struct Storm {
    pub(super) journal: Journal,
    mode: Mode,
    clients: Vec<Client>,
    seed: u64,
    /// The longest that the shop dawdles, in milliseconds.
    dawdle: u64,
    active: Semaphore,
    open: Arc<Semaphore>,
    over: AtomicBool,
    /// When each client must know the end: set once no more faults come.
    deadline: OnceLock<Instant>,
}

/// The storm at work on threads of its own.
pub(super) struct Raging {
    pub(super) storm: Arc<Storm>,
    runtime: Runtime,
    generator: Option<JoinHandle<()>>,
}

impl Raging {
    /// A storm on all of these gateways. `dawdle`: the longest that the shop takes before and after its commit.
    pub(super) fn start(mode: Mode, clients: Vec<Client>, seed: u64, dawdle: Duration) -> Self {
        let storm = Arc::new(Storm {
            journal: Journal::new(mode),
            mode,
            clients,
            seed,
            dawdle: dawdle.as_millis() as u64,
            active: Semaphore::new(ACTIVE),
            open: Arc::new(Semaphore::new(OPEN)),
            over: AtomicBool::new(false),
            deadline: OnceLock::new(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let generator = runtime.spawn(Arc::clone(&storm).generate());
        Self {
            storm,
            runtime,
            generator: Some(generator),
        }
    }

    /// No more faults: waits until each client knows the end of its operation.
    pub(super) fn subside(&mut self) {
        self.storm.deadline.get_or_init(|| Instant::now() + 2 * LEASE + SLACK);
        self.storm.over.store(true, Ordering::Relaxed);
        let generator = self.generator.take().unwrap();
        self.runtime.block_on(generator).unwrap();
    }

    /// Asks for everything once more: what was said before must be said again.
    pub(super) fn ask_again(&self) {
        self.runtime.block_on(self.storm.ask_again());
    }
}

impl Storm {
    async fn generate(self: Arc<Self>) {
        let mut operations = JoinSet::new();
        for index in 0.. {
            let place = Arc::clone(&self.open).acquire_owned().await.unwrap();
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let storm = Arc::clone(&self);
            operations.spawn(async move {
                storm.operation(index).await;
                drop(place);
            });
            while let Some(ended) = operations.try_join_next() {
                ended.unwrap();
            }
        }
        while let Some(ended) = operations.join_next().await {
            ended.unwrap();
        }
    }

    async fn operation(&self, index: u64) {
        let mut dice = Dice::new(self.seed ^ index.wrapping_mul(0xA076_1D64_78BD_642F));
        let ask = order(index, &mut dice, self.dawdle);
        match manner(&mut dice) {
            Manner::Plain => self.expect(&ask).await,
            Manner::Duplicates(clients) => {
                // Some of them can wait for it, others would have it run later.
                let other = Ask {
                    later: !ask.later,
                    ..ask.clone()
                };
                join_all((0..clients).map(|client| self.expect(if client % 2 == 0 { &ask } else { &other }))).await;
            }
            Manner::TwoScopes => {
                let mut other = ask.clone();
                other.scope = SCOPES.into_iter().find(|scope| *scope != ask.scope).unwrap();
                other.body = ask.body.replace(ask.scope, other.scope);
                tokio::join!(self.expect(&ask), self.expect(&other));
            }
            Manner::Contested => {
                let other = ask.altered(&mut dice);
                let (one, two) = tokio::join!(self.settle(&ask), self.settle(&other));
                if (one == End::Mismatch) == (two == End::Mismatch) {
                    self.journal
                        .violated(format!("{ask:?} and {other:?} ended as {one:?} and {two:?}"));
                }
            }
            Manner::Altered => {
                self.expect(&ask).await;
                let altered = ask.altered(&mut dice);
                let end = self.insist(&altered).await;
                if end != End::Mismatch {
                    self.journal
                        .violated(format!("{altered:?} after another ended as {end:?}"));
                }
            }
            Manner::HangUp(after) => {
                self.journal.asked(&ask);
                self.client(&mut dice).send_and_leave(&ask, after).await;
                self.expect(&ask).await;
            }
        }
    }

    /// Asks until the end is known, which may not be that the key meant another request.
    async fn expect(&self, ask: &Ask) {
        let end = self.settle(ask).await;
        // A wrong one is noted already.
        if end == End::Mismatch {
            self.journal.violated(format!("{ask:?} was refused as a mismatch"));
        }
    }

    async fn settle(&self, ask: &Ask) -> End {
        self.journal.asked(ask);
        let end = self.insist(ask).await;
        self.journal.ended(ask);
        end
    }

    async fn insist(&self, ask: &Ask) -> End {
        let mut dice = Dice::new(chance());
        loop {
            let permit = self.active.acquire().await.unwrap();
            let at = Instant::now();
            let sent = self.client(&mut dice).send(ask).await;
            drop(permit);
            self.journal.count(|counts| {
                counts.requests += 1;
                counts.refused += u64::from(matches!(sent, Sent::Refused));
                counts.cut += u64::from(matches!(sent, Sent::Cut));
            });
            if let Sent::Answered(answer) = sent
                && let Some(end) = self.journal.judge(ask, at, answer)
            {
                return end;
            }
            if self.deadline.get().is_some_and(|deadline| Instant::now() > *deadline) {
                self.journal
                    .violated(format!("{ask:?} has no end although no more faults came"));
                return End::Wrong;
            }
            // A client's back-off.
            sleep(dice.millis(BACKOFF)).await;
        }
    }

    fn client(&self, dice: &mut Dice) -> &Client {
        &self.clients[dice.roll(self.clients.len() as u64) as usize]
    }

    async fn ask_again(&self) {
        let seen = self.journal.story().seen.clone();
        let asked = seen.values().map(|seen| async move {
            let end = self.insist(&seen.ask).await;
            // A run that lapsed may have finished late.
            let unknown = seen.success.is_none() && self.mode == Mode::Hold;
            if end != End::Done && !(unknown && end == End::Unknown) {
                self.journal
                    .violated(format!("{seen:?} ended as {end:?} when it was asked for again"));
            }
        });
        join_all(asked).await;
    }
}

/// A seed that no other run has.
pub(super) fn chance() -> u64 {
    getrandom::u64().unwrap()
}

fn manner(dice: &mut Dice) -> Manner {
    match dice.roll(12) {
        0..=4 => Manner::Plain,
        5..=6 => Manner::Duplicates(2 + dice.roll(3)),
        7..=8 => Manner::TwoScopes,
        9 => Manner::Contested,
        10 => Manner::Altered,
        _ => Manner::HangUp(dice.millis(20)),
    }
}

pub(super) fn order(index: u64, dice: &mut Dice, dawdle: u64) -> Ask {
    let scope = SCOPES[dice.roll(2) as usize];
    let mut delay = || {
        if dice.roll(2) == 0 {
            dice.millis(dawdle + 1)
        } else {
            Duration::ZERO
        }
    };
    Ask {
        scope,
        path: "/orders",
        key: format!("key-{index}"),
        body: format!(r#"{{"customer":"{scope}","item":"tea","quantity":1}}"#),
        delays: (delay(), delay()),
        later: dice.roll(4) == 0,
    }
}

impl Ask {
    /// Another request under the same key: another body, or another path.
    fn altered(&self, dice: &mut Dice) -> Self {
        let mut other = self.clone();
        if dice.roll(2) == 0 {
            other.body = self.body.replace(r#""quantity":1"#, r#""quantity":2"#);
        } else {
            other.path = "/points";
            other.body = format!(r#"{{"customer":"{}","points":1}}"#, self.scope);
        }
        other
    }
}
