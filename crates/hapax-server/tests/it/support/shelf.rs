//! A store and records in the states that operators meet, made through the store's contract: no gateway is needed.

use std::any::Any;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hapax::core::{
    AfterFailure, Amend, Amended, Amendment, Answer, AttemptId, Audit, Claim, DeadReason, Enqueue, Fence, Filter,
    Fingerprint, Finish, Finished, Input, Key, LastError, Lease, Name, Operation, Outcome, RecipeId, Record, Retention,
    Ruling, Scope, Starter, Store, Take, TakeName, Work,
};
use hapax::store::postgres::PostgresOptions;
use hapax::store::sqlite::SqliteOptions;
use hapax::store::{PostgresStore, SqliteStore};
use hapax_testbed::Postgres;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Ended, hapax, sqlite};

const LEASE: Duration = Duration::from_secs(60);

pub(crate) struct Shelf {
    pub(crate) url: String,
    pub(crate) store: Arc<dyn Store>,
    runtime: Runtime,
    attempts: AtomicU64,
    /// Gone with the shelf.
    _place: Box<dyn Any>,
}

impl Shelf {
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hapax.db");
        let url = sqlite(directory.path());
        Self::new(url, directory, async move { Self::file(&path) })
    }

    fn file(path: &Path) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(path, SqliteOptions::default()).unwrap())
    }

    pub(crate) fn postgres() -> Self {
        let database = Postgres::shared().database();
        let url = database.url().to_string();
        let of = url.clone();
        Self::new(url, database, async move {
            let store = PostgresStore::connect(&of, PostgresOptions::default()).await.unwrap();
            Arc::new(store) as Arc<dyn Store>
        })
    }

    fn new(url: String, place: impl Any, store: impl Future<Output = Arc<dyn Store>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            url,
            store: runtime.block_on(store),
            runtime,
            attempts: AtomicU64::new(1),
            _place: Box::new(place),
        }
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs the program on this store.
    pub(crate) fn hapax(&self, arguments: &[&str]) -> Ended {
        hapax(&[arguments, &["--store", &self.url]].concat())
    }

    fn attempt(&self) -> AttemptId {
        let number = self.attempts.fetch_add(1, Relaxed);
        AttemptId::from_bytes(u128::from(number).to_be_bytes())
    }

    /// Claims it for a caller.
    pub(crate) fn claim(&self, key: &str, lease: Duration) -> Lease {
        let claim = Claim {
            operation: operation(key),
            fingerprint: fingerprint(),
            attempt: self.attempt(),
            starter: Starter::Caller,
            lease,
            max_run: LEASE,
            after_failure: AfterFailure::Hold,
            attended: false,
            retention: Retention::default(),
            input: None,
            group: None,
        };
        match self.wait(self.store.claim(claim)).unwrap().ruling {
            Ruling::Won(lease) => lease,
            Ruling::Refused(refusal) => panic!("{key}: {refusal:?}"),
        }
    }

    pub(crate) fn finish(&self, key: &str, fence: Fence, finish: Finish) -> Finished {
        self.wait(self.store.finish(operation(key).id(), fence, finish))
            .unwrap()
    }

    /// Claims it and ends it; the fence of the attempt.
    #[track_caller]
    pub(crate) fn ended(&self, key: &str, finish: Finish) -> Fence {
        let lease = self.claim(key, LEASE);
        let finished = self.finish(key, lease.fence, finish);
        assert!(matches!(finished, Finished::Applied { .. }), "{finished:?}");
        lease.fence
    }

    /// Accepts it with its input, as for `Prefer: respond-async`.
    #[track_caller]
    pub(crate) fn enqueue(&self, key: &str) {
        let enqueue = Enqueue {
            operation: operation(key),
            fingerprint: fingerprint(),
            attempt: self.attempt(),
            input: Input(b"a request"[..].into()),
            delay: Duration::ZERO,
            retention: Retention::default(),
            group: None,
        };
        assert_eq!(self.wait(self.store.enqueue(enqueue)).unwrap().refusal, None);
    }

    /// What a runner takes now.
    pub(crate) fn take(&self) -> Vec<(String, Fence)> {
        let name = TakeName {
            name: Name::new("pay").unwrap(),
            lease: LEASE,
            max_run: LEASE,
            after_failure: AfterFailure::Hold,
            tries: 10,
            crashes_count: false,
            resolves: false,
            ordered: false,
        };
        let take = Take {
            attempt: self.attempt(),
            names: vec![name],
            limit: 1000,
            alone: false,
            again: false,
        };
        let taken = self.wait(self.store.take(take)).unwrap();
        let run = |work| match work {
            Work::Run(record, lease) => (record.operation.key().to_string(), lease.fence),
            other @ Work::Resolve(_) => panic!("{other:?}"),
        };
        taken.work.into_iter().map(run).collect()
    }

    /// Dead letters with their inputs.
    #[track_caller]
    pub(crate) fn dead_with_input(&self, keys: &[&str], error: &str) {
        keys.iter().for_each(|key| self.enqueue(key));
        let taken = self.take();
        assert_eq!(taken.len(), keys.len());
        for (key, fence) in taken {
            self.finish(&key, fence, dead(DeadReason::Exhausted, error));
        }
    }

    /// Says that the compensation of a dead letter has begun.
    #[track_caller]
    pub(crate) fn undo(&self, key: &str) {
        let amendment = Amendment {
            amend: Amend::Undo,
            fence: None,
            audit: Audit {
                actor: "saga".into(),
                reason: "the order was cancelled".into(),
            },
        };
        let amended = self.wait(self.store.amend(operation(key).id(), amendment)).unwrap();
        assert!(matches!(amended, Amended::Became(_)), "{amended:?}");
    }

    #[track_caller]
    pub(crate) fn record(&self, key: &str) -> Record {
        let (_, record) = self.wait(self.store.read(operation(key).id())).unwrap();
        record.unwrap_or_else(|| panic!("there is no record of {key}"))
    }

    /// Key and state of every record, as the store lists them.
    pub(crate) fn states(&self) -> Vec<(String, String)> {
        let page = self.wait(self.store.list(Filter::default(), None, 1000)).unwrap();
        let state = |summary: &hapax::core::Summary| (summary.operation.key().to_string(), summary.state.to_string());
        page.records.iter().map(state).collect()
    }
}

pub(crate) fn operation(key: &str) -> Operation {
    Operation::new(
        Scope::new("north").unwrap(),
        Name::new("pay").unwrap(),
        Key::new(key).unwrap(),
    )
}

fn fingerprint() -> Fingerprint {
    Fingerprint::new(RecipeId::new(1), [7; 32])
}

pub(crate) fn dead(reason: DeadReason, error: &str) -> Finish {
    Finish::Dead {
        reason,
        answer: None,
        last_error: Some(LastError::new(error)),
    }
}

pub(crate) fn unknown() -> Finish {
    Finish::Unknown {
        answer: None,
        last_error: Some(LastError::new("timed out after 30s")),
    }
}

pub(crate) fn done(body: &str) -> Finish {
    Finish::Done(Outcome::Answer(Answer {
        status: 201,
        headers: Vec::new(),
        body: body.to_owned().into(),
    }))
}

pub(crate) fn waiting() -> Finish {
    Finish::Release {
        after: Duration::from_secs(3600),
        counts: true,
        last_error: Some(LastError::new("connection refused")),
    }
}

/// Standard output as JSON, one object a line.
#[track_caller]
pub(crate) fn objects(ended: &Ended) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    ended.stdout.lines().map(parse).collect()
}
