//! Unknown outcomes are put to the resolvers, in their order, and what they find counts when it may.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hapax_core::policy::FailureClass;
use hapax_core::{BoxFuture, Record, State, StateName, Store};
use tokio::time::sleep;

use super::world::*;
use crate::resolver::{Found, ResolveError, Resolver};
use crate::runner::{Attempted, Handling};

/// Says one thing after the other, the last one for ever.
struct Says {
    name: &'static str,
    answers: Mutex<VecDeque<Result<Found, &'static str>>>,
    asked: AtomicUsize,
}

impl Says {
    fn new(name: &'static str, answers: impl IntoIterator<Item = Result<Found, &'static str>>) -> Arc<Self> {
        Arc::new(Self {
            name,
            answers: Mutex::new(answers.into_iter().collect()),
            asked: AtomicUsize::new(0),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolver for Says {
    fn name(&self) -> &str {
        self.name
    }

    fn resolve<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
        assert_eq!(record.state.name(), StateName::Unknown);
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.len() {
            1 => answers.front().cloned().unwrap(),
            _ => answers.pop_front().unwrap(),
        };
        Box::pin(async move { answer.map_err(ResolveError::new) })
    }
}

fn done() -> Result<Found, &'static str> {
    let (outcome, saw) = (outcome("found"), "charge 7".into());
    Ok(Found::Done { outcome, saw })
}

fn not_found() -> Result<Found, &'static str> {
    let saw = "status 404".into();
    Ok(Found::NotFound { saw })
}

fn cannot_say() -> Result<Found, &'static str> {
    let saw = "status 503".into();
    Ok(Found::CannotSay { saw })
}

fn resolved(resolvers: &[&Arc<Says>]) -> Handling {
    let mut handling = handling(policy());
    handling.resolvers = resolvers
        .iter()
        .map(|one| Arc::clone(*one) as Arc<dyn Resolver>)
        .collect();
    handling
}

