//! A holder that is stopped (SIGSTOP) in the middle of its transaction, and continued when another has run.

use std::time::Duration;

use hapax::atomic::{AtomicError, AtomicOptions, Bounds, Decision};
use hapax::core::{Outcome, Refusal};
use hapax::failpoint::Failpoint;
use hapax::{Arrival, Reply, RunOptions};
use rustix::process::Signal;

use crate::process::{self, Process};
use crate::world::{BoxError, World, answer, arrival};

const LONG: Duration = Duration::from_secs(30);
/// A multiple of the time-outs after which a holder here lets go, for a busy machine.
const LETS_GO: Duration = Duration::from_secs(5);

/// How a stopped holder loses its operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loses {
    /// The server ends its transaction.
    Transaction,
    /// Its lease lapses; its transaction goes on.
    Lease,
    /// It does not, while it is stopped: the file is its own.
    Never,
}

impl Loses {
    fn options(self) -> AtomicOptions {
        let idle = match self {
            Self::Transaction => Duration::from_millis(300),
            Self::Lease | Self::Never => LONG,
        };
        AtomicOptions {
            bounds: Bounds {
                idle,
                ..Bounds::default()
            },
            count_crashes: self == Self::Lease,
            ..AtomicOptions::default()
        }
    }
}

/// The test, or the process that is stopped.
pub(crate) fn stopped_at<W: World>(test: &str, loses: Loses, places: &[Failpoint]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Some((key, at)) = process::part() {
        let told = runtime.block_on(async { ask::<W>(&W::join(&at).await, loses, &key, 201, LONG).await });
        return process::say(&told);
    }
    let world = runtime.block_on(W::start());
    for place in places {
        let key = place.name();
        let mut holder = Process::start(test, key, world.at(), Some((*place, 1, ":hold")));
        holder.until(&format!("held at {key}"));
        holder.stop();
        let patience = match loses {
            Loses::Transaction | Loses::Lease => LETS_GO,
            Loses::Never => Duration::from_millis(300),
        };
        let other = runtime.block_on(ask::<W>(&world, loses, key, 202, patience));
        holder.tell("go on");
        holder.signal(Signal::CONT);
        let (said, status) = holder.ends();
        assert!(status.success(), "{key}: {status}");
        let expected = match loses {
            // The other has run; the holder is told so, whatever it did.
            Loses::Transaction | Loses::Lease => ("ran 202", "replayed 202"),
            // Nobody waits for ever, and there is one effect.
            Loses::Never => ("not claimed", "ran 201"),
        };
        assert_eq!((other.as_str(), said[0].as_str()), expected, "{key}");
        assert_eq!(runtime.block_on(world.orders(key)), 1, "{key}");
    }
}

async fn ask<W: World>(world: &W, loses: Loses, key: &str, status: u16, patience: Duration) -> String {
    let asked = Arrival {
        options: RunOptions {
            lease: Duration::from_millis(250),
            ..RunOptions::default()
        },
        ..arrival(key, patience)
    };
    let run = world.atomic(loses.options()).run(asked, move |connection, run| {
        Box::pin(async move {
            W::order(connection, run.operation.key().as_str()).await?;
            Ok::<_, BoxError>(Decision::done(answer(status), ()))
        })
    });
    match run.await {
        Ok(Reply::Ran(())) => format!("ran {status}"),
        Ok(Reply::Refused(Refusal::Done {
            outcome: Outcome::Answer(answer),
            ..
        })) => format!("replayed {}", answer.status),
        Err(AtomicError::NotClaimed(_)) => "not claimed".to_owned(),
        told => format!("{told:?}"),
    }
}
