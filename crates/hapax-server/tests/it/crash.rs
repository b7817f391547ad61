//! `kill -9` of the real gateway at every failpoint and at random moments, on both stores and in both modes.
//!
//! The shop behind runs on through the kills, and its database is the oracle. Clients never stop: they ask for ever
//! new operations and repeat what was cut off until they know its end, while the gateway is killed, started again on
//! the same store and port, and killed again. After each round of kills, and at the end, the laws are checked on what
//! the clients saw and on what the shop's database holds. Some requests are accepted to be run later, so that the
//! gateway's runner is killed as often as its door.
//!
//! `HAPAX_CRASH_KILLS=1000` kills so many times at each failpoint in each configuration (20 otherwise); that takes
//! longer than the tests' usual limit, and the profile `soak` allows it:
//! `HAPAX_CRASH_KILLS=1000 cargo xtask test -p hapax-server --profile soak --success-output final crash`. With 100, it
//! is 10,000 accepted operations and 50 kills at random moments.

/// A test in each of the four configurations.
macro_rules! in_each_configuration {
    ($test:expr) => {
        #[test]
        fn sqlite_hold() {
            $test(crate::crash::StoreKind::Sqlite, crate::crash::Mode::Hold);
        }

        #[test]
        fn sqlite_retry() {
            $test(crate::crash::StoreKind::Sqlite, crate::crash::Mode::Retry);
        }

        #[test]
        fn postgres_hold() {
            $test(crate::crash::StoreKind::Postgres, crate::crash::Mode::Hold);
        }

        #[test]
        fn postgres_retry() {
            $test(crate::crash::StoreKind::Postgres, crate::crash::Mode::Retry);
        }
    };
}

mod accepted;
mod client;
mod journal;
mod laws;
mod pair;
mod redriven;
mod rig;
mod runners;
mod storm;

use std::time::{Duration, Instant};

use hapax::failpoint::Failpoint;
use hapax_testbed::FreePort;

use client::Client;
use laws::Sums;
use rig::{Dice, Mode, Rig, StoreKind, assert_killed, ended};
use storm::{Raging, chance};

/// Tests of each failpoint, and the list of those that have tests.
macro_rules! killed_at {
    ($($test:ident => $failpoint:ident),+ $(,)?) => {
        $(mod $test {
            in_each_configuration!(|kind, mode| super::kill_at(super::Failpoint::$failpoint, kind, mode));
        })+

        const TESTED: &[Failpoint] = &[$(Failpoint::$failpoint),+];
    };
}

killed_at! {
    before_claim => BeforeClaim,
    claim_written => ClaimWritten,
    before_upstream => BeforeUpstream,
    after_upstream => AfterUpstream,
    before_finish => BeforeFinish,
    after_finish => AfterFinish,
    before_answer => BeforeAnswer,
    before_enqueue => BeforeEnqueue,
    enqueued => Enqueued,
    taken => Taken,
}

mod at_random {
    in_each_configuration!(super::kill_at_random);
}

#[test]
fn every_failpoint_has_its_tests() {
    assert_eq!(TESTED, [Failpoint::ALL, Failpoint::QUEUE].concat());
}

/// A client's patience with one request: longer than any answer takes, so that only a kill cuts it off.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest that the shop dawdles before and after its commit.
const DAWDLE: Duration = Duration::from_millis(4);
/// A failpoint is armed for at most so many hits.
const HITS: u64 = 40;
/// The same where few do.
const HITS_BY_FEW: u64 = 10;
/// The same where duplicates hit it, too.
const HITS_BY_ALL: u64 = 160;

/// How many kills there are at each failpoint.
fn kills() -> u64 {
    let wanted = std::env::var("HAPAX_CRASH_KILLS");
    wanted.map_or(20, |kills| {
        kills.parse().expect("HAPAX_CRASH_KILLS is a number of kills")
    })
}

fn kill_at(failpoint: Failpoint, kind: StoreKind, mode: Mode) {
    let sums = Test::run(kind, mode, failpoint.name(), |test, port, dice| {
        let most = match failpoint {
            Failpoint::BeforeClaim | Failpoint::BeforeAnswer => HITS_BY_ALL,
            Failpoint::BeforeEnqueue | Failpoint::Enqueued | Failpoint::Taken => HITS_BY_FEW,
            _ => HITS,
        };
        let armed = (failpoint, 1 + dice.roll(most));
        let mut gateway = test.rig.gateway(port, Some(armed));
        // Nobody here sends a signal: if it is killed, it was there.
        let status = ended(&mut gateway.process).unwrap_or_else(|| {
            let (name, hits) = (failpoint.name(), armed.1);
            panic!("{name} was not hit {hits} times; is the program built with the feature failpoints?")
        });
        assert_killed(&gateway.process, status);
    });
    was_there(failpoint, mode, &sums);
}

