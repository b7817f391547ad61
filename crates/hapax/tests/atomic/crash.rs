//! `kill -9` of real processes at every step of operations in transactions, and at random moments.
//!
//! Each process asks for a round's operations, each of them twice at once, and says which were answered. In every
//! second round another process asks for some of the same, and is not killed. Some operations are rejected, some fail
//! once. In the end all of them are asked for again. The shop's table is the oracle: every order is in it once, of what
//! was rejected there is nothing, and whoever was answered has what the answer says.
//!
//! `HAPAX_CRASH_KILLS=1000` kills so many times at each place in each configuration (100 in all otherwise):
//! `HAPAX_CRASH_KILLS=1000 cargo xtask test -p hapax --profile soak --success-output final crash::`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hapax::atomic::{Atomic, AtomicError, AtomicOptions, Database, Decision};
use hapax::core::{Refusal, StateName};
use hapax::failpoint::Failpoint;
use hapax::{Arrival, Reply, Run, RunOptions};
use rustix::process::Signal;

use crate::process::{self, Process};
use crate::world::{BoxError, World, answer, arrival, operation};

const LONG: Duration = Duration::from_secs(30);
/// Operations of a round: what becomes of each.
const ROUND: [Kind; 8] = [
    Kind::Order,
    Kind::Reject,
    Kind::Fail,
    Kind::Order,
    Kind::Order,
    Kind::Reject,
    Kind::Fail,
    Kind::Fail,
];
/// So many of them are asked for by another process, too.
const SHARED: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Order,
    Reject,
    /// Fails the first time.
    Fail,
}

/// Where a claim is when its process dies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claims {
    /// In the transaction.
    Within,
    /// Committed before.
    Before,
}

/// A place, and how often the victim hits it at least.
type Place = (Failpoint, u64);

fn places(claims: Claims, pipelined: bool) -> Vec<Place> {
    use Failpoint::{
        AfterFinish, BeforeClaim, BeforeFinish, ClaimMade, ClaimWritten, Committed, FailureCounted, Finished,
        HandlerEnded, RolledBack,
    };
    let all = (ROUND.len() - SHARED) as u64;
    let fails = ROUND[SHARED..].iter().filter(|kind| **kind == Kind::Fail).count() as u64;
    let mut places = vec![
        (BeforeClaim, all),
        (HandlerEnded, all),
        (BeforeFinish, 2),
        (Committed, 2),
    ];
    places.push((RolledBack, fails));
    match claims {
        Claims::Within => places.extend([(ClaimMade, all), (FailureCounted, fails), (AfterFinish, all)]),
        Claims::Before => places.extend([(ClaimWritten, all), (AfterFinish, all)]),
    }
    // Where the commit is sent with the finish there is no step between them.
    if !pipelined || claims == Claims::Before {
        places.push((Finished, 2));
    }
    places
}

/// How many kills there are at each of so many places.
fn kills(places: usize) -> u64 {
    let wanted = std::env::var("HAPAX_CRASH_KILLS");
    wanted.map_or(100_u64.div_ceil(places as u64), |kills| {
        kills.parse().expect("HAPAX_CRASH_KILLS is a number of kills")
    })
}

fn kind(key: &str) -> Kind {
    let number: usize = key.rsplit('-').next().unwrap().parse().unwrap();
    ROUND[number]
}

/// The test, or one of its processes.
pub(crate) fn killed_at_every_step<W: World>(test: &str, claims: Claims, pipelined: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match process::part() {
        Some((keys, at)) => runtime.block_on(ask_for::<W>(&keys, &at, claims)),
        None => runtime.block_on(kill::<W>(test, &places(claims, pipelined), claims)),
    }
}

/// What one of the processes does.
async fn ask_for<W: World>(keys: &str, at: &str, claims: Claims) {
    let world = W::join(at).await;
    let options = AtomicOptions {
        count_crashes: claims == Claims::Before,
        ..AtomicOptions::default()
    };
    let atomic = world.atomic(options);
    let mut all = tokio::task::JoinSet::new();
    for key in keys.split(' ').flat_map(|key| [key, key]) {
        all.spawn(ask::<W>(atomic.clone(), key.to_owned(), claims));
    }
    all.join_all().await;
}

/// A client: asks until it is answered.
async fn ask<W: World>(atomic: Atomic<W::Database>, key: String, claims: Claims) {
    loop {
        let asked = Arrival {
            options: RunOptions {
                lease: Duration::from_millis(250),
                ..RunOptions::default()
            },
            ..arrival(&key, LONG)
        };
        let told = atomic
            .run(asked, move |connection, run| handle::<W>(connection, run, claims))
            .await;
        match told {
            Ok(Reply::Ran(()) | Reply::Refused(Refusal::Done { .. })) => break,
            Ok(Reply::Refused(Refusal::InProgress { .. } | Refusal::Later { .. })) | Err(AtomicError::Failed(_)) => {}
            told => panic!("{key}: {told:?}"),
        }
    }
    process::say(&key);
}

