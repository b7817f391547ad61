use super::*;
use crate::time::MadeTime;
use hapax_store::MemoryStore;

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(
        MadeTime::new(Timestamp::from_millis(0)).clock(),
        [1; 32],
    ))
}

fn only(set: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults::default();
    set(&mut faults);
    faults
}

/// Asks for a new recipe through the faults; says what was answered, whether it was carried out, at once and
/// later, and how long the answer took.
fn ask(faults: Faults) -> (bool, bool, bool, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let inner = memory();
        let faulty = Faulty::new(Arc::clone(&inner), 1, faults);
        let started = tokio::time::Instant::now();
        let answered = faulty.recipe("a".into()).await.is_ok();
        let took = started.elapsed();
        let at_once = inner.recipe_text(RecipeId::new(1)).await.unwrap().is_some();
        sleep(Duration::from_secs(10)).await;
        let later = inner.recipe_text(RecipeId::new(1)).await.unwrap().is_some();
        (answered, at_once, later, took)
    })
}

#[test]
fn each_fault_does_what_it_says() {
    let quick = Duration::ZERO;
    assert_eq!(ask(Faults::default()), (true, true, true, quick));
    assert_eq!(ask(only(|f| f.failed = 1000)), (false, false, false, quick));
    assert_eq!(ask(only(|f| f.outage = true)), (false, false, false, quick));
    assert_eq!(ask(only(|f| f.lost_reply = 1000)), (false, true, true, quick));
    assert_eq!(ask(only(|f| f.late = 1000)), (false, false, true, quick));
    assert_eq!(ask(only(|f| f.duplicated = 1000)), (true, true, true, quick));
    let (answered, carried_out, later, took) = ask(only(|f| f.timed_out = 1000));
    assert!(!answered && carried_out == later);
    assert_eq!(took, Duration::from_secs(3));
    let (answered, carried_out, _, took) = ask(only(|f| f.delayed = 1000));
    assert!(answered && carried_out && took > quick && took <= Duration::from_millis(500));
}

#[test]
fn faults_fall_as_often_as_told_and_the_same_way_again() {
    let run = |seed| {
        let mut plan = Plan {
            dice: Dice::new(seed),
            faults: Faults::all(50),
            injected: 0,
        };
        let drawn: Vec<Fault> = (0..10_000).map(|_| plan.draw().0).collect();
        (drawn, plan.injected)
    };
    let (drawn, injected) = run(5);
    assert!((2800..3200).contains(&injected), "{injected}");
    let lost = drawn.iter().filter(|fault| **fault == Fault::LostReply).count();
    assert!((400..600).contains(&lost), "{lost}");
    assert_eq!(run(5).0, drawn);
    assert_ne!(run(6).0, drawn);
}
