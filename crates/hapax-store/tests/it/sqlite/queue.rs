//! Work for runners, on one file and by several processes.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{
    Amend, Amended, DeadReason, Filter, Finish, Finished, LastError, Name, Operation, Record, Starter, State,
    StateName, Store, Taken, Work,
};

use super::{Hand, amendment, claim, done, enqueue, open, open_at, operation, take, win};

fn dead() -> Finish {
    Finish::Dead {
        reason: DeadReason::Refused,
        answer: None,
        last_error: Some(LastError::new("no such account")),
    }
}

fn key(record: &Record) -> String {
    record.operation.key().as_str().to_owned()
}

fn keys(taken: &Taken) -> Vec<String> {
    let record = |work: &Work| match work {
        Work::Run(record, _) | Work::Resolve(record) => key(record),
    };
    taken.work.iter().map(record).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_given_to_two_takers_on_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let stores = [Arc::new(open(&path)), Arc::new(open(&path))];
    for n in 0..400 {
        stores[0].enqueue(enqueue(&format!("k{n}"))).await.unwrap();
    }
    let mut takers = Vec::new();
    for taker in 0..8_u8 {
        let store = Arc::clone(&stores[usize::from(taker) % 2]);
        takers.push(tokio::spawn(async move {
            let mut fences = Vec::new();
            for round in 0.. {
                let taken = store.take(take(taker * 30 + round, 17)).await.unwrap();
                for work in &taken.work {
                    let Work::Run(record, lease) = work else {
                        panic!("{work:?}")
                    };
                    assert_eq!(record.input.as_ref().unwrap().0, key(record));
                    let finished = store
                        .finish(record.operation.id(), lease.fence, done("ok"))
                        .await
                        .unwrap();
                    assert!(matches!(finished, Finished::Applied { .. }), "{finished:?}");
                    fences.push(lease.fence);
                }
                if taken.work.is_empty() && !taken.more {
                    break;
                }
            }
            fences
        }));
    }
    let mut fences = Vec::new();
    for taker in takers {
        fences.extend(taker.await.unwrap());
    }
    assert_eq!(fences.len(), 400, "each was taken once");
    fences.sort();
    fences.dedup();
    assert_eq!(fences.len(), 400, "no fence was given out twice");
    let page = stores[1].list(Filter::default(), None, 1000).await.unwrap();
    assert_eq!(page.records.len(), 400);
    assert!(
        page.records
            .iter()
            .all(|record| record.state == StateName::Done && !record.has_input)
    );
}

#[tokio::test]
async fn a_take_passes_over_whatever_stands_in_its_way() {
    let directory = tempfile::tempdir().unwrap();
    let hand = Hand::at(1_000_000);
    let store = open_at(&directory.path().join("hapax.db"), hand.clock());
    // More than a portion of them: suspects, and records that nobody here handles.
    for n in 0..300 {
        store.enqueue(enqueue(&format!("suspect {n}"))).await.unwrap();
        let mut other = enqueue(&format!("other {n}"));
        let (scope, key) = (other.operation.scope().clone(), other.operation.key().clone());
        other.operation = Operation::new(scope, Name::new("other").unwrap(), key);
        store.enqueue(other).await.unwrap();
    }
    assert_eq!(store.take(take(1, 1000)).await.unwrap().work.len(), 300);
    hand.advance(Duration::from_secs(31));
    for n in 0..3 {
        store.enqueue(enqueue(&format!("good {n}"))).await.unwrap();
    }
    let taken = store.take(take(2, 2)).await.unwrap();
    assert_eq!(keys(&taken), ["good 0", "good 1"]);
    assert_eq!((taken.suspects, taken.more), (true, true));
    let taken = store.take(take(3, 2)).await.unwrap();
    assert_eq!(keys(&taken), ["good 2"]);
    assert_eq!((taken.suspects, taken.more), (true, false));

    let mut alone = take(4, 10);
    alone.alone = true;
    let taken = store.take(alone).await.unwrap();
    assert_eq!(keys(&taken), ["suspect 0"]);
    let Work::Run(record, _) = &taken.work[0] else {
        panic!("{taken:?}")
    };
    assert!(matches!(
        record.state,
        State::Running {
            starter: Starter::Alone,
            ..
        }
    ));
    assert_eq!(
        (record.crashes, record.tries, record.input.clone()),
        (1, 1, Some(enqueue("suspect 0").input))
    );
    assert!(taken.more && !taken.suspects);

    // A heartbeat, and it is one of many.
    store
        .renew(record.operation.id(), record.fence, Duration::from_secs(30))
        .await
        .unwrap();
    let (_, record) = store.read(record.operation.id()).await.unwrap();
    assert!(matches!(
        record.unwrap().state,
        State::Running {
            starter: Starter::System,
            ..
        }
    ));
}

