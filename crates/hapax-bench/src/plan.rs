//! How long and how large each benchmark is.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// To see that everything works.
    Smoke,
    /// Figures to steer by.
    Quick,
    Normal,
    /// As long as the issue of each figure asks for.
    Full,
}

/// The lengths and sizes of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) size: Size,
    /// Turns that each subject takes.
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    /// A first turn that does not count.
    pub(crate) warm_up: Duration,
    /// Concurrent callers of a store.
    pub(crate) callers: Vec<usize>,
    /// Concurrent connections of the HTTP benchmark.
    pub(crate) connections: Vec<usize>,
    /// Rounds and records of the growth benchmark; the first number of records is what the others are compared with.
    pub(crate) growth_rounds: usize,
    pub(crate) growth_round: Duration,
    pub(crate) growth: Vec<u64>,
    /// Expired records that wait for the sweeper.
    pub(crate) backlog: u64,
    pub(crate) expiry: Expiry,
    /// Records of the space benchmark.
    pub(crate) space: u64,
    /// Jobs of the runner's benchmark, and how many at a time.
    pub(crate) jobs: u64,
    pub(crate) concurrency: Vec<usize>,
    /// Calls of one thread in a round of the policy's benchmark.
    pub(crate) calls: u32,
    pub(crate) idle: Idle,
    pub(crate) storm: Storm,
}

/// A gateway with nothing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    /// Records that wait meanwhile.
    pub(crate) records: u64,
    pub(crate) time: Duration,
}

/// An outage of the upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    /// Each offers one request a second.
    pub(crate) clients: u32,
    pub(crate) before: Duration,
    pub(crate) down: Duration,
    pub(crate) after: Duration,
}

/// Expiry at the arrival rate: slices of traffic with it and without it in turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    pub(crate) rounds: usize,
    pub(crate) with: Duration,
    pub(crate) without: Duration,
    /// Age at which records expire.
    pub(crate) age: Duration,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Plan {
    pub(crate) fn of(size: Size) -> Self {
        let normal = Self {
            size,
            rounds: 5,
            round: ms(4_000),
            warm_up: ms(2_000),
            callers: vec![1, 16, 64, 256],
            connections: vec![64, 256],
            growth_rounds: 9,
            growth_round: ms(1_000),
            growth: vec![10_000, 1_000_000],
            backlog: 500_000,
            expiry: Expiry {
                rounds: 3,
                with: ms(10_000),
                without: ms(5_000),
                age: ms(5_000),
            },
            space: 1_000_000,
            jobs: 20_000,
            concurrency: vec![16, 64],
            calls: 1_000_000,
            idle: Idle {
                records: 100_000,
                time: ms(30_000),
            },
            storm: Storm {
                clients: 200,
                before: ms(15_000),
                down: ms(60_000),
                after: ms(30_000),
            },
        };
        match size {
            Size::Normal => normal,
            Size::Full => Self {
                rounds: 9,
                round: ms(6_000),
                growth_rounds: 15,
                growth: vec![10_000, 1_000_000, 5_000_000],
                expiry: Expiry {
                    rounds: 30,
                    with: ms(20_000),
                    without: ms(10_000),
                    age: ms(10_000),
                },
                jobs: 50_000,
                ..normal
            },
            Size::Quick => Self {
                rounds: 3,
                round: ms(1_000),
                warm_up: ms(1_000),
                growth_rounds: 3,
                growth: vec![10_000, 200_000],
                backlog: 100_000,
                expiry: Expiry {
                    rounds: 2,
                    with: ms(4_000),
                    without: ms(2_000),
                    age: ms(2_000),
                },
                space: 100_000,
                jobs: 5_000,
                calls: 200_000,
                idle: Idle {
                    time: ms(10_000),
                    ..normal.idle
                },
                storm: Storm {
                    before: ms(5_000),
                    down: ms(20_000),
                    after: ms(20_000),
                    ..normal.storm
                },
                ..normal
            },
            Size::Smoke => Self {
                rounds: 1,
                round: ms(200),
                warm_up: ms(50),
                callers: vec![1, 4],
                connections: vec![4],
                growth_rounds: 1,
                growth_round: ms(100),
                growth: vec![200, 1_000],
                backlog: 2_000,
                expiry: Expiry {
                    rounds: 1,
                    with: ms(500),
                    without: ms(200),
                    age: ms(200),
                },
                space: 500,
                jobs: 100,
                concurrency: vec![4],
                calls: 1_000,
                idle: Idle {
                    records: 200,
                    time: ms(1_000),
                },
                storm: Storm {
                    clients: 20,
                    before: ms(1_500),
                    down: ms(2_000),
                    after: ms(2_500),
                },
                ..normal
            },
        }
    }
}
