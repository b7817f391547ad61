//! What a retry policy with its budget and its breaker costs a call that succeeds.

use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use hapax::core::RetryPolicy;
use hapax::core::policy::FailureClass;
use hapax::retry::{Destination, Failed, retry};

use crate::error::Result;
use crate::machine;
use crate::measure::Laps;
use crate::options::Options;
use crate::report::{Figure, Report, Target};

/// Nanoseconds a call.
const LIMIT: f64 = 1_000.0;
const THREADS: [usize; 3] = [1, 2, 4];
/// A round is short.
const ROUNDS: usize = 5;

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let calls = options.plan.calls;
    for threads in THREADS {
        println!("  {threads} threads");
        let (mut with, mut bare) = (Laps::new("retry()", " ns"), Laps::new("bare", " ns"));
        let mut busy = Laps::new("retry(), processor time", " ns");
        for round in 0..=options.plan.rounds * ROUNDS {
            let destination = Destination::new(RetryPolicy::default())?;
            let (took, used) = turn(threads, calls, Some(destination.clone())).await?;
            let (alone, _) = turn(threads, calls, None).await?;
            let counted = destination.snapshot().calls;
            if counted != u64::from(calls) * threads as u64 {
                return Err(format!("the destination counted {counted} calls").into());
            }
            // The first one warms up.
            if round > 0 {
                with.push(took);
                bare.push(alone);
                busy.push(used);
            }
        }
        let who = if threads == 1 { "thread" } else { "threads" };
        report.figure(Figure {
            what: format!("retry() around a call that succeeds, {threads} {who} on one destination"),
            measured: format!("{}; {}", with.shown(), busy.shown()),
            beside: bare.shown(),
            value: with.median() - bare.median(),
            unit: "ns",
            target: Some(Target::AtMost(LIMIT)),
        });
    }
    report.note("the call itself is a future that is ready; each thread makes its calls one after the other");
    Ok(())
}

/// Nanoseconds a call, by the wall clock and of processor time; the mean over the threads.
async fn turn(threads: usize, calls: u32, destination: Option<Destination>) -> Result<(f64, f64)> {
    let begin = Arc::new(Barrier::new(threads));
    let mut all = Vec::new();
    for _ in 0..threads {
        let (begin, destination) = (Arc::clone(&begin), destination.clone());
        all.push(tokio::task::spawn_blocking(move || {
            // What `retry` needs of a runtime is its timer.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            runtime.block_on(async {
                begin.wait();
                measured(calls, destination.as_ref()).await
            })
        }));
    }
    let (mut took, mut used) = (Duration::ZERO, Duration::ZERO);
    for one in all {
        let one = one.await??;
        took += one.0;
        used += one.1;
    }
    let each = |time: Duration| time.as_nanos() as f64 / f64::from(calls) / threads as f64;
    Ok((each(took), each(used)))
}

async fn measured(calls: u32, destination: Option<&Destination>) -> Result<(Duration, Duration)> {
    let (used, start) = (machine::thread_time()?, Instant::now());
    match destination {
        Some(destination) => {
            for number in 0..calls {
                let called = retry(destination, "0123456789abcdef0123456789abcdef", |_| call(number)).await;
                black_box(called).map_err(|_| "a call that cannot fail failed")?;
            }
        }
        None => {
            for number in 0..calls {
                let called = call(number).await;
                black_box(called).map_err(|_| "a call that cannot fail failed")?;
            }
        }
    }
    Ok((start.elapsed(), machine::thread_time()? - used))
}

/// An error that there is none of.
#[derive(Debug)]
struct Never(Infallible);

impl Failed for Never {
    fn class(&self) -> FailureClass {
        match self.0 {}
    }
}

fn call(number: u32) -> impl Future<Output = std::result::Result<u32, Never>> {
    ready(Ok(black_box(number)))
}