/// Each kill leaves behind what only a kill at that point does, where there is such a thing.
fn was_there(failpoint: Failpoint, mode: Mode, sums: &Sums) {
    let traces = match (failpoint, mode) {
        (Failpoint::ClaimWritten | Failpoint::BeforeUpstream | Failpoint::Taken, Mode::Hold) => sums.unknown.0,
        (Failpoint::AfterUpstream | Failpoint::BeforeFinish, Mode::Hold) => sums.unknown.1,
        (Failpoint::AfterUpstream | Failpoint::BeforeFinish, Mode::Retry) => sums.doubles,
        // A runner's run leaves none.
        (Failpoint::AfterFinish, _) => 2 * sums.recovered,
        _ => return,
    };
    assert!(traces >= kills(), "{} kills left {traces} traces: {sums:?}", kills());
}

fn kill_at_random(kind: StoreKind, mode: Mode) {
    Test::run(kind, mode, "random", |test, port, dice| {
        // One in four is killed while it starts.
        let mut process = match dice.roll(4) {
            0 => test.rig.starting(port),
            _ => test.rig.gateway(port, None).process,
        };
        // Not to wait for anything: this is the random moment.
        std::thread::sleep(dice.millis(200));
        process.signal(rustix::process::Signal::KILL);
        let status = process.wait();
        assert_killed(&process, status);
    });
}

/// One configuration under its storm.
struct Test {
    rig: Rig,
    kind: StoreKind,
    seed: u64,
    raging: Raging,
    started: Instant,
}

impl Test {
    fn start(rig: Rig, kind: StoreKind, clients: Vec<Client>, dawdle: Duration) -> Self {
        let seed = chance();
        let raging = Raging::start(rig.mode, clients, seed, dawdle);
        Self {
            rig,
            kind,
            seed,
            raging,
            started: Instant::now(),
        }
    }

    fn dice(&self) -> Dice {
        Dice::new(self.seed)
    }

    /// Kills as often as wanted, lets everything come to its end, asks for all of it again, and checks the laws.
    fn run(kind: StoreKind, mode: Mode, what: &str, kill: impl Fn(&Self, &FreePort, &mut Dice)) -> Sums {
        let port = FreePort::take();
        let client = Client::new(port.address(), PATIENCE);
        let mut test = Self::start(Rig::new(kind, mode), kind, vec![client], DAWDLE);
        let mut dice = test.dice();
        let round = 1.max(kills() / 20);
        for number in 1..=kills() {
            kill(&test, &port, &mut dice);
            test.raging.storm.journal.killed();
            if number % round == 0 {
                test.check(false);
            }
        }
        let gateway = test.rig.gateway(&port, None);
        test.raging.subside();
        test.check(false);
        drop(gateway);
        let _gateway = test.rig.gateway(&port, None);
        test.raging.ask_again();
        let sums = test.check(true);
        test.say(what, &sums);
        sums
    }

    fn check(&self, over: bool) -> Sums {
        let story = self.raging.storm.journal.story().clone();
        let (sums, complaints) = laws::check(&story, &self.rig.shop.ledger(), self.rig.mode, over);
        let shown: Vec<_> = complaints.iter().take(10).collect();
        let count = complaints.len();
        assert!(
            complaints.is_empty(),
            "seed {}, {} kills, {count} violations: {shown:#?}",
            self.seed,
            story.kills
        );
        sums
    }

    /// The summary; and that there was something to check.
    #[expect(clippy::print_stdout, reason = "a test's report")]
    fn say(&self, what: &str, sums: &Sums) {
        let story = self.raging.storm.journal.story();
        let (counts, kills, keys) = (story.counts, story.kills, story.seen.len());
        println!(
            "crash: {what}, {:?}, {:?}: {kills} kills, {} requests ({} refused, {} cut off, {} in progress, {} \
             accepted, {} unavailable), {keys} keys, {} effects, {} replays ({} keys only by replays), {} mismatches refused, {} \
             unknown ({} happened), {} doubles ({} without a kill), {} lost, {:.1?}",
            self.kind,
            self.rig.mode,
            counts.requests,
            counts.refused,
            counts.cut,
            counts.in_progress,
            counts.accepted,
            counts.unavailable,
            sums.effects,
            counts.replays,
            sums.recovered,
            counts.mismatches,
            sums.unknown.0 + sums.unknown.1,
            sums.unknown.1,
            sums.doubles,
            sums.stalled,
            sums.lost,
            self.started.elapsed(),
        );
        let least = kills
            .min(counts.replays)
            .min(counts.mismatches)
            .min(counts.cut)
            .min(counts.accepted)
            .min(sums.effects);
        assert!(least > 0, "nothing was put to the test: {counts:?} {sums:?}");
    }
}