/// A handler whose first run fails in a way that proves nothing.
fn ambiguous_once(starts: &Starts) -> impl Fn(crate::Run, String) -> std::future::Ready<Doing> + use<> {
    let starts = starts.clone();
    move |_, key| {
        std::future::ready(Doing::Ends(match starts.note(&key) {
            0 => failed(FailureClass::Ambiguous),
            _ => Attempted::Done(outcome("a")),
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_resolver_finds_is_done_and_audited() {
    let (store, starts) = (memory(), Starts::new());
    let (first, probe) = (Says::new("receipt", [cannot_say()]), Says::new("probe", [done()]));
    let last = Says::new("last", [not_found()]);
    let process = Process::start(&store, resolved(&[&first, &probe, &last]), ambiguous_once(&starts));
    process.enqueue("k").await;
    sleep(1500 * MILLI).await;
    assert_eq!(record(&store, "k").await.state, State::Done(outcome("found")));
    assert_eq!(
        (starts.all().len(), first.asked(), probe.asked(), last.asked()),
        (1, 1, 1, 0)
    );
    let audit = store.audit(Some(operation("k").id()), None, 10).await.unwrap();
    let [entry] = &audit.0[..] else { panic!("{audit:?}") };
    assert_eq!(
        (entry.audit.actor.as_str(), entry.audit.reason.as_str()),
        ("probe", "charge 7")
    );
    assert_eq!(
        (entry.action.as_str(), process.log.count("Resolved probe done")),
        ("resolve-done", 1)
    );
}

#[tokio::test(start_paused = true)]
async fn not_found_counts_only_once_settled_and_then_it_runs_again() {
    let (store, starts) = (memory(), Starts::new());
    let probe = Says::new("probe", [not_found()]);
    let process = Process::start(&store, resolved(&[&probe]), ambiguous_once(&starts));
    process.enqueue("k").await;
    sleep(29 * SECOND).await;
    assert_eq!(record(&store, "k").await.state.name(), StateName::Unknown);
    assert_eq!(starts.all().len(), 1);
    assert!(process.log.count("Unresolved probe: status 404, too early to count") > 5);
    sleep(6 * SECOND).await;
    assert_eq!(record(&store, "k").await.state, State::Done(outcome("a")));
    let times = starts.of("k");
    assert!(
        times.len() == 2 && times[1] >= 30 * SECOND && times[1] <= 34 * SECOND,
        "{times:?}"
    );
    assert_eq!(process.log.count("Resolved probe waiting"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_settles_nothing() {
    let (ahead, starts) = (Arc::new(AtomicI64::new(0)), Starts::new());
    let store = leaping(Arc::clone(&ahead));
    let probe = Says::new("probe", [not_found()]);
    let process = Process::start(&store, resolved(&[&probe]), ambiguous_once(&starts));
    process.enqueue("k").await;
    sleep(5 * SECOND).await;
    ahead.store(240_000, Ordering::SeqCst);
    sleep(29 * SECOND).await;
    assert_eq!(starts.all().len(), 1, "{:?}", starts.of("k"));
    sleep(60 * SECOND).await;
    assert_eq!(record(&store, "k").await.state, State::Done(outcome("a")));
    assert_eq!(starts.all().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_before_it_settled_does_not_count_after() {
    /// Looks at once, and takes 20 s to say so.
    struct Slow;
    impl Resolver for Slow {
        fn name(&self) -> &str {
            "slow"
        }
        fn resolve<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
            Box::pin(async move {
                sleep(20 * SECOND).await;
                let saw = format!("status 404 {}", record.since);
                Ok(Found::NotFound { saw })
            })
        }
    }
    let (store, starts) = (memory(), Starts::new());
    let mut handling = handling(policy());
    handling.resolvers = vec![Arc::new(Slow)];
    let process = Process::start(&store, handling, ambiguous_once(&starts));
    process.enqueue("k").await;
    sleep(120 * SECOND).await;
    let times = starts.of("k");
    assert!(times.len() == 2 && times[1] >= 50 * SECOND, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_nobody_can_tell_is_asked_about_ever_less_often() {
    let (store, starts) = (memory(), Starts::new());
    let probe = Says::new("probe", [Err("no route to host"), cannot_say()]);
    let process = Process::start(&store, resolved(&[&probe]), ambiguous_once(&starts));
    process.enqueue("k").await;
    sleep(2 * SECOND).await;
    assert_eq!(process.log.count("Unresolved probe: no route to host"), 1);
    sleep(1000 * SECOND).await;
    let asked = probe.asked();
    assert!((30..80).contains(&asked), "{asked}");
    assert_eq!(
        (starts.all().len(), record(&store, "k").await.state.name()),
        (1, StateName::Unknown)
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_resolver_it_stays_unknown() {
    let (store, starts) = (memory(), Starts::new());
    let process = Process::start(&store, resolved(&[]), ambiguous_once(&starts));
    process.enqueue("k").await;
    sleep(1000 * SECOND).await;
    assert_eq!(
        (starts.all().len(), record(&store, "k").await.state.name()),
        (1, StateName::Unknown)
    );
    assert!(process.link.takes.load(Ordering::SeqCst) > 900);
}

#[tokio::test(start_paused = true)]
async fn a_callers_run_that_lapsed_is_resolved_where_callers_are_attended() {
    let store = memory();
    let probe = Says::new("probe", [done()]);
    let runner = Process::start(&store, resolved(&[&probe]), |_, _| async { Doing::Kills });
    for (key, attended) in [("attended", true), ("not", false)] {
        let caller = Process::start(&store, resolved(&[]), |_, _| async { Doing::Kills });
        let mut arrival = arrival(key);
        arrival.options.attended = attended;
        let engine = caller.engine.clone();
        tokio::spawn(async move { engine.run::<(), _, _>(arrival, |_| std::future::pending()).await });
        sleep(SECOND).await;
        caller.live(Life::Dead);
    }
    sleep(40 * SECOND).await;
    assert_eq!(record(&store, "attended").await.state, State::Done(outcome("found")));
    assert_eq!(probe.asked(), 1);
    assert_eq!(
        record(&store, "not").await.state.name(),
        StateName::Running,
        "nobody looks after it"
    );
    assert_eq!(runner.log.count("Resolved"), 1);
}
