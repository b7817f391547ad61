//! Runners: many takers at once, lost replies, plans.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use hapax_core::{
    Amend, Amended, DeadReason, Fence, Filter, Finish, Finished, LastError, OperationId, Refusal, StateName, Store,
    Take, Timestamp, Work,
};
use hapax_store::Clock;
use hapax_store::postgres::{PostgresOptions, PostgresStore};
use hapax_testbed::Postgres;
use tokio_postgres::NoTls;

use super::world::{amendment, attempt, claim, connect, done, enqueue, lease, operation, take};

/// Stores on one database, all on the same made clock.
async fn stores(url: &str, count: usize) -> (Vec<Arc<PostgresStore>>, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(1_000_000));
    let mut stores = Vec::new();
    for _ in 0..count {
        let time = Arc::clone(&time);
        let clock = move || (Timestamp::from_millis(time.load(Ordering::SeqCst)), Duration::ZERO);
        let options = PostgresOptions {
            clock: Clock::made(clock, Duration::MAX),
            ..PostgresOptions::default()
        };
        stores.push(Arc::new(PostgresStore::connect(url, options).await.unwrap()));
    }
    (stores, time)
}

async fn enqueue_all(store: &Arc<PostgresStore>, keys: impl Iterator<Item = String>) {
    let enqueues: Vec<_> = keys
        .map(|key| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.enqueue(enqueue(&key)).await.unwrap() })
        })
        .collect();
    for enqueued in enqueues {
        assert_eq!(enqueued.await.unwrap().refusal, None);
    }
}

/// Eight takers on the given stores, until there is that much work: which record was taken, by which fence, how often
/// to be resolved.
async fn race(stores: &[Arc<PostgresStore>], work: usize, take: fn() -> Take) -> Vec<(OperationId, Option<Fence>)> {
    let count = Arc::new(AtomicUsize::new(0));
    let takers: Vec<_> = (0..8)
        .map(|taker| {
            let (store, count) = (Arc::clone(&stores[taker % stores.len()]), Arc::clone(&count));
            tokio::spawn(async move {
                let mut mine = Vec::new();
                while count.load(Ordering::SeqCst) < work {
                    let taken = store.take(take()).await.unwrap();
                    count.fetch_add(taken.work.len() + taken.ended.len(), Ordering::SeqCst);
                    mine.extend(taken.work.into_iter().map(|work| match work {
                        Work::Run(record, lease) => {
                            assert_eq!(lease.fence, record.fence);
                            (record.operation.id(), Some(lease.fence))
                        }
                        Work::Resolve(record) => (record.operation.id(), None),
                    }));
                    mine.extend(taken.ended.into_iter().map(|record| (record.operation.id(), None)));
                }
                mine
            })
        })
        .collect();
    let mut all = Vec::new();
    for taker in takers {
        all.extend(taker.await.unwrap());
    }
    all
}

