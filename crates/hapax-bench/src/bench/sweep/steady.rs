//! Records expire as fast as others arrive, beside a store in which none expires.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hapax::core::{Retention, Store, Timestamp};
use hapax::store::Clock;

use super::{CALLERS, Sweeping, Tally};
use crate::bench::cycles::ratio;
use crate::error::Result;
use crate::measure::{Measured, Turns, drive};
use crate::options::Options;
use crate::place::Place;
use crate::plan::Expiry;
use crate::report::{Figure, Report, Target};
use crate::work::{self, Terms};

/// Throughput with expiry : without.
const LEAST_RATIO: f64 = 0.6;
/// A run's longest time; long enough for a stall of the machine.
const MAX_RUN: Duration = Duration::from_secs(2);

/// A clock that stands still while the other store has its turn: what has arrived must not expire meanwhile.
#[derive(Default)]
struct Stopwatch {
    /// Time counted so far, and since when it runs.
    state: Mutex<(Duration, Option<Instant>)>,
}

impl Stopwatch {
    fn clock(self: &Arc<Self>) -> Clock {
        const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
        let watch = Arc::clone(self);
        Clock::made(
            move || {
                let elapsed = watch.elapsed();
                (START.after(elapsed), elapsed)
            },
            Clock::DEFAULT_MAX_STEP,
        )
    }

    fn elapsed(&self) -> Duration {
        let (counted, since) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        counted + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn go(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(Instant::now());
    }

    fn stop(&self) {
        let elapsed = self.elapsed();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (elapsed, None);
    }
}

/// The store in which records expire.
struct Expiring {
    store: Arc<dyn Store>,
    watch: Arc<Stopwatch>,
    tally: Arc<Tally>,
    terms: Terms,
}

impl Expiring {
    async fn traffic(&self, time: Duration) -> Result<Measured> {
        self.watch.go();
        let sweeping = Sweeping::start(&self.store, &self.tally);
        let measured = traffic(&self.store, time, self.terms).await;
        drop(sweeping);
        self.watch.stop();
        self.tally.check()?;
        measured
    }
}

pub(super) async fn run(options: &Options, report: &mut Report, with: &Place, without: &Place) -> Result<()> {
    let plan = options.plan.expiry;
    println!("  {}: records expire after {:?}", with.label(), plan.age);
    let expiring = expiring(with, plan).await?;
    let keeping = without.open(Clock::default()).await?;
    let (mut with_turns, mut without_turns) = (Turns::new("with expiry"), Turns::new("without expiry"));

    // Until as many expire as arrive: a record is looked at once its longest run and its age are over.
    expiring.traffic(MAX_RUN + plan.age + Duration::from_secs(2)).await?;
    traffic(&keeping, options.plan.warm_up, Terms::default()).await?;
    let empty = without.last_position().await?;
    let forgotten_before = expiring.tally.forgotten();
    let mut arrived = 0.0;
    for _ in 0..plan.rounds {
        without_turns.push(traffic(&keeping, plan.without, Terms::default()).await?);
        // Or it would become the larger of the two.
        without.cut_back(empty).await?;
        let turn = expiring.traffic(plan.with).await?;
        arrived += turn.rate * plan.with.as_secs_f64();
        with_turns.push(turn);
    }
    let forgotten = (expiring.tally.forgotten() - forgotten_before) as f64;

    let label = with.label();
    let seconds = plan.with.as_secs_f64() * plan.rounds as f64;
    let what = format!("{label}: throughput through {seconds:.0} s of expiry at the arrival rate");
    report.figure(ratio(
        what,
        &with_turns,
        &without_turns,
        Some(Target::AtLeast(LEAST_RATIO)),
    ));
    report.figure(Figure {
        what: format!("{label}: records forgotten for each that arrived"),
        measured: format!("{forgotten:.0} forgotten"),
        beside: format!("{arrived:.0} arrived"),
        value: forgotten / arrived,
        unit: "",
        // Otherwise the backlog grows, and the figure above says little.
        target: Some(Target::AtLeast(0.9)),
    });
    Ok(())
}

async fn expiring(place: &Place, plan: Expiry) -> Result<Expiring> {
    let watch = Arc::new(Stopwatch::default());
    Ok(Expiring {
        store: place.open(watch.clock()).await?,
        watch,
        tally: Arc::default(),
        terms: Terms {
            lease: MAX_RUN,
            max_run: MAX_RUN,
            retention: Retention {
                replay_for: plan.age,
                remember_for: plan.age,
            },
        },
    })
}

async fn traffic(store: &Arc<dyn Store>, time: Duration, terms: Terms) -> Result<Measured> {
    let store = Arc::clone(store);
    drive(CALLERS, time, move || work::cycle(Arc::clone(&store), terms)).await
}
