//! What the simulator found in the engine, told step by step.

use std::sync::Arc;
use std::time::Duration;

use hapax::{Arrival, Ended, Engine, EngineOptions, Reply, RunError, RunOptions};
use hapax_check::MadeTime;
use hapax_check::conformance::block_on;
use hapax_check::faulty::{Faults, Faulty};
use hapax_core::{
    AfterFailure, Answer, Cause, Fingerprint, Finish, Key, Name, Operation, Outcome, RecipeId, Refusal, Scope, Store,
    Timestamp,
};
use hapax_store::MemoryStore;
use tokio::runtime::Builder;
use tokio::time::sleep;

#[allow(clippy::unwrap_used, reason = "short printable words are words")]
fn arrival(payload: u8) -> Arrival {
    let (scope, name, key) = (Scope::new("s"), Name::new("n"), Key::new("k"));
    Arrival {
        group: None,
        input: None,
        operation: Operation::new(scope.unwrap(), name.unwrap(), key.unwrap()),
        fingerprint: Fingerprint::new(RecipeId::new(1), [payload; 32]),
        refingerprint: Arc::new(|_, _| None),
        options: RunOptions {
            after_failure: AfterFailure::Retry,
            ..RunOptions::default()
        },
        wait: Duration::ZERO,
    }
}

fn ended(body: &'static str) -> Ended<&'static str> {
    let answer = Answer {
        status: 201,
        headers: vec![],
        body: body.into(),
    };
    Ended {
        finish: Finish::Done(Outcome::Answer(answer)),
        reply: body,
    }
}

#[test]
fn a_run_that_was_forgotten_is_not_told_the_answer_to_another_payload() {
    block_on(async {
        let time = MadeTime::new(Timestamp::from_millis(0));
        let store = Arc::new(MemoryStore::new(time.clock(), [1; 32]));
        let engine = Engine::shared(store.clone(), EngineOptions::default(), Arc::new(()));
        let inner = engine.clone();
        let slow = move |_| async move {
            // Long past the lease; nobody asks again, so that the key becomes free.
            time.pass(Duration::from_secs(10 * 86_400));
            assert_eq!(store.sweep(10).await.unwrap().forgotten, 1);
            let other = inner.run(arrival(2), |_| async { ended("other") }).await;
            assert!(matches!(other, Ok(Reply::Ran("other"))), "{other:?}");
            ended("slow")
        };
        let told = engine.run(arrival(1), slow).await;
        assert!(matches!(told, Err(RunError::Lost)), "{told:?}");
    });
}

#[test]
fn a_claim_that_is_heard_of_after_its_lease_is_not_run() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let time = MadeTime::new(Timestamp::from_millis(0));
        let memory = Arc::new(MemoryStore::new(time.clock(), [1; 32]));
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(100)).await;
                time.pass(Duration::from_millis(100));
            }
        });
        // With this seed the first reply takes longer than a lease.
        let slow = Faults {
            delayed: 1000,
            longest_delay_ms: 200_000,
            ..Faults::default()
        };
        let engine = Engine::new(Faulty::new(memory, 1, slow), EngineOptions::default(), ());
        let mut arrival = arrival(1);
        arrival.options.after_failure = AfterFailure::Hold;
        let told = engine.run(arrival, |_| async { ended("too late") }).await;
        let cause = Cause::Lapsed;
        assert!(
            matches!(&told, Ok(Reply::Refused(Refusal::Unknown { cause: told, .. })) if *told == cause),
            "{told:?}"
        );
    });
}
