//! What a consumer asks of its source, and what it does when that fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use hapax::consume::{Delivery, Lag, MemorySource, Settle, SourceError, SourceErrorKind};
use hapax::http::InputSeal;
use tokio::sync::watch;

use super::*;

/// A source that tells what it was asked for.
struct Watched {
    source: MemorySource,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    /// Calls to pause.
    paused: AtomicUsize,
    extended: AtomicUsize,
    lags: AtomicUsize,
    /// The most that was asked for at once, after a pause.
    probes: AtomicUsize,
    /// While it is away, nothing is received and nothing settled.
    away: AtomicBool,
    /// How many handlers must have begun before an acknowledgement is answered.
    slow: AtomicUsize,
    begun: watch::Sender<usize>,
}

impl Watched {
    fn new(world: &World) -> (Self, Arc<Told>) {
        let told = Arc::<Told>::default();
        let source = world.queue.source();
        let theirs = Arc::clone(&told);
        (Self { source, told: theirs }, told)
    }
}

fn away<T>() -> Result<T, SourceError> {
    Err(SourceError::new(SourceErrorKind::Unreachable, "planted"))
}

impl Source for Watched {
    fn label(&self) -> &str {
        "watched"
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        if self.told.away.load(SeqCst) {
            return Box::pin(std::future::ready(away()));
        }
        if self.told.paused.load(SeqCst) == 1 {
            self.told.probes.fetch_max(most, SeqCst);
        }
        Box::pin(async move {
            let given = self.source.receive(most).await?;
            let watch = |delivery: Delivery| Delivery {
                settle: Box::new(Watching(delivery.settle, Arc::clone(&self.told))),
                ..delivery
            };
            Ok(given.into_iter().map(watch).collect())
        })
    }

    fn pause(&mut self) -> BoxFuture<'_, ()> {
        self.told.paused.fetch_add(1, SeqCst);
        self.source.pause()
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        self.told.lags.fetch_add(1, SeqCst);
        self.source.lag()
    }

    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        self.source.redelivers_for()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        self.source.close()
    }
}

struct Watching(Box<dyn Settle>, Arc<Told>);

impl Settle for Watching {
    fn ack(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        match self.1.away.load(SeqCst) {
            true => Box::pin(std::future::ready(away())),
            false => Box::pin(async move {
                let slow = self.1.slow.load(SeqCst);
                let _ = self.1.begun.subscribe().wait_for(|begun| *begun >= slow).await;
                self.0.ack().await
            }),
        }
    }

    fn retry_later(self: Box<Self>, after: Duration) -> BoxFuture<'static, Result<(), SourceError>> {
        self.0.retry_later(after)
    }

    fn dead(self: Box<Self>, reason: &str) -> BoxFuture<'static, Result<(), SourceError>> {
        self.0.dead(reason)
    }

    fn extend(&self) -> BoxFuture<'_, ()> {
        self.1.extended.fetch_add(1, SeqCst);
        self.0.extend()
    }

    fn patience(&self) -> Option<Duration> {
        Some(Duration::from_secs(3))
    }
}