fn distinct<T: Eq + std::hash::Hash>(all: impl Iterator<Item = T>) -> usize {
    all.collect::<HashSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_takers_take_each_record_once() {
    let database = Postgres::shared().database();
    let (stores, _) = stores(database.url(), 4).await;
    enqueue_all(&stores[0], (0..600).map(|key| key.to_string())).await;
    let taken = race(&stores, 600, || take(7)).await;
    assert_eq!(taken.len(), 600, "none twice");
    assert_eq!(distinct(taken.iter().map(|(id, _)| *id)), 600, "none lost");
    assert_eq!(distinct(taken.iter().map(|(_, fence)| fence.unwrap())), 600);
    for (id, fence) in taken {
        let finished = stores[1].finish(id, fence.unwrap(), done(10)).await.unwrap();
        assert!(matches!(finished, Finished::Applied { .. }), "{finished:?}");
    }
    let census = stores[0].census(true).await.unwrap();
    assert_eq!((census.waiting, census.oldest_due), (0, None));
    assert_eq!(census.scopes.iter().map(|(_, count)| count).sum::<u64>(), 600);
}

/// What is not simply waiting is decided in two steps; those must be as safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_takers_decide_on_each_record_once() {
    let database = Postgres::shared().database();
    let (stores, time) = stores(database.url(), 4).await;
    // Suspects, once their runner is gone.
    enqueue_all(&stores[0], (0..40).map(|key| format!("suspect {key}"))).await;
    assert_eq!(stores[0].take(take(100)).await.unwrap().work.len(), 40);
    // Exhausted ones: three tries, each released as a failure.
    enqueue_all(&stores[0], (0..40).map(|key| format!("exhausted {key}"))).await;
    for _ in 0..3 {
        for work in stores[0].take(take(100)).await.unwrap().work {
            let Work::Run(record, lease) = work else {
                panic!("{work:?}")
            };
            let finish = Finish::Release {
                after: Duration::ZERO,
                counts: true,
                last_error: Some(LastError::new("status 503")),
            };
            stores[0]
                .finish(record.operation.id(), lease.fence, finish)
                .await
                .unwrap();
        }
    }
    // Attended ones that lapse into unknown.
    for key in 0..40 {
        let mut claim = claim(&format!("unknown {key}"));
        claim.attended = true;
        lease(stores[0].claim(claim).await.unwrap());
    }
    time.fetch_add(60_000, Ordering::SeqCst);

    let decided = race(&stores, 80, || take(7)).await;
    assert_eq!(decided.len(), 80, "none twice");
    assert_eq!(distinct(decided.iter().map(|(id, _)| *id)), 80, "none lost");
    assert!(decided.iter().all(|(_, fence)| fence.is_none()), "{decided:?}");
    assert!(stores[2].take(take(7)).await.unwrap().suspects);

    let alone = race(&stores, 40, || Take { alone: true, ..take(7) }).await;
    assert_eq!(alone.len(), 40, "none twice");
    assert_eq!(distinct(alone.iter().map(|(id, _)| *id)), 40, "none lost");
    let fences: HashMap<_, _> = alone.into_iter().collect();
    let id = operation("suspect 7").id();
    let (_, record) = stores[0].read(id).await.unwrap();
    let record = record.unwrap();
    assert_eq!((record.fence, record.crashes), (fences[&id].unwrap(), 1));
    assert!(record.input.is_some());
    let census = stores[0].census(false).await.unwrap();
    assert_eq!((census.waiting, census.unknown, census.dead), (0, 40, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_repeated_after_a_lost_reply_is_answered_the_same() {
    let database = Postgres::shared().database();
    let (stores, time) = stores(database.url(), 2).await;
    let first = enqueue("k");
    assert_eq!(stores[0].enqueue(first.clone()).await.unwrap().refusal, None);
    assert_eq!(stores[1].enqueue(first.clone()).await.unwrap().refusal, None);
    let other = stores[1].enqueue(enqueue("k")).await.unwrap();
    assert!(matches!(other.refusal, Some(Refusal::Later { .. })), "{other:?}");
    enqueue_all(&stores[0], (0..4).map(|key| key.to_string())).await;

    let asked = take(3);
    let taken = stores[0].take(asked.clone()).await.unwrap();
    assert_eq!((taken.work.len(), taken.more), (3, true));
    let again = Take {
        again: true,
        limit: 4,
        ..asked.clone()
    };
    let repeated = stores[1].take(again.clone()).await.unwrap();
    assert_eq!(repeated.work[..3], taken.work[..]);
    assert_eq!(repeated.work.len(), 4, "and one more, up to its limit");
    time.fetch_add(60_000, Ordering::SeqCst);
    let late = stores[1].take(again).await.unwrap();
    assert_eq!(late.work.len(), 1, "what lapsed is no longer the attempt's: {late:?}");
    assert!(late.suspects);
}

#[tokio::test]
async fn an_amendment_leaves_its_line_in_the_same_step() {
    let database = Postgres::shared().database();
    let store = connect(database.url()).await;
    let won = lease(store.claim(claim("k")).await.unwrap());
    let id = operation("k").id();
    let finish = Finish::Dead {
        reason: DeadReason::Refused,
        answer: None,
        last_error: Some(LastError::new("no such account")),
    };
    store.finish(id, won.fence, finish).await.unwrap();
    // The audit cannot be written: nothing else may be either.
    database.query("ALTER TABLE hapax_audit ADD CONSTRAINT no_room CHECK (action <> 'redrive' AND action <> 'forget')");
    for amend in [Amend::Redrive, Amend::Forget { even_unknown: true }] {
        store.amend(id, amendment(amend)).await.unwrap_err();
    }
    let (_, record) = store.read(id).await.unwrap();
    assert_eq!(record.unwrap().state.name(), StateName::Dead);
    database.query("ALTER TABLE hapax_audit DROP CONSTRAINT no_room");

    let mut stale = amendment(Amend::Redrive);
    stale.fence = Some(Fence::new(won.fence.get() + 1));
    assert_eq!(store.amend(id, stale).await.unwrap(), Amended::Changed(StateName::Dead));
    let mut redrive = amendment(Amend::Redrive);
    redrive.fence = Some(won.fence);
    redrive.audit.reason = "a\0b".to_owned();
    match store.amend(id, redrive).await.unwrap() {
        Amended::Became(record) => {
            assert!(record.fence > won.fence);
            assert_eq!(store.read(id).await.unwrap().1, Some(*record));
        }
        other => panic!("{other:?}"),
    }
    let forget = amendment(Amend::Forget { even_unknown: false });
    assert_eq!(store.amend(id, forget).await.unwrap(), Amended::Forgotten);
    let (lines, next) = store.audit(Some(id), None, 1).await.unwrap();
    assert_eq!(
        (lines[0].action.as_str(), lines[0].after),
        ("redrive", Some(StateName::Waiting))
    );
    let (rest, end) = store.audit(Some(id), next, 10).await.unwrap();
    assert_eq!((rest.len(), rest[0].action.as_str(), end), (1, "forget", None));
    assert_eq!(store.audit(None, None, 10).await.unwrap().0, [lines, rest].concat());
    let other = operation("other").id();
    assert_eq!(store.audit(Some(other), None, 10).await.unwrap(), (Vec::new(), None));
}

/// Plans are made while the table is empty, and kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_read_through_their_index() {
    let database = Postgres::shared().database();
    let store = Arc::new(connect(database.url()).await);
    let listed = |state| Filter {
        state: Some(state),
        ..Filter::default()
    };
    let look = async |waiting, dead| {
        let page = store.list(listed(StateName::Waiting), None, 1000).await.unwrap();
        assert_eq!(page.records.len(), waiting);
        let page = store.list(listed(StateName::Dead), None, 1000).await.unwrap();
        assert_eq!(page.records.len(), dead);
        let census = store.census(false).await.unwrap();
        assert_eq!((census.waiting, census.dead), (waiting as u64, dead as u64));
    };
    assert_eq!(store.take(take(5)).await.unwrap().work, []);
    look(0, 0).await;
    let cycles: Vec<_> = (0..64)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for turn in 0..20 {
                    let key = format!("{caller}-{turn}");
                    let won = lease(store.claim(claim(&key)).await.unwrap());
                    store.finish(operation(&key).id(), won.fence, done(10)).await.unwrap();
                }
            })
        })
        .collect();
    for cycle in cycles {
        cycle.await.unwrap();
    }
    enqueue_all(&store, (0..100).map(|key| key.to_string())).await;
    for work in store.take(take(50)).await.unwrap().work {
        let Work::Run(record, lease) = work else {
            panic!("{work:?}")
        };
        let finish = Finish::Dead {
            reason: DeadReason::Refused,
            answer: None,
            last_error: None,
        };
        store.finish(record.operation.id(), lease.fence, finish).await.unwrap();
    }
    look(50, 50).await;

    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    // Sessions report what they did when they end at the latest.
    drop(store);
    let index = async |name: &str| -> (i64, i64) {
        let sql = "SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1";
        let row = client.query_one(sql, &[&name]).await.unwrap();
        (row.get(0), row.get(1))
    };
    // Two rounds of a take, two lists and a census.
    while index("hapax_record_wake_at").await.0 + index("hapax_record_position").await.0 < 8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(index("hapax_record_position").await, (0, 0), "all records were walked");
    assert_eq!(index("hapax_record_look_at").await, (0, 0));
    let sql = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'hapax_record'";
    let read: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(read, 0, "the table was scanned");
}

