//! Redis Streams: what is their own, beside what every source must do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{FromRedisValue, Value, cmd};
use bytes::Bytes;
use hapax::Attempted;
use hapax::consume::{Delivery, Redis, RedisOptions, RedisSetupError, RedisSink, RedisSource, Source, SourceErrorKind};
use hapax::core::policy::FailureClass;
use hapax::core::{Name, Timestamp};
use hapax::outbox::{self, Sink};
use hapax_testbed::{FreePort, Redis as Server};
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(30);
const MIN_IDLE: Duration = Duration::from_secs(1);

/// A stream of a test's own, on the server that all share.
struct Place {
    url: String,
    stream: String,
    link: MultiplexedConnection,
}

impl Place {
    async fn shared() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::at(
            &Server::shared().url(),
            &format!("orders-{}-{number}", std::process::id()),
        )
        .await
    }

    async fn at(url: &str, stream: &str) -> Self {
        let client = ::redis::Client::open(url).unwrap();
        let mut place = Self {
            url: url.to_owned(),
            stream: stream.to_owned(),
            link: client.get_multiplexed_async_connection().await.unwrap(),
        };
        let _: Value = place.run("XGROUP CREATE {} points 0 MKSTREAM").await;
        place
    }

    /// Runs a command, with the stream for `{}`.
    async fn run<T: FromRedisValue>(&mut self, words: &str) -> T {
        let words = words.replace("{}", &self.stream);
        let mut words = words.split(' ');
        let mut command = cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut self.link).await.unwrap()
    }

    async fn add(&mut self, payload: &str) -> String {
        self.run(&format!("XADD {{}} * payload {payload}")).await
    }

    fn options(&self) -> RedisOptions {
        RedisOptions::new(&self.stream, "points")
    }

    fn source(&self, options: RedisOptions) -> RedisSource {
        RedisSource::new(Redis::new(&self.url).unwrap(), options).unwrap()
    }

    /// A member whose messages are given up on soon.
    fn hasty(&self) -> RedisSource {
        self.source(RedisOptions {
            min_idle: MIN_IDLE,
            ..self.options()
        })
    }

    /// Who holds what is pending.
    async fn holders(&mut self) -> Vec<String> {
        let pending: Vec<(String, String, u64, u64)> = self.run("XPENDING {} points - + 100").await;
        pending.into_iter().map(|(_, holder, ..)| holder).collect()
    }

    async fn members(&mut self) -> usize {
        let members: Vec<Value> = self.run("XINFO CONSUMERS {} points").await;
        members.len()
    }
}

async fn receive(source: &mut RedisSource, most: usize) -> Vec<Delivery> {
    timeout(LIMIT, source.receive(most)).await.unwrap().unwrap()
}

/// Receives past failures until there are that many.
async fn gather(source: &mut RedisSource, count: usize) -> Vec<Delivery> {
    let (mut hand, until) = (Vec::new(), Instant::now() + LIMIT);
    while hand.len() < count {
        assert!(Instant::now() < until, "{} of {count} came", hand.len());
        if let Ok(Ok(more)) = timeout(LIMIT, source.receive(count - hand.len())).await {
            hand.extend(more);
        }
    }
    hand
}

async fn nothing_for(source: &mut RedisSource, time: Duration) {
    if let Ok(came) = timeout(time, source.receive(10)).await {
        panic!("{came:?}");
    }
}