fn slow(time: Duration) -> Say {
    Arc::new(move |_, _| {
        Box::pin(async move {
            sleep(time).await;
            done()
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_message_is_kept_in_hand_while_it_is_worked_on_or_waits_for_its_turn() {
    let world = World::new();
    world.publish("a", "one");
    let (source, told) = Watched::new(&world);
    let running = Running::new(world.consumer_of(source, options(3), slow(Duration::from_secs(10))));
    world.empty().await;
    running.stop().await;
    assert!(told.extended.load(SeqCst) >= 9, "{:?}", told.extended);

    // The store is away: nobody works on it.
    world.publish("b", "two");
    world.store.set_outage(true);
    let (source, told) = Watched::new(&world);
    let running = Running::new(world.consumer_of(source, options(3), at_once(|_, _| done())));
    sleep(MINUTE).await;
    world.store.set_outage(false);
    world.empty().await;
    running.stop().await;
    assert!(told.extended.load(SeqCst) >= 30, "{:?}", told.extended);
}

#[tokio::test(start_paused = true)]
async fn an_outage_pauses_the_source_probes_with_one_message_and_tells_the_lag() {
    let world = World::new();
    for number in 0..100 {
        world.publish(&format!("{number}"), &format!("{number}"));
    }
    let (source, told) = Watched::new(&world);
    let say = at_once(|_, _| failed(FailureClass::Unsent));
    let running = Running::new(world.consumer_of(source, options(8), say));
    world.until(|world| world.seen.count("paused") >= 1).await;
    sleep(10 * MINUTE).await;
    assert_eq!((told.paused.load(SeqCst) >= 1, told.probes.load(SeqCst)), (true, 1));
    assert!(told.lags.load(SeqCst) >= 50, "{:?}", told.lags);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_asked_now_and_then_and_what_it_did_not_hear_comes_again() {
    let world = World::new();
    world.publish("a", "one");
    let (source, told) = Watched::new(&world);
    let theirs = Arc::clone(&told);
    let say = at_once(move |_, _| {
        theirs.away.store(true, SeqCst);
        done()
    });
    let running = Running::new(world.consumer_of(source, options(3), say));
    world.until(|world| world.seen.count("failed ack") == 1).await;
    // It has a receive under way, which a message ends.
    world.publish("b", "two");
    sleep(10 * MINUTE).await;
    let asked = world.seen.count("failed receive");
    assert!((10..500).contains(&asked), "asked {asked} times in ten minutes");
    running.stop().await;
    let again = world.start(options(3), at_once(|_, _| done()));
    world.until(|world| world.queue.acknowledged() >= 1).await;
    again.stop().await;
    assert_eq!(world.ran().iter().filter(|ran| *ran == "one").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_in_hand_than_there_are_places() {
    let world = World::new();
    for number in 0..100 {
        world.publish(&format!("{number}"), &format!("{number}"));
    }
    let options = ConsumerOptions {
        prefetch: 20,
        drain: Duration::from_secs(1),
        ..options(3)
    };
    let running = world.start(options, slow(Duration::from_secs(20)));
    sleep(Duration::from_secs(10)).await;
    assert_eq!((world.seen.count("received"), world.ran().len()), (20, 16));
    // Handlers that do not end are counted.
    assert!(running.stop().await >= 16);
}

#[tokio::test(start_paused = true)]
async fn while_the_end_of_a_message_is_written_down_the_next_is_handled() {
    let world = World::new();
    for number in 0..10 {
        world.publish(&format!("{number}"), &format!("{number}"));
    }
    let (source, told) = Watched::new(&world);
    told.slow.store(2, SeqCst);
    let (theirs, at_work) = (Arc::clone(&told), Arc::new(AtomicUsize::new(0)));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, seen) = (Arc::clone(&at_work), Arc::clone(&most));
    let say: Say = Arc::new(move |_, _| {
        theirs.begun.send_modify(|begun| *begun += 1);
        seen.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        let now = Arc::clone(&now);
        Box::pin(async move {
            sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, SeqCst);
            done()
        })
    });
    let one = ConsumerOptions {
        concurrency: 1,
        ..options(3)
    };
    let running = Running::new(world.consumer_of(source, one, say));
    world.empty().await;
    running.stop().await;
    assert_eq!((world.ran().len(), most.load(SeqCst)), (10, 1));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_is_at_work_on_is_not_acknowledged() {
    let world = World::new();
    world.publish("a", "one");
    world.publish("a", "one");
    let running = world.start(options(3), slow(Duration::from_secs(20)));
    sleep(Duration::from_secs(10)).await;
    assert_eq!((world.ran().len(), world.queue.acknowledged()), (1, 0));
    world.empty().await;
    assert_eq!((world.ran().len(), world.queue.acknowledged()), (1, 2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_marked_as_done_is_not_acknowledged() {
    let world = World::new();
    world.publish("a", "one");
    let store = Arc::clone(&world.store);
    let say = at_once(move |_, times| {
        store.set_outage(times == 1);
        done()
    });
    let running = world.start(options(3), say);
    sleep(5 * MINUTE).await;
    assert_eq!((world.ran().len(), world.queue.acknowledged()), (1, 0));
    world.store.set_outage(false);
    world.empty().await;
    running.stop().await;
    assert!(matches!(world.record("a").await.unwrap().state, State::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_unknown_and_not_run_again_where_it_is_held() {
    let world = World::new();
    for _ in 0..2 {
        world.publish("a", "one");
    }
    let ran = Arc::clone(&world.ran);
    let consumer = Consumer::leased(
        Name::new("points").unwrap(),
        world.queue.source(),
        "header:Id".parse().unwrap(),
        &world.engine,
        RunOptions::default(),
        options(3),
        move |_, message: Message| {
            ran.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&message.payload).into_owned());
            std::future::ready(failed(FailureClass::Ambiguous))
        },
    );
    let running = Running::new(consumer.unwrap());
    world.empty().await;
    sleep(60 * MINUTE).await;
    running.stop().await;
    assert_eq!((world.ran().len(), world.seen.count("unknown")), (1, 2));
    let record = world.record("a").await.unwrap();
    assert!(matches!(record.state, State::Unknown { .. }), "{:?}", record.state);
    assert!(record.input.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_sealed_and_is_opened_to_be_run_again() {
    let world = World::new();
    world.publish("a", "one");
    let options = ConsumerOptions {
        seal: Some(InputSeal::new(&[7; 32])),
        ..options(3)
    };
    let say = at_once(|_, times| match times {
        1 => failed(FailureClass::Ambiguous),
        _ => done(),
    });
    let running = world.start(options, say);
    world.empty().await;
    let input = world.record("a").await.unwrap().input.unwrap();
    assert!(Message::from_input(&input).is_none(), "it can be read without the key");
    world.until(|world| world.ran().len() == 2).await;
    running.stop().await;
    assert!(matches!(world.record("a").await.unwrap().state, State::Done(_)));
}