/// A take reads what it takes, however long the queue is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_reads_only_the_head_of_the_queue() {
    let database = Postgres::shared().database();
    let (filler, taker) = (Arc::new(connect(database.url()).await), connect(database.url()).await);
    assert_eq!(taker.take(take(10)).await.unwrap().work, []);
    enqueue_all(&filler, (0..1000).map(|key| key.to_string())).await;
    for _ in 0..10 {
        assert_eq!(taker.take(take(10)).await.unwrap().work.len(), 10);
    }
    drop(taker);
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = "SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'hapax_record_wake_at'";
    let read = loop {
        let row = client.query_one(sql, &[]).await.unwrap();
        let (scans, read): (i64, i64) = (row.get(0), row.get(1));
        if scans >= 11 {
            break read;
        }
        tokio::task::yield_now().await;
    };
    // With what earlier takes left behind, which is read until it is cleaned up.
    assert!((100..1000).contains(&read), "{read} entries read for 100 records");
}

#[tokio::test]
async fn an_enqueued_record_outlives_its_retention() {
    let database = Postgres::shared().database();
    let (stores, time) = stores(database.url(), 1).await;
    let store = &stores[0];
    store.enqueue(enqueue("k")).await.unwrap();
    let waits = {
        let mut claim = claim("waits for its caller");
        claim.attempt = attempt();
        lease(store.claim(claim).await.unwrap())
    };
    let release = Finish::Release {
        after: Duration::ZERO,
        counts: true,
        last_error: None,
    };
    store
        .finish(operation("waits for its caller").id(), waits.fence, release)
        .await
        .unwrap();
    time.fetch_add(60 * 24 * 3_600_000, Ordering::SeqCst);
    let swept = store.sweep(10).await.unwrap();
    assert_eq!((swept.looked_at, swept.forgotten), (2, 1));
    assert_eq!(store.take(take(5)).await.unwrap().work.len(), 1);
}