fn handle<'t, W: World>(
    connection: &'t mut <W::Database as Database>::Connection,
    run: &'t Run,
    claims: Claims,
) -> BoxFuture<'t, Result<Decision<()>, BoxError>> {
    Box::pin(async move {
        let key = run.operation.key().as_str();
        W::order(connection, key).await?;
        // A claim that is committed before counts its own start.
        let failed = run.tries - u32::from(claims == Claims::Before);
        match kind(key) {
            Kind::Order => Ok(Decision::done(answer(201), ())),
            Kind::Reject => Ok(Decision::rejected(answer(409), ())),
            Kind::Fail if failed == 0 => Err("no stock yet".into()),
            Kind::Fail => Ok(Decision::done(answer(201), ())),
        }
    })
}

/// What is known of all that was asked for.
#[derive(Default)]
struct Story {
    answered: BTreeMap<String, bool>,
    kills: u64,
    /// Killed with an effect that nobody was told of, or without one.
    untold: u64,
    undone: u64,
}

impl Story {
    /// Checks a round against the table.
    async fn check(&mut self, world: &impl World, keys: &[String], said: &[String]) {
        let said: BTreeSet<_> = said.iter().collect();
        let (mut untold, mut undone) = (false, false);
        for key in keys {
            let orders = world.orders(key).await;
            let wanted = i64::from(kind(key) != Kind::Reject);
            assert!(orders <= wanted, "{key}: {orders} orders");
            let answered = said.contains(key);
            assert!(!answered || orders == wanted, "{key} was answered and is lost");
            *self.answered.entry(key.clone()).or_default() |= answered;
            untold |= !answered && orders > 0;
            undone |= !answered && orders == 0;
        }
        self.untold += u64::from(untold);
        self.undone += u64::from(undone);
    }

    fn unanswered(&self) -> Vec<&str> {
        let left = self.answered.iter().filter(|(_, answered)| !**answered);
        left.map(|(key, _)| key.as_str()).collect()
    }
}

async fn kill<W: World>(test: &str, places: &[Place], claims: Claims) {
    let world = W::start().await;
    let began = Instant::now();
    let mut story = Story::default();
    // One more: a random moment.
    let kills = kills(places.len() + 1);
    for number in 0..kills {
        for (index, place) in places.iter().map(Some).chain([None]).enumerate() {
            let keys: Vec<String> = (0..ROUND.len()).map(|key| format!("{number}-{index}-{key}")).collect();
            let shared = || Process::start(test, &keys[..SHARED].join(" "), world.at(), None);
            let rival = (number % 2 == 1).then(shared);
            let armed = place.map(|(failpoint, most)| (*failpoint, 1 + number % most, ""));
            let victim = Process::start(test, &keys.join(" "), world.at(), armed);
            if armed.is_none() {
                // Not to wait for anything: this is the random moment, if it has not ended by then.
                std::thread::sleep(Duration::from_millis(getrandom::u64().unwrap() % 100));
                victim.signal(Signal::KILL);
            }
            let (said, status) = victim.ends();
            let what = armed.map_or("a random moment", |armed| armed.0.name());
            let killed = status.signal() == Some(9);
            assert!(killed || (armed.is_none() && status.success()), "{what}: {status}");
            story.kills += u64::from(killed);
            story.check(&world, &keys, &said).await;
            if let Some(rival) = rival {
                let (said, status) = rival.ends();
                assert!(status.success(), "{what}: {status}");
                story.check(&world, &keys, &said).await;
            }
        }
        let left = story.unanswered().join(" ");
        let (said, status) = Process::start(test, &left, world.at(), None).ends();
        assert!(status.success(), "{status}");
        let keys: Vec<String> = left.split(' ').map(str::to_owned).collect();
        story.check(&world, &keys, &said).await;
    }
    report(test, &story, began.elapsed());
    assert_eq!(story.unanswered(), [""; 0], "asked for to the end, and lost");
    assert!(
        story.kills >= kills * places.len() as u64 && story.untold > 0 && story.undone >= kills,
        "no kill was between claim and answer"
    );
    for key in story.answered.keys() {
        assert_eq!(world.orders(key).await, i64::from(kind(key) != Kind::Reject), "{key}");
        let (_, record) = world.engine().store().read(operation(key).id()).await.unwrap();
        let record = record.expect("it has its record");
        assert_eq!(record.state.name(), StateName::Done, "{key}");
        // A crash counts where the claim is committed before, and leaves no trace where it is not.
        let counts = claims == Claims::Before || kind(key) == Kind::Fail;
        assert_eq!(record.tries > 0, counts, "{record:?}");
    }
}

#[expect(clippy::print_stdout, reason = "a test's report")]
fn report(test: &str, story: &Story, took: Duration) {
    println!(
        "{test}: {} kills, {} operations, {} kills left an effect untold, {} left something undone, 0 double, 0 lost, \
         {took:.1?}",
        story.kills,
        story.answered.len(),
        story.untold,
        story.undone,
    );
}
