//! What happens between a look at a dead letter and its redrive.

use std::time::Duration;

use hapax::core::{
    AfterFailure, Amend, Amended, Amendment, AttemptId, Audit, Claim, DeadReason, Filter, Fingerprint, Finish, Key,
    Name, Operation, RecipeId, Retention, Ruling, Scope, Starter, StateName, Store, Summary,
};
use hapax::store::{Clock, MemoryStore};

use super::pace::Pace;
use super::progress::Progress;
use super::stop::Stop;
use super::tally::{Step, Tally};
use super::walk::Walk;
use crate::store;

fn operation() -> Operation {
    Operation::new(
        Scope::new("s").unwrap(),
        Name::new("n").unwrap(),
        Key::new("k").unwrap(),
    )
}

async fn dies(store: &MemoryStore, attempt: u8) {
    let claim = Claim {
        operation: operation(),
        fingerprint: Fingerprint::new(RecipeId::new(1), [1; 32]),
        attempt: AttemptId::from_bytes([attempt; 16]),
        starter: Starter::Caller,
        lease: Duration::from_secs(60),
        max_run: Duration::from_secs(60),
        after_failure: AfterFailure::Hold,
        attended: false,
        retention: Retention::default(),
        input: None,
        group: None,
    };
    let Ruling::Won(lease) = store.claim(claim).await.unwrap().ruling else {
        panic!("attempt {attempt} was refused");
    };
    let dead = Finish::Dead {
        reason: DeadReason::Exhausted,
        answer: None,
        last_error: None,
    };
    store.finish(operation().id(), lease.fence, dead).await.unwrap();
}

async fn looked_at(store: &MemoryStore) -> Summary {
    store.list(Filter::default(), None, 1).await.unwrap().records.remove(0)
}

fn walk(store: &MemoryStore) -> Walk<'_> {
    Walk {
        store,
        amend: Amend::Redrive,
        audit: audit(),
        pace: Pace::new(None),
        stop: Stop::new().unwrap(),
        progress: Progress::new(1),
        tally: Tally::default(),
        json: false,
    }
}

fn audit() -> Audit {
    Audit {
        actor: "other".to_owned(),
        reason: "first".to_owned(),
    }
}

#[test]
fn only_the_death_that_was_looked_at_is_redriven() {
    store::runtime().unwrap().block_on(async {
        let store = MemoryStore::new(Clock::system(Clock::DEFAULT_MAX_STEP), [1; 32]);
        dies(&store, 1).await;
        let seen = looked_at(&store).await;
        let other = Amendment {
            amend: Amend::Redrive,
            fence: None,
            audit: audit(),
        };
        let amended = store.amend(operation().id(), other).await.unwrap();
        assert!(matches!(amended, Amended::Became(_)), "{amended:?}");
        let mut walk = walk(&store);
        assert_eq!(walk.one(&seen).await.ok(), Some(Step::Skip("waiting")));
        dies(&store, 2).await;
        assert_eq!(
            walk.one(&seen).await.ok(),
            Some(Step::Skip("dead")),
            "it died once more"
        );
        assert_eq!(looked_at(&store).await.state, StateName::Dead);
        let seen = looked_at(&store).await;
        assert_eq!(walk.one(&seen).await.ok(), Some(Step::Release));
        assert_eq!(walk.one(&seen).await.ok(), Some(Step::Skip("waiting")));
        let sentence = walk.tally.sentence(false, false);
        assert!(sentence.ends_with("skipped: 1 dead, 2 waiting"), "{sentence}");
    });
}
