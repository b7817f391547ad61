//! A shop's checkout of three steps, two of which can be undone, and what the other side has seen of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hapax_core::policy::FailureClass;
use hapax_core::*;
use hapax_store::{Clock, MemoryStore};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{Engine, EngineOptions, Reply};
use crate::runner::{Failure, Runner, RunnerOptions};
use crate::steps::{Call, Came, Saga, SagaOptions, Step, StepError, Steps, Undo};

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// In virtual time, longer than any schedule here.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(super) fn memory() -> MemoryStore {
    let started = Instant::now();
    let reading = move || {
        let elapsed = started.elapsed();
        (Timestamp::from_millis(time::millis(elapsed)), elapsed)
    };
    MemoryStore::new(Clock::made(reading, Duration::MAX), [0; 32])
}

/// The other side of all steps.
#[derive(Clone, Default)]
pub(super) struct Other {
    /// What was asked of it, in order: `charge`, `undo charge`.
    heard: Arc<Mutex<Vec<String>>>,
    /// The keys of each.
    keys: Arc<Mutex<HashMap<String, Vec<String>>>>,
    /// How the next calls of each fail.
    failures: Arc<Mutex<HashMap<&'static str, VecDeque<FailureClass>>>>,
}

impl Other {
    pub(super) fn fails(&self, what: &'static str, with: impl IntoIterator<Item = FailureClass>) {
        self.failures.lock().unwrap().entry(what).or_default().extend(with);
    }

    pub(super) fn call(&self, what: &str, key: &str) -> Result<Bytes, Failure> {
        self.heard.lock().unwrap().push(what.to_owned());
        self.keys
            .lock()
            .unwrap()
            .entry(what.to_owned())
            .or_default()
            .push(key.to_owned());
        let failure = self
            .failures
            .lock()
            .unwrap()
            .get_mut(what)
            .and_then(VecDeque::pop_front);
        match failure {
            None => Ok(format!("{what} is done").into()),
            Some(class) => Err(Failure::new(class, &format!("{what} is planted to fail"))),
        }
    }

    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    pub(super) fn keys(&self, what: &str) -> Vec<String> {
        self.keys.lock().unwrap().get(what).cloned().unwrap_or_default()
    }

    pub(super) fn undo(&self) -> impl Fn(Undo) -> std::future::Ready<Result<Bytes, Failure>> + Send + Sync + use<> {
        let other = self.clone();
        move |undo| std::future::ready(other.call(&format!("undo {}", undo.step), &undo.step_key))
    }

    /// `reserve` and `charge` can be undone, `email` cannot and is not repeated.
    pub(super) fn steps(&self) -> [Step; 3] {
        [
            Step::at_least_once("reserve").undone_by(self.undo()),
            Step::at_least_once("charge").undone_by(self.undo()),
            Step::at_most_once("email"),
        ]
    }

    pub(super) async fn step(&self, steps: &Steps, name: &'static str) -> Result<Bytes, StepError> {
        let other = self.clone();
        steps
            .step(name, move |call: Call| async move { other.call(name, &call.key) })
            .await
    }

    /// The checkout: one step after the other.
    pub(super) async fn checkout(&self, engine: &Engine) -> Saga {
        let other = self.clone();
        self.saga(engine, move |steps, _| {
            let other = other.clone();
            async move {
                other.step(&steps, "reserve").await?;
                let charged = other.step(&steps, "charge").await?;
                other.step(&steps, "email").await?;
                Ok(charged)
            }
        })
        .await
    }

    pub(super) async fn saga<H, F>(&self, engine: &Engine, handler: H) -> Saga
    where
        H: Fn(Steps, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, StepError>> + Send + 'static,
    {
        let mut options = SagaOptions::default();
        // As short as the policies bear, so that little virtual time has to pass.
        options.policy.limits.elapsed = 3600 * SECOND;
        options.retention.remember_for = 24 * 3600 * SECOND;
        options.retention.replay_for = 3600 * SECOND;
        Saga::open(engine, "checkout", options, self.steps(), handler)
            .await
            .unwrap()
    }
}

pub(super) fn engine(store: impl Store) -> Engine {
    Engine::new(store, EngineOptions::default(), ())
}

pub(super) fn scope() -> Scope {
    Scope::new("s").unwrap()
}

pub(super) fn key() -> Key {
    Key::new("k").unwrap()
}

pub(super) async fn run(saga: &Saga) -> Reply<Came> {
    saga.run(scope(), key(), "order", Duration::ZERO).await.unwrap()
}

/// A runner that goes on until it is dropped.
pub(super) struct Running {
    _stop: oneshot::Sender<()>,
    task: JoinHandle<usize>,
}

impl Running {
    pub(super) fn start(engine: &Engine, saga: &Saga) -> Self {
        let (stop, told) = oneshot::channel::<()>();
        let options = RunnerOptions {
            // Days of virtual time pass here.
            poll: 60 * SECOND,
            ..RunnerOptions::default()
        };
        let runner = saga.equip(Runner::new(engine, options));
        let task = tokio::spawn(runner.run(async {
            let _ = told.await;
        }));
        Self { _stop: stop, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn operation(name: &str) -> Operation {
    Operation::new(scope(), Name::new(name).unwrap(), key())
}

pub(super) async fn find(engine: &Engine, name: &str) -> Option<Record> {
    engine.store().read(operation(name).id()).await.unwrap().1
}

pub(super) async fn record(engine: &Engine, name: &str) -> Record {
    find(engine, name).await.unwrap_or_else(|| panic!("no record {name}"))
}

/// Waits until a record is in a state.
#[track_caller]
pub(super) fn becomes(engine: &Engine, name: &str, state: StateName) -> impl Future<Output = Record> + use<> {
    let caller = std::panic::Location::caller();
    let (engine, name) = (engine.clone(), name.to_owned());
    async move {
        let wait = async {
            loop {
                if let Some(record) = find(&engine, &name).await
                    && record.state.name() == state
                {
                    return record;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(record) => record,
            Err(_) => panic!(
                "{caller}: {name} never became {state}: {:?}",
                find(&engine, &name).await
            ),
        }
    }
}

pub(super) async fn amend(engine: &Engine, name: &str, amend: Amend) -> Amended {
    let audit = Audit {
        actor: "ann".to_owned(),
        reason: "test".to_owned(),
    };
    let amendment = Amendment {
        amend,
        fence: None,
        audit,
    };
    engine.amend(&operation(name), amendment).await.unwrap()
}

pub(super) fn done(body: &'static str) -> Amend {
    Amend::Resolve {
        resolution: Resolution::Done(crate::steps::saga::outcome(body.into())),
        settle: Duration::ZERO,
    }
}

#[track_caller]
pub(super) fn dead(record: &Record, wanted: DeadReason) {
    assert!(
        matches!(record.state, State::Dead { reason, .. } if reason == wanted),
        "{record:?}"
    );
}
