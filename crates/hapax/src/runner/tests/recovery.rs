//! What a crash, a pause, or a lost reply leaves behind is run by somebody, once.

use std::collections::HashSet;
use std::time::Duration;

use hapax_core::{DeadReason, Refusal, State, StateName, Store};
use tokio::time::{Instant, sleep};

use super::world::*;
use crate::engine::{Ended, Reply};
use crate::runner::Attempted;

async fn done() -> Doing {
    Doing::Ends(Attempted::Done(outcome("a")))
}

#[tokio::test(start_paused = true)]
async fn two_runners_share_the_work() {
    let (store, starts) = (memory(), [Starts::new(), Starts::new()]);
    let processes = starts.clone().map(|starts| {
        Process::start(&store, handling(policy()), move |_, key| {
            starts.note(&key);
            async {
                sleep(50 * MILLI).await;
                done().await
            }
        })
    });
    for number in 0..200 {
        processes[0].enqueue(&number.to_string()).await;
    }
    sleep(10 * SECOND).await;
    let [here, there] = starts.map(|starts| starts.all());
    assert_eq!(here.len() + there.len(), 200);
    assert!(here.len() >= 50 && there.len() >= 50, "{} {}", here.len(), there.len());
    let keys: HashSet<_> = here.iter().chain(&there).map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 200, "each once");
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_cut_off_is_run_by_another_in_retry_mode_and_unknown_in_hold_mode() {
    for (handling, runs_again) in [(retrying(policy()), true), (handling(policy()), false)] {
        let (store, starts) = (memory(), Starts::new());
        let first = Process::start(&store, handling.clone(), |_, _| async { Doing::Kills });
        first.enqueue("k").await;
        first.died().await;
        let noted = starts.clone();
        let second = Process::start(&store, handling, move |_, key| {
            noted.note(&key);
            done()
        });
        sleep(60 * SECOND).await;
        let state = record(&store, "k").await.state.name();
        match runs_again {
            true => assert_eq!((state, starts.all().len()), (StateName::Done, 1)),
            false => assert_eq!((state, starts.all().len()), (StateName::Unknown, 0)),
        }
        assert_eq!(second.log.count("Unattended"), usize::from(!runs_again));
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_process_that_wakes_up_is_fenced() {
    let store = memory();
    let mut policy = policy();
    policy.limits.per_try = 1000 * SECOND;
    policy.limits.total = 1000 * SECOND;
    let mut handling = retrying(policy);
    handling.crashes_count = false;
    let paused = Process::start(&store, handling.clone(), |_, _| async {
        sleep(100 * SECOND).await;
        Doing::Ends(Attempted::Done(outcome("stale")))
    });
    paused.enqueue("k").await;
    sleep(SECOND).await;
    paused.live(Life::Frozen);
    let other = Process::start(&store, handling, |_, _| done());
    sleep(150 * SECOND).await;
    assert_eq!(other.log.count("Finished"), 1);
    paused.live(Life::Alive);
    sleep(10 * SECOND).await;
    assert_eq!(paused.log.count("Fenced"), 1);
    assert_eq!(record(&store, "k").await.state, State::Done(outcome("a")));
}

#[tokio::test(start_paused = true)]
async fn poison_ends_dead_and_what_ran_beside_it_ends_done() {
    let (store, starts, kills) = (memory(), Starts::new(), Starts::new());
    let start = || {
        let (starts, kills) = (starts.clone(), kills.clone());
        Process::start(&store, retrying(policy()), move |_, key: String| {
            starts.note(&key);
            let kills = kills.clone();
            async move {
                // In flight when the poison kills, unless it runs alone.
                sleep(SECOND).await;
                if key == "poison" {
                    kills.note("poison");
                    return Doing::Kills;
                }
                sleep(SECOND).await;
                done().await
            }
        })
    };
    let mut process = start();
    let bystanders: Vec<_> = (0..15).map(|number| number.to_string()).collect();
    process.enqueue("poison").await;
    for key in &bystanders {
        process.enqueue(key).await;
    }
    let began = Instant::now();
    while record(&store, "poison").await.state.name() != StateName::Dead {
        tokio::select! {
            () = process.died() => {
                sleep(5 * SECOND).await;
                process = start();
            }
            () = sleep(SECOND) => {}
        }
        assert!(began.elapsed() < 600 * SECOND, "{:?}", record(&store, "poison").await);
    }
    sleep(120 * SECOND).await;
    let poison = record(&store, "poison").await;
    assert!(
        matches!(
            poison.state,
            State::Dead {
                reason: DeadReason::Poison,
                ..
            }
        ),
        "{poison:?}"
    );
    assert_eq!(kills.all().len(), 3);
    for key in &bystanders {
        let record = record(&store, key).await;
        assert_eq!(
            (record.state.name(), record.tries),
            (StateName::Done, 1),
            "{key} {:?}",
            starts.of(key)
        );
        assert!(starts.of(key).len() <= 2, "{key} {:?}", starts.of(key));
    }
    assert_eq!(process.log.count("Died poison"), 1);
}

#[tokio::test(start_paused = true)]
async fn bystanders_of_three_crashes_end_done_each_time() {
    let (store, kills) = (memory(), Starts::new());
    let start = || {
        let kills = kills.clone();
        Process::start(&store, retrying(policy()), move |_, key: String| {
            let kills = kills.clone();
            async move {
                if key == "poison" {
                    // Late enough for the others to be in flight.
                    sleep(SECOND).await;
                    kills.note(&key);
                    return Doing::Kills;
                }
                sleep(2 * SECOND).await;
                done().await
            }
        })
    };
    let mut process = start();
    process.enqueue("poison").await;
    for batch in 0..3 {
        for number in 0..15 {
            process.enqueue(&format!("{batch}-{number}")).await;
        }
        process.died().await;
        sleep(31 * SECOND).await;
        process = start();
    }
    sleep(400 * SECOND).await;
    assert!(matches!(record(&store, "poison").await.state, State::Dead { .. }));
    assert_eq!(kills.all().len(), 3);
    for key in (0..3).flat_map(|batch| (0..15).map(move |number| format!("{batch}-{number}"))) {
        assert_eq!(record(&store, &key).await.state.name(), StateName::Done, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspect_runs_with_nothing_beside_it_until_its_first_heartbeat() {
    let (store, starts) = (memory(), Starts::new());
    let crashing = Process::start(&store, retrying(policy()), |_, key: String| async move {
        sleep(SECOND).await;
        if key == "kills" {
            Doing::Kills
        } else {
            std::future::pending().await
        }
    });
    for key in ["kills", "suspect"] {
        crashing.enqueue(key).await;
    }
    crashing.died().await;
    // Only the suspect is left.
    let mut policy = policy();
    policy.limits.per_try = 100 * SECOND;
    policy.limits.total = 100 * SECOND;
    let noted = starts.clone();
    let process = Process::start(&store, retrying(policy), move |_, key: String| {
        noted.note(&key);
        async move {
            match key.as_str() {
                "kills" | "suspect" => sleep(25 * SECOND).await,
                _ => sleep(SECOND).await,
            }
            done().await
        }
    });
    while process.log.count("Suspect") == 0 {
        sleep(100 * MILLI).await;
    }
    let (began, engine) = (Instant::now(), process.engine.clone());
    process.enqueue("other").await;
    let caller = tokio::spawn(async move {
        let mut arrival = arrival("caller");
        arrival.wait = SECOND;
        let handler = |_| async {
            Ended {
                finish: hapax_core::Finish::Done(outcome("c")),
                reply: (),
            }
        };
        engine.run(arrival, handler).await
    });
    let reply = caller.await.unwrap().unwrap();
    assert!(matches!(reply, Reply::Ran(())));
    let waited = began.elapsed();
    assert!((9 * SECOND..=10 * SECOND).contains(&waited), "{waited:?}");
    sleep(SECOND).await;
    assert_eq!(starts.of("other").len(), 1, "it went on after the first heartbeat");
    sleep(100 * SECOND).await;
    for key in ["kills", "suspect", "other"] {
        assert_eq!(record(&store, key).await.state.name(), StateName::Done, "{key}");
    }
    assert_eq!(process.log.count("Suspect"), 2);
}

#[tokio::test(start_paused = true)]
async fn lost_replies_are_asked_for_again() {
    for step in ["enqueue", "take", "finish"] {
        let (store, starts) = (memory(), Starts::new());
        let noted = starts.clone();
        let process = Process::start(&store, handling(policy()), move |_, key| {
            noted.note(&key);
            done()
        });
        sleep(1500 * MILLI).await;
        process.link.lose.lock().unwrap().insert(step, 3);
        assert_eq!(process.enqueue("k").await.refusal, None, "{step}");
        sleep(5 * SECOND).await;
        assert_eq!(record(&store, "k").await.state, State::Done(outcome("a")), "{step}");
        assert_eq!(starts.all().len(), 1, "{step}");
        assert_eq!(process.log.count("StoreFailed"), 3, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_in_an_outage_runs_when_the_store_is_back() {
    let (store, starts) = (memory(), Starts::new());
    let noted = starts.clone();
    let process = Process::start(&store, handling(policy()), move |_, key| {
        noted.note(&key);
        done()
    });
    sleep(SECOND).await;
    process.link.lose.lock().unwrap().insert("take", 15);
    process.enqueue("k").await;
    sleep(25 * SECOND).await;
    assert_eq!(
        record(&store, "k").await.state,
        State::Done(outcome("a")),
        "before its lease lapsed"
    );
    assert_eq!(starts.all().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_look_at_an_operation_claims_nothing() {
    let store = memory();
    let process = Process::start(&store, handling(policy()), |_, _| async {
        sleep(SECOND).await;
        done().await
    });
    let peek = |key: &'static str| {
        let engine = process.engine.clone();
        async move { engine.peek(&arrival(key)).await.unwrap() }
    };
    assert_eq!(peek("k").await, None);
    assert_eq!(store.read(operation("k").id()).await.unwrap().1, None);
    process.enqueue_in("k", SECOND).await;
    assert!(matches!(peek("k").await, Some(Refusal::Later { .. })));
    sleep(1500 * MILLI).await;
    assert!(matches!(peek("k").await, Some(Refusal::InProgress { .. })));
    let mut other = arrival("k");
    other.fingerprint = hapax_core::Fingerprint::new(hapax_core::RecipeId::new(1), [2; 32]);
    assert_eq!(process.engine.peek(&other).await.unwrap(), Some(Refusal::Mismatch));
    sleep(SECOND).await;
    assert!(matches!(peek("k").await, Some(Refusal::Done { .. })));
    process.live(Life::Frozen);
    assert!(matches!(peek("k").await, Some(Refusal::Done { .. })), "from the cache");
    assert_eq!(process.log.count("Started"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operation_enqueued_under_an_older_recipe_is_compared_under_that_recipe() {
    let (store, process) = {
        let store = memory();
        let process = Process::start(&store, handling(policy()), |_, _| done());
        (store, process)
    };
    let old = store.recipe("old".into()).await.unwrap();
    let new = store.recipe("new".into()).await.unwrap();
    let under = |recipe, old_digest: u8| {
        let mut arrival = arrival("k");
        arrival.fingerprint = hapax_core::Fingerprint::new(recipe, [9; 32]);
        arrival.refingerprint = std::sync::Arc::new(move |text, id| {
            (text == "old").then(|| hapax_core::Fingerprint::new(id, [old_digest; 32]))
        });
        arrival
    };
    let engine = &process.engine;
    let input = || hapax_core::Input("k".into());
    let long = Duration::from_secs(100);
    assert_eq!(
        engine.enqueue(under(old, 0), input(), long).await.unwrap().refusal,
        None
    );
    let same = engine.enqueue(under(new, 9), input(), long).await.unwrap().refusal;
    assert!(matches!(same, Some(Refusal::Later { .. })), "{same:?}");
    let other = engine.enqueue(under(new, 8), input(), long).await.unwrap().refusal;
    assert_eq!(other, Some(Refusal::Mismatch));
    assert!(matches!(
        engine.peek(&under(new, 9)).await.unwrap(),
        Some(Refusal::Later { .. })
    ));
    assert_eq!(engine.peek(&under(new, 8)).await.unwrap(), Some(Refusal::Mismatch));
}