#[tokio::test]
async fn a_repeated_take_finds_what_it_took() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("hapax.db"));
    for n in 0..5 {
        store.enqueue(enqueue(&format!("k{n}"))).await.unwrap();
    }
    let first = store.take(take(1, 3)).await.unwrap();
    let mut again = take(1, 4);
    again.again = true;
    let second = store.take(again.clone()).await.unwrap();
    assert_eq!(keys(&second), ["k0", "k1", "k2", "k3"]);
    assert_eq!(second.work[..3], first.work);
    again.limit = 2;
    let third = store.take(again).await.unwrap();
    assert_eq!((third.work, third.more), (second.work, true));
}

#[tokio::test]
async fn an_input_and_an_error_live_as_long_as_they_are_needed() {
    let directory = tempfile::tempdir().unwrap();
    let hand = Hand::at(1_000_000);
    let store = open_at(&directory.path().join("hapax.db"), hand.clock());
    let large = bytes::Bytes::from(vec![b'x'; 3 << 20]);
    let mut enqueued = enqueue("k");
    enqueued.input.0 = large.clone();
    assert_eq!(store.enqueue(enqueued).await.unwrap().refusal, None);
    let id = operation("k").id();
    let taken = store.take(take(1, 1)).await.unwrap();
    let Work::Run(record, lease) = &taken.work[0] else {
        panic!("{taken:?}")
    };
    let release = Finish::Release {
        after: Duration::from_secs(5),
        counts: false,
        last_error: Some(LastError::new("busy")),
    };
    assert_eq!(record.tries, 1);
    store.finish(id, lease.fence, release).await.unwrap();
    let (now, record) = store.read(id).await.unwrap();
    let record = record.unwrap();
    assert_eq!(
        (record.tries, record.wake_at),
        (0, Some(now.after(Duration::from_secs(5))))
    );
    assert_eq!(record.input.as_ref().unwrap().0, large);

    // An arrival runs it; its claim lapses, and an arrival notices.
    hand.advance(Duration::from_secs(5));
    let lease = win(&store, claim("k")).await;
    hand.advance(Duration::from_secs(30));
    let mut late = claim("k");
    late.attempt = hapax_core::AttemptId::from_bytes([9; 16]);
    store.claim(late).await.unwrap();
    let (_, record) = store.read(id).await.unwrap();
    let record = record.unwrap();
    assert_eq!(
        (record.state.name(), record.wake_at),
        (StateName::Unknown, Some(lease.deadline))
    );
    assert_eq!(record.input.unwrap().0, large);
    assert_eq!(record.last_error.unwrap().as_str(), "busy");

    store.finish(id, lease.fence, dead()).await.unwrap();
    let Amended::Became(record) = store.amend(id, amendment(Amend::Redrive)).await.unwrap() else {
        panic!("not redriven")
    };
    assert_eq!(record.input.as_ref().unwrap().0, large);
    assert!(record.fence > lease.fence && record.redriven.is_some());
    let taken = store.take(take(2, 1)).await.unwrap();
    let Work::Run(record, lease) = &taken.work[0] else {
        panic!("{taken:?}")
    };
    assert_eq!(record.input.as_ref().unwrap().0, large);
    store.finish(id, lease.fence, done("ok")).await.unwrap();
    let (_, record) = store.read(id).await.unwrap();
    let record = record.unwrap();
    assert_eq!((record.input, record.last_error, record.wake_at), (None, None, None));
}
