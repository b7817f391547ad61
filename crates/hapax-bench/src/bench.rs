//! The benchmarks, one module each.

mod atomic;
mod consume;
mod cycles;
mod growth;
mod http;
mod idle;
mod outbox;
mod policy;
mod relay;
mod runner;
mod space;
mod storm;
mod sweep;

use std::pin::Pin;

use hapax_testbed::Postgres;
use tempfile::TempDir;

use crate::error::Result;
use crate::options::Options;
use crate::place::Place;
use crate::report::Report;

type Run = for<'a> fn(&'a Options, &'a mut Report) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A benchmark: how it is called, what it is about, and how it is run.
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) run: Run,
}

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "http",
        title: "the gateway beside a plain reverse proxy",
        run: |options, report| Box::pin(http::run(options, report)),
    },
    Bench {
        name: "cycles",
        title: "claim and finish beside hand-written loops",
        run: |options, report| Box::pin(cycles::run(options, report)),
    },
    Bench {
        name: "atomic",
        title: "an order and its record in one transaction",
        run: |options, report| Box::pin(atomic::run(options, report)),
    },
    Bench {
        name: "growth",
        title: "cost as records pile up",
        run: |options, report| Box::pin(growth::run(options, report)),
    },
    Bench {
        name: "sweep",
        title: "traffic while records expire",
        run: |options, report| Box::pin(sweep::run(options, report)),
    },
    Bench {
        name: "runner",
        title: "due jobs beside a hand-written loop and a queue",
        run: |options, report| Box::pin(runner::run(options, report)),
    },
    Bench {
        name: "outbox",
        title: "deliveries to a local HTTP server beside a hand-written relay and DBOS",
        run: |options, report| Box::pin(outbox::run(options, report)),
    },
    Bench {
        name: "consume",
        title: "messages with one insert each beside the same without an inbox",
        run: |options, report| Box::pin(consume::run(options, report)),
    },
    Bench {
        name: "relay",
        title: "messages of NATS posted to a local HTTP server beside a consumer by hand",
        run: |options, report| Box::pin(relay::run(options, report)),
    },
    Bench {
        name: "policy",
        title: "retry policy, budget and breaker around a call that succeeds",
        run: |options, report| Box::pin(policy::run(options, report)),
    },
    Bench {
        name: "idle",
        title: "a gateway with nothing to do while records wait",
        run: |options, report| Box::pin(idle::run(options, report)),
    },
    Bench {
        name: "storm",
        title: "an upstream that goes down and comes back",
        run: |options, report| Box::pin(storm::run(options, report)),
    },
    Bench {
        name: "space",
        title: "bytes on disk and in memory",
        run: |options, report| Box::pin(space::run(options, report)),
    },
];

/// Servers and files of one benchmark, gone when it is over.
struct World {
    files: TempDir,
    postgres: Postgres,
}

impl World {
    /// A PostgreSQL of its own with the durability that it has by default, and a directory beside the results, which
    /// is on a real disk where the system's temporary files may not be.
    fn new(options: &Options) -> Result<Self> {
        let files = tempfile::Builder::new().prefix("data-").tempdir_in(&options.out)?;
        let postgres = Postgres::options().try_start()?;
        Ok(Self { files, postgres })
    }

    fn sqlite(&self, name: &str) -> Place {
        Place::Sqlite(self.files.path().join(format!("{name}.db")))
    }

    fn postgres(&self, name: &str) -> Place {
        Place::Postgres(self.postgres.create_database(name))
    }

    /// A place of each kind.
    fn places(&self, name: &str) -> [Place; 2] {
        [self.sqlite(name), self.postgres(name)]
    }
}