/// How many wait for their turn until later, and which is the oldest that is not done.
async fn line(database: &tokio_postgres::Client, now: i64) -> (i64, String) {
    let sql = "SELECT count(*) FILTER (WHERE state = 'waiting' AND wake_at > $1),
            (array_agg(key ORDER BY position))[1]
        FROM hapax_record WHERE wake_at IS NOT NULL AND key <> 'loner'";
    let row = database.query_one(sql, &[&now]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_take_stays_short_however_many_wait_for_their_turn() {
    const WAITING: usize = 20_000;
    let database = Postgres::shared().database();
    let (stores, time) = stores(database.url(), 1).await;
    let store = &stores[0];
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let group = Some(operation("aggregate").id());
    let tasks: Vec<_> = (0..WAITING)
        .map(|n| {
            let store = Arc::clone(store);
            let mut enqueue = enqueue(&format!("k{n}"));
            enqueue.group = group;
            tokio::spawn(async move { store.enqueue(enqueue).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    store.enqueue(enqueue("loner")).await.unwrap();
    let now = time.load(Ordering::SeqCst);
    let in_order = |limit| {
        let mut take = take(limit);
        take.names[0].ordered = true;
        take
    };

    // Each of these looks at a bounded number, and those behind the many are reached.
    let (mut before, mut given, mut takes) = (0, 0, 0);
    loop {
        let taken = store.take(in_order(64)).await.unwrap();
        takes += 1;
        given += taken.work.len();
        let (put_off, _) = line(&client, now).await;
        let most = (Take::MOST_PUT_OFF + 64) as i64;
        assert!(put_off - before <= most, "{} put off by one take", put_off - before);
        before = put_off;
        if !taken.more {
            break;
        }
    }
    assert_eq!(
        (given, before),
        (2, WAITING as i64 - 1),
        "the first of the line, and the loner"
    );
    assert!(takes >= WAITING / (Take::MOST_PUT_OFF + 64), "{takes} takes");

    // The line moves on at once, and nobody looks at the others.
    let mut running: Option<(String, Fence)> = None;
    for _ in 0..20 {
        let (_, oldest) = line(&client, now).await;
        if running.is_none() {
            let (_, record) = store.read(operation(&oldest).id()).await.unwrap();
            running = record.map(|record| (oldest, record.fence));
        }
        let (key, fence) = running.take().unwrap();
        let finished = store.finish(operation(&key).id(), fence, done(1)).await.unwrap();
        assert!(matches!(finished, Finished::Applied { .. }), "{finished:?}");
        let (put_off, oldest) = line(&client, now).await;
        let taken = store.take(in_order(64)).await.unwrap();
        let [Work::Run(record, lease)] = &taken.work[..] else {
            panic!("{taken:?}");
        };
        assert_eq!(record.operation.key().as_str(), oldest);
        assert_eq!(line(&client, now).await.0, put_off, "nobody else was looked at");
        running = Some((oldest, lease.fence));
    }
}