async fn refused(mut source: RedisSource) -> String {
    let error = timeout(LIMIT, source.receive(1)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_stream_is_made_only_where_that_is_allowed_and_a_group_wherever_there_is_none() {
    let mut place = Place::shared().await;
    let missing = format!("{}-missing", place.stream);
    let advice = refused(place.source(RedisOptions::new(&missing, "points"))).await;
    assert!(
        advice.contains(&format!("XGROUP CREATE {missing} points 0 MKSTREAM")),
        "{advice}"
    );
    let mut made = place.source(RedisOptions {
        create: true,
        ..RedisOptions::new(&missing, "points")
    });
    assert_eq!(made.lag().await.unwrap().messages, 0);
    assert_eq!(made.redelivers_for().await.unwrap(), None);
    // From the first entry on.
    place.add("a").await;
    let mut another = place.source(RedisOptions {
        group: "stock".to_owned(),
        ..place.options()
    });
    assert_eq!(receive(&mut another, 1).await[0].message.payload, "a");
}

#[tokio::test]
async fn what_is_no_stream_or_not_allowed_is_refused_with_advice() {
    let mut place = Place::shared().await;
    let other = format!("{}-other", place.stream);
    let _: Value = place.run(&format!("SET {other} x")).await;
    let error = refused(place.source(RedisOptions::new(&other, "points"))).await;
    assert!(error.contains("something else than a stream"), "{error}");
    let dead_letters = RedisOptions {
        dead_letters: Some(other.clone()),
        ..place.options()
    };
    let error = refused(place.source(dead_letters)).await;
    assert!(error.contains("is a string"), "{error}");

    let user = place.stream.clone();
    let _: Value = place
        .run(&format!(
            "ACL SETUSER {user} on >secret ~* +@connection +xinfo +xreadgroup"
        ))
        .await;
    let limited = Redis::new(&place.url).unwrap().user(&user, "secret");
    let error = refused(RedisSource::new(limited, place.options()).unwrap()).await;
    assert!(
        error.contains("no permissions") && error.contains("ACL SETUSER"),
        "{error}"
    );

    let allowed = "+@stream +@connection +@transaction +type";
    assert!(error.contains(allowed), "{error}");
    let (stream, dead_letters) = (place.stream.clone(), format!("{user}-dead"));
    let _: Value = place
        .run(&format!(
            "ACL SETUSER {user} resetkeys -@all ~{stream} ~{dead_letters} {allowed}"
        ))
        .await;
    place.add("a").await;
    let options = RedisOptions {
        dead_letters: Some(dead_letters),
        ..place.options()
    };
    let limited = Redis::new(&place.url).unwrap().user(&user, "secret");
    let mut source = RedisSource::new(limited, options).unwrap();
    assert_eq!(source.lag().await.unwrap().messages, 1);
    let delivery = receive(&mut source, 1).await.remove(0);
    delivery.settle.extend().await;
    delivery.settle.dead("no").await.unwrap();
    source.close().await;
    assert_eq!(place.members().await, 0);

    let server = Server::start_with_login("shop", "secret");
    let nobody = Redis::new(&format!("redis://127.0.0.1:{}", server.port())).unwrap();
    let error = refused(RedisSource::new(nobody, place.options()).unwrap()).await;
    assert!(error.contains("NOAUTH") && error.contains("login"), "{error}");
}

#[test]
fn options_that_make_no_sense_are_refused_at_once() {
    let redis = Redis::new("redis://127.0.0.1").unwrap();
    let refused = |options| RedisSource::new(redis.clone(), options).unwrap_err();
    assert_eq!(refused(RedisOptions::new("", "g")), RedisSetupError::Empty("stream"));
    assert_eq!(refused(RedisOptions::new("s", "")), RedisSetupError::Empty("group"));
    let min_idle = Duration::from_millis(999);
    let short = RedisOptions {
        min_idle,
        ..RedisOptions::new("s", "g")
    };
    assert_eq!(refused(short), RedisSetupError::MinIdle(min_idle));
    let circle = RedisOptions {
        dead_letters: Some("s".to_owned()),
        ..RedisOptions::new("s", "g")
    };
    assert_eq!(refused(circle), RedisSetupError::DeadLetters("s".to_owned()));
}

#[tokio::test]
async fn what_a_paused_member_was_sent_ahead_goes_to_another_at_once() {
    let mut place = Place::shared().await;
    let (mut paused, mut other) = (place.source(place.options()), place.source(place.options()));
    // Connected, with a read on its way that nobody waits for any more.
    nothing_for(&mut paused, Duration::from_millis(300)).await;
    for payload in ["a", "b", "c"] {
        place.add(payload).await;
    }
    let began = Instant::now();
    paused.pause().await;
    let hand = gather(&mut other, 3).await;
    // It would be 30 s if they were not given back.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(
        hand.iter().any(|delivery| delivery.redelivered),
        "the paused member was sent none"
    );
}

#[tokio::test]
async fn a_message_put_off_for_longer_than_the_time_without_a_word_comes_to_nobody_before() {
    let mut place = Place::shared().await;
    place.add("a").await;
    let (mut holder, mut other) = (place.hasty(), place.hasty());
    let delivery = receive(&mut holder, 1).await.remove(0);
    delivery.settle.retry_later(MIN_IDLE * 5 / 2).await.unwrap();
    let told = Instant::now();
    // The holder itself is not asked: its process lives, that is all.
    let again = receive(&mut other, 1).await.remove(0);
    let took = told.elapsed();
    assert!(took >= MIN_IDLE * 5 / 2 - Duration::from_millis(50), "{took:?}");
    assert!(took < MIN_IDLE * 5, "{took:?}");
    assert!(again.redelivered);
    again.settle.ack().await.unwrap();
}

#[tokio::test]
async fn a_message_put_off_for_a_moment_comes_to_nobody_before() {
    const AFTER: Duration = Duration::from_millis(800);
    let mut place = Place::shared().await;
    place.add("a").await;
    let mut source = place.hasty();
    let delivery = receive(&mut source, 1).await.remove(0);
    let put_off = Instant::now();
    delivery.settle.retry_later(AFTER).await.unwrap();
    assert_eq!(gather(&mut place.hasty(), 1).await.len(), 1);
    assert!(put_off.elapsed() >= AFTER, "{:?}", put_off.elapsed());
}

#[tokio::test]
async fn what_a_dead_process_put_off_comes_when_its_time_without_a_word_is_over() {
    let mut place = Place::shared().await;
    place.add("a").await;
    let mut holder = place.hasty();
    let delivery = receive(&mut holder, 1).await.remove(0);
    delivery.settle.retry_later(Duration::from_secs(60)).await.unwrap();
    drop(holder);
    assert_eq!(receive(&mut place.hasty(), 1).await[0].message.payload, "a");
}

#[tokio::test]
async fn what_a_member_put_off_is_left_to_others_when_it_leaves() {
    let mut place = Place::shared().await;
    place.add("a").await;
    let mut holder = place.source(place.options());
    let delivery = receive(&mut holder, 1).await.remove(0);
    delivery.settle.retry_later(Duration::from_millis(100)).await.unwrap();
    holder.close().await;
    let (began, mut other) = (Instant::now(), place.source(place.options()));
    assert_eq!(receive(&mut other, 1).await[0].message.payload, "a");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    // It held a message, and would have taken it along.
    assert_eq!(place.members().await, 2);
    other.close().await;
}

#[tokio::test]
async fn who_leaves_tells_redis_when_what_it_put_off_for_long_is_due() {
    let mut place = Place::shared().await;
    place.add("a").await;
    let min_idle = Duration::from_secs(20);
    let mut holder = place.source(RedisOptions {
        min_idle,
        ..place.options()
    });
    let delivery = receive(&mut holder, 1).await.remove(0);
    delivery
        .settle
        .retry_later(min_idle + Duration::from_secs(1))
        .await
        .unwrap();
    let put_off = Instant::now();
    // Long enough that the time that is left is one that Redis can be told.
    nothing_for(&mut holder, Duration::from_millis(1500)).await;
    holder.close().await;
    let pending: Vec<(String, String, u64, u64)> = place.run("XPENDING {} points - + 10").await;
    let idle = Duration::from_millis(pending[0].2);
    let left = (min_idle + Duration::from_secs(1)).saturating_sub(put_off.elapsed());
    // As idle as it must be to be claimed when it is due, and not as long as nobody has said a word.
    assert!(
        idle.abs_diff(min_idle - left) < Duration::from_millis(200),
        "{idle:?}, {left:?} left"
    );
}

#[tokio::test]
async fn a_member_that_holds_nothing_leaves_its_group() {
    let mut place = Place::shared().await;
    place.add("a").await;
    let mut source = place.source(place.options());
    receive(&mut source, 1).await.remove(0).settle.ack().await.unwrap();
    assert_eq!(place.members().await, 1);
    source.close().await;
    assert_eq!(place.members().await, 0);
}

#[tokio::test]
async fn a_slow_holder_takes_nothing_back_from_who_has_claimed_it() {
    let mut place = Place::shared().await;
    place.add("a").await;
    let (mut slow, mut other) = (place.hasty(), place.hasty());
    let old = receive(&mut slow, 1).await.remove(0);
    let before = place.holders().await;
    let new = receive(&mut other, 1).await.remove(0);
    let holders = place.holders().await;
    assert_ne!(before, holders);
    old.settle.extend().await;
    assert_eq!(place.holders().await, holders);
    old.settle.retry_later(Duration::ZERO).await.unwrap();
    assert_eq!(place.holders().await, holders);
    new.settle.ack().await.unwrap();
    assert!(place.holders().await.is_empty());
}

#[tokio::test]
async fn what_was_trimmed_while_it_was_pending_is_put_away() {
    let mut place = Place::shared().await;
    for payload in ["a", "b"] {
        place.add(payload).await;
    }
    let mut holder = place.hasty();
    let hand = gather(&mut holder, 2).await;
    let _: Value = place.run("XTRIM {} MAXLEN 0").await;
    drop((hand, holder));
    let mut other = place.hasty();
    nothing_for(&mut other, MIN_IDLE * 2).await;
    assert!(place.holders().await.is_empty());
    assert_eq!(other.lag().await.unwrap().messages, 0);
}

#[tokio::test]
async fn the_lag_counts_where_redis_has_lost_count() {
    let mut place = Place::shared().await;
    let mut ids = Vec::new();
    for payload in ["a", "b", "c", "d", "e"] {
        ids.push(place.add(payload).await);
    }
    let mut source = place.source(place.options());
    let hand = receive(&mut source, 1).await;
    // Redis does not tell any more how many are left.
    let _: Value = place.run(&format!("XDEL {{}} {}", ids[3])).await;
    let lag = source.lag().await.unwrap();
    assert_eq!(lag.messages, 4);
    let now = hapax::store::Clock::default().reading().0;
    assert!(lag.oldest.unwrap() <= now.since(hand[0].message.published.unwrap()));
    assert!(lag.oldest.unwrap() < LIMIT, "{lag:?}");
}

#[tokio::test]
async fn an_entry_whose_id_is_no_time_has_none() {
    let mut place = Place::shared().await;
    let _: Value = place.run("XADD {} 5-1 order 7 by ada").await;
    let mut source = place.source(place.options());
    let hand = receive(&mut source, 1).await;
    assert_eq!(hand[0].message.published, None);
    assert_eq!(
        hand[0].message.position.as_deref(),
        Some(&*format!("{}/5-1", place.stream))
    );
    assert_eq!(hand[0].message.payload, r#"{"by":"ada","order":"7"}"#);
    assert_eq!(source.lag().await.unwrap().oldest, None);
}

#[tokio::test]
async fn a_dead_letter_is_added_with_its_fields_and_done_entries_are_deleted_if_asked() {
    let mut place = Place::shared().await;
    let _: Value = place.run("XADD {} * payload a Trace x").await;
    place.add("b").await;
    let dead_letters = format!("{}-dead", place.stream);
    let mut source = place.source(RedisOptions {
        dead_letters: Some(dead_letters.clone()),
        delete_done: true,
        ..place.options()
    });
    let mut hand = gather(&mut source, 2).await.into_iter();
    let (dead, done) = (hand.next().unwrap(), hand.next().unwrap());
    let id = dead
        .message
        .position
        .clone()
        .unwrap()
        .replace(&format!("{}/", place.stream), "");
    dead.settle.dead("no such order").await.unwrap();
    let left: usize = place.run("XLEN {}").await;
    assert_eq!(left, 1);
    done.settle.ack().await.unwrap();
    let left: usize = place.run("XLEN {}").await;
    assert_eq!(left, 0);
    assert!(place.holders().await.is_empty());
    let stored: Vec<(String, Vec<String>)> = place.run(&format!("XRANGE {dead_letters} - +")).await;
    assert_eq!(stored.len(), 1);
    let stream = place.stream.clone();
    let mut expected = vec!["payload", "a", "Trace", "x", "Hapax-Dead-Reason", "no such order"];
    expected.extend(["Hapax-Dead-Stream", &stream, "Hapax-Dead-Id", &id]);
    assert_eq!(stored[0].1, expected);
}

#[tokio::test]
async fn a_frozen_server_is_away_and_nothing_is_lost_when_it_goes_on() {
    let mut server = Server::start();
    let mut place = Place::at(&server.url(), "orders").await;
    place.add("a").await;
    let mut source = place.hasty();
    let first = receive(&mut source, 1).await.remove(0);
    server.pause();
    let began = Instant::now();
    let error = timeout(LIMIT, source.receive(1)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let error = first.settle.ack().await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    server.resume();
    place.add("b").await;
    let mut payloads: Vec<_> = gather(&mut source, 2)
        .await
        .into_iter()
        .map(|delivery| delivery.message.payload)
        .collect();
    payloads.sort();
    assert_eq!(payloads, ["a", "b"]);
}

fn effect(payload: impl Into<Bytes>) -> outbox::Delivery {
    outbox::Delivery {
        name: Name::new("order-paid").unwrap(),
        key: "0123abcd".to_owned(),
        content_type: "application/json".into(),
        payload: payload.into(),
        now: Timestamp::from_millis(0),
        tries: 1,
    }
}

async fn class(sink: &RedisSink) -> (FailureClass, String) {
    match timeout(LIMIT, sink.deliver(effect("{}"))).await.unwrap() {
        Attempted::Failed(failure) => (failure.class, failure.last_error.as_str().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_effect_comes_to_a_source_with_its_key() {
    let place = Place::shared().await;
    let sink = RedisSink::new(Redis::new(&place.url).unwrap(), &place.stream)
        .unwrap()
        .max_len(1000);
    let attempted = timeout(LIMIT, sink.deliver(effect("{}"))).await.unwrap();
    assert!(matches!(attempted, Attempted::Done(_)), "{attempted:?}");
    let message = receive(&mut place.source(place.options()), 1).await.remove(0).message;
    assert_eq!(message.payload, "{}");
    assert_eq!(message.text("idempotency-key"), Some("0123abcd"));
    assert_eq!(message.text("content-type"), Some("application/json"));
    assert_eq!(message.text("effect"), Some("order-paid"));
}

#[tokio::test]
async fn a_failed_effect_says_what_it_proves() {
    let mut server = Server::start_with_login("shop", "secret");
    let sink = RedisSink::new(Redis::new(&server.url()).unwrap(), "orders").unwrap();
    let stranger = Redis::new(&server.url().replace("secret", "wrong")).unwrap();
    let (unsent, why) = class(&RedisSink::new(stranger, "orders").unwrap()).await;
    assert_eq!(unsent, FailureClass::Unsent);
    assert!(why.contains("login") && !why.contains("wrong "), "{why}");
    let nobody = Redis::new(&format!("redis://127.0.0.1:{}", server.port())).unwrap();
    let nobody = RedisSink::new(nobody, "orders").unwrap();
    for _ in 0..2 {
        let (unsent, why) = class(&nobody).await;
        assert_eq!(unsent, FailureClass::Unsent, "{why}");
        assert!(why.contains("NOAUTH") && why.contains("login"), "{why}");
    }

    let mut place = Place::at(&server.url(), "other").await;
    let _: Value = place.run("SET orders x").await;
    let (unsent, why) = class(&sink).await;
    assert_eq!(unsent, FailureClass::Unsent);
    assert!(why.contains("something else than a stream"), "{why}");
    let _: Value = place.run("DEL orders").await;
    let _: Value = place.run("CONFIG SET maxmemory 1").await;
    let (unsent, why) = class(&sink).await;
    assert_eq!(unsent, FailureClass::Unsent);
    assert!(why.contains("OOM"), "{why}");
    let _: Value = place.run("CONFIG SET maxmemory 0").await;

    server.pause();
    assert_eq!(class(&sink).await.0, FailureClass::Ambiguous, "sent, and no answer");
    server.resume();
    let attempted = timeout(LIMIT, sink.deliver(effect("{}"))).await.unwrap();
    assert!(matches!(attempted, Attempted::Done(_)), "it goes on: {attempted:?}");
    server.kill();
    server.restart();
    // The connection is of no use any more, and the next send has another.
    assert_eq!(class(&sink).await.0, FailureClass::Ambiguous);
    let attempted = timeout(LIMIT, sink.deliver(effect("{}"))).await.unwrap();
    assert!(matches!(attempted, Attempted::Done(_)), "{attempted:?}");
    let port = FreePort::take();
    let nowhere = Redis::new(&format!("redis://127.0.0.1:{}", port.number())).unwrap();
    assert_eq!(
        class(&RedisSink::new(nowhere, "orders").unwrap()).await.0,
        FailureClass::Unsent
    );
}
