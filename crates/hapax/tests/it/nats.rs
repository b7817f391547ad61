//! NATS JetStream: what is its own, beside what every source must do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, Config, pull};
use async_nats::jetstream::{Context, stream};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use hapax::Attempted;
use hapax::consume::{Delivery, Nats, NatsOptions, NatsSink, NatsSource, Source, SourceError, SourceErrorKind};
use hapax::core::policy::FailureClass;
use hapax::core::{Name, Timestamp};
use hapax::outbox::{self, Sink};
use hapax_testbed::{FreePort, Nats as Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(30);

/// Streams of a test's own, on the server that all share: `X` takes `X.in` and `X.other`, `X_DEAD` takes `X.dead`.
struct Place {
    url: String,
    stream: String,
    client: async_nats::Client,
    jetstream: Context,
}

impl Place {
    async fn shared() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = Self::at(&Server::shared().url(), &format!("T{}_{number}", std::process::id())).await;
        place.make_streams().await;
        place
    }

    async fn at(url: &str, stream: &str) -> Self {
        let client = async_nats::connect(url).await.unwrap();
        Self {
            url: url.to_owned(),
            stream: stream.to_owned(),
            jetstream: async_nats::jetstream::new(client.clone()),
            client,
        }
    }

    async fn make_streams(&self) {
        let stream = &self.stream;
        self.make(stream, &["in", "other"]).await;
        self.make(&format!("{stream}_DEAD"), &["dead"]).await;
    }

    async fn make(&self, name: &str, subjects: &[&str]) {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: subjects.iter().map(|subject| self.subject(subject)).collect(),
            max_age: Duration::from_secs(3600),
            ..stream::Config::default()
        };
        self.jetstream.create_stream(config).await.unwrap();
    }

    fn subject(&self, last: &str) -> String {
        format!("{}.{last}", self.stream)
    }

    fn options(&self) -> NatsOptions {
        NatsOptions::new(&self.stream, "points")
    }

    fn source(&self, options: NatsOptions) -> NatsSource {
        NatsSource::new(Nats::new(&self.url).unwrap(), options).unwrap()
    }

    async fn publish(&self, last: &str, payload: &str) {
        let stored = self
            .jetstream
            .publish(self.subject(last), payload.to_owned().into())
            .await;
        stored.unwrap().await.unwrap();
    }

    async fn consumer(&self, config: Config) {
        self.jetstream
            .create_consumer_on_stream(config, &self.stream)
            .await
            .unwrap();
    }

    /// What a stream holds.
    async fn stored(&self, stream: &str) -> Vec<async_nats::jetstream::Message> {
        let stream = self.jetstream.get_stream(stream).await.unwrap();
        let consumer = stream.create_consumer(pull::Config::default()).await.unwrap();
        let messages = consumer.fetch().max_messages(1000).messages().await.unwrap();
        messages.map(Result::unwrap).collect().await
    }
}

async fn receive(source: &mut NatsSource, most: usize) -> Vec<Delivery> {
    timeout(LIMIT, source.receive(most)).await.unwrap().unwrap()
}

/// Receives past failures until there are that many.
async fn gather(source: &mut NatsSource, count: usize) -> Vec<Delivery> {
    let (mut hand, until) = (Vec::new(), Instant::now() + LIMIT);
    while hand.len() < count {
        assert!(Instant::now() < until, "{} of {count} came", hand.len());
        if let Ok(Ok(more)) = timeout(LIMIT, source.receive(count - hand.len())).await {
            hand.extend(more);
        }
    }
    hand
}

async fn refused(mut source: NatsSource) -> String {
    let error = timeout(LIMIT, source.receive(1)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_consumer_that_would_lose_messages_is_refused_with_the_command_that_mends_it() {
    let place = Place::shared().await;
    let usual = Config {
        ack_policy: AckPolicy::Explicit,
        ..Config::default()
    };
    let unsafe_ones = [
        (
            "finite",
            Config {
                max_deliver: 5,
                ..usual.clone()
            },
            "--max-deliver=-1",
        ),
        (
            "push",
            Config {
                deliver_subject: Some("x".to_owned()),
                ..usual.clone()
            },
            "push consumer",
        ),
        (
            "heads",
            Config {
                headers_only: true,
                ..usual.clone()
            },
            "--no-headers-only",
        ),
        (
            "idle",
            Config {
                inactive_threshold: Duration::from_secs(9),
                ..usual.clone()
            },
            "--inactive-threshold=0s",
        ),
        (
            "lax",
            Config {
                ack_policy: AckPolicy::All,
                ..usual.clone()
            },
            "ack policy All",
        ),
        ("all", usual.clone(), "--filter="),
    ];
    for (name, config, advice) in unsafe_ones {
        place
            .consumer(Config {
                durable_name: Some(name.to_owned()),
                ..config
            })
            .await;
        let options = NatsOptions {
            subjects: vec![place.subject("in")],
            ..NatsOptions::new(&place.stream, name)
        };
        let error = refused(place.source(options)).await;
        assert!(error.contains(advice) && error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_safe_consumer_is_used_as_it_is() {
    let place = Place::shared().await;
    let config = Config {
        durable_name: Some("points".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(7),
        filter_subject: place.subject("other"),
        max_batch: 2,
        max_expires: Duration::from_millis(300),
        ..Config::default()
    };
    place.consumer(config).await;
    place.publish("in", "a").await;
    for payload in ["b", "c", "d"] {
        place.publish("other", payload).await;
    }
    let mut source = place.source(place.options());
    let hand = gather(&mut source, 3).await;
    let payloads: Vec<_> = hand.iter().map(|delivery| delivery.message.payload.clone()).collect();
    assert_eq!(payloads, ["b", "c", "d"]);
    assert_eq!(hand[0].settle.patience(), Some(Duration::from_secs(7)));
    assert_eq!(
        hand[0].message.position.as_deref(),
        Some(&*format!("{}/2", place.stream))
    );
    assert!(
        timeout(Duration::from_millis(700), source.receive(5)).await.is_err(),
        "nothing more is there"
    );
}

#[tokio::test]
async fn several_subjects_are_taken_and_no_others() {
    let place = Place::shared().await;
    place.make(&format!("{}_MORE", place.stream), &["x", "y", "z"]).await;
    for subject in ["x", "y", "z"] {
        place.publish(subject, subject).await;
    }
    let mut source = place.source(NatsOptions {
        subjects: vec![place.subject("x"), place.subject("z")],
        ..NatsOptions::new(&format!("{}_MORE", place.stream), "points")
    });
    let hand = gather(&mut source, 2).await;
    let subjects: Vec<_> = hand
        .iter()
        .map(|delivery| delivery.message.subject.to_string())
        .collect();
    assert_eq!(subjects, [place.subject("x"), place.subject("z")]);
}

#[tokio::test]
async fn dead_letters_that_come_back_or_go_nowhere_are_refused_before_anything_is_taken() {
    let place = Place::shared().await;
    for (subject, advice) in [("other", "come back"), ("nowhere", "nats stream add")] {
        let error = refused(place.source(NatsOptions {
            dead_letters: Some(place.subject(subject)),
            ..place.options()
        }));
        let error = error.await;
        assert!(
            error.contains(advice) && error.contains(&place.subject(subject)),
            "{error}"
        );
    }
    // Not taken by this consumer, so it is a place like any other.
    let mut source = place.source(NatsOptions {
        subjects: vec![place.subject("in")],
        dead_letters: Some(place.subject("other")),
        ..NatsOptions::new(&place.stream, "filtered")
    });
    assert_eq!(source.lag().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_dead_letter_is_stored_once_with_where_it_was_and_without_its_own_commands() {
    let place = Place::shared().await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "one");
    // Kept in the stream, and would have another stream refuse it.
    headers.insert("Nats-Expected-Stream", place.stream.as_str());
    headers.append("Trace", "a");
    headers.append("Trace", "b");
    let stored = place
        .jetstream
        .publish_with_headers(place.subject("in"), headers, "poison".into())
        .await;
    stored.unwrap().await.unwrap();

    let options = NatsOptions {
        ack_wait: Duration::from_millis(500),
        dead_letters: Some(place.subject("dead")),
        ..place.options()
    };
    let mut source = place.source(options);
    let first = receive(&mut source, 1).await.remove(0);
    assert_eq!(first.message.text("nats-msg-id"), Some("one"));
    assert!(!first.redelivered && first.message.published.is_some());
    let second = receive(&mut source, 1).await.remove(0);
    assert!(second.redelivered);
    second.settle.dead("no such\r\norder").await.unwrap();
    // Whoever was slow says it again.
    first.settle.dead("no such order").await.unwrap();

    let dead = place.stored(&format!("{}_DEAD", place.stream)).await;
    assert_eq!(dead.len(), 1);
    let headers = dead[0].headers.clone().unwrap();
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(text("Hapax-Dead-Reason").as_deref(), Some("no such  order"));
    assert_eq!(text("Hapax-Dead-Subject"), Some(place.subject("in")));
    assert_eq!(text("Hapax-Dead-Position"), Some(format!("{}/1", place.stream)));
    assert_eq!(text("Hapax-Dead-Nats-Msg-Id").as_deref(), Some("one"));
    assert_eq!(text("Nats-Expected-Stream"), None);
    assert_eq!(headers.get_all("Trace").count(), 2);
    assert_eq!(dead[0].payload, "poison");
    assert_eq!(source.lag().await.unwrap().messages, 0);
}

#[tokio::test]
async fn what_a_paused_member_was_sent_ahead_goes_to_another_at_once() {
    let place = Place::shared().await;
    let (mut paused, mut other) = (place.source(place.options()), place.source(place.options()));
    // Connected, with a request on its way that nobody waits for any more.
    assert!(timeout(Duration::from_millis(300), paused.receive(5)).await.is_err());
    for payload in ["a", "b", "c"] {
        place.publish("in", payload).await;
    }
    let began = Instant::now();
    paused.pause().await;
    let hand = gather(&mut other, 3).await;
    // Without their being given back it would be the acknowledgement's time, of 30 s.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(
        hand.iter().any(|delivery| delivery.redelivered),
        "the paused member was sent none"
    );
}

#[tokio::test]
async fn a_group_whose_hands_are_full_waits_for_room() {
    let place = Place::shared().await;
    for payload in ["a", "b", "c"] {
        place.publish("in", payload).await;
    }
    let mut source = place.source(NatsOptions {
        max_ack_pending: Some(2),
        ..place.options()
    });
    let mut hand = gather(&mut source, 2).await;
    let asked = format!("$JS.API.CONSUMER.MSG.NEXT.{}.points", place.stream);
    let mut asked = place.client.subscribe(asked).await.unwrap();
    place.client.flush().await.unwrap();
    assert!(
        timeout(Duration::from_millis(2500), source.receive(5)).await.is_err(),
        "more than may be in hand"
    );
    let mut requests = 0;
    while asked.next().now_or_never().is_some() {
        requests += 1;
    }
    assert!((1..10).contains(&requests), "{requests} requests in 2.5 s");
    hand.remove(0).settle.ack().await.unwrap();
    assert_eq!(receive(&mut source, 5).await[0].message.payload, "c");
}

#[tokio::test]
async fn the_lag_has_the_age_of_what_is_not_done() {
    let place = Place::shared().await;
    place.publish("in", "a").await;
    let mut source = place.source(place.options());
    assert_eq!(source.redelivers_for().await.unwrap(), Some(Duration::from_secs(3600)));
    receive(&mut source, 1).await.remove(0).settle.ack().await.unwrap();
    place.publish("other", "b").await;
    let hand = receive(&mut source, 1).await;
    let published = hand[0].message.published.unwrap();
    // In hand, and getting older.
    let (until, mut lag) = (Instant::now() + LIMIT, source.lag().await.unwrap());
    while lag.oldest.unwrap() < Duration::from_millis(300) {
        assert!(Instant::now() < until, "{lag:?}");
        lag = source.lag().await.unwrap();
    }
    assert_eq!(lag.messages, 1);
    let now = hapax::store::Clock::default().reading().0;
    assert!(lag.oldest.unwrap() <= now.since(published), "{lag:?}");
}

#[tokio::test]
async fn a_stream_that_was_made_anew_keeps_its_messages_from_old_settles() {
    let place = Place::shared().await;
    place.publish("in", "old").await;
    let mut source = place.source(place.options());
    let old = receive(&mut source, 1).await.remove(0);
    place.jetstream.delete_stream(&place.stream).await.unwrap();
    place.make(&place.stream, &["in"]).await;
    place.publish("in", "new").await;
    let new = gather(&mut source, 1).await.remove(0);
    assert_eq!(
        (&*new.message.payload, new.message.position.clone()),
        (&b"new"[..], old.message.position)
    );
    old.settle.ack().await.unwrap_err();
    assert_eq!(source.lag().await.unwrap().messages, 1);
    new.settle.ack().await.unwrap();
    assert_eq!(source.lag().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_deleted_consumer_is_made_again_and_its_settles_say_so() {
    let place = Place::shared().await;
    place.publish("in", "a").await;
    let mut source = place.source(place.options());
    let old = receive(&mut source, 1).await.remove(0);
    place
        .jetstream
        .delete_consumer_from_stream("points", &place.stream)
        .await
        .unwrap();
    let error = old.settle.ack().await.unwrap_err();
    assert!(error.to_string().contains("consumer is gone"), "{error}");
    assert_eq!(gather(&mut source, 1).await[0].message.payload, "a");
}

#[tokio::test]
async fn a_frozen_server_is_away_and_nothing_is_lost_when_it_goes_on() {
    let mut server = Server::start();
    let place = Place::at(&server.url(), "ORDERS").await;
    place.make_streams().await;
    place.publish("in", "a").await;
    let mut source = place.source(place.options());
    let first = receive(&mut source, 1).await.remove(0);
    server.pause();
    let began = Instant::now();
    let error = timeout(LIMIT, source.receive(1)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let error: SourceError = first.settle.ack().await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    server.resume();
    place.publish("in", "b").await;
    assert_eq!(gather(&mut source, 1).await[0].message.payload, "b");
    // It is acknowledged, if the server read that when it went on, or it is not.
    assert!((1..=2).contains(&source.lag().await.unwrap().messages));
}

#[tokio::test]
async fn a_message_is_acknowledged_across_a_reconnect() {
    let mut server = Server::start();
    let place = Place::at(&server.url(), "ORDERS").await;
    place.make_streams().await;
    place.publish("in", "a").await;
    let mut source = place.source(place.options());
    let hand = receive(&mut source, 1).await.remove(0);
    // In good order: the server writes down what it delivered a little later, and a killed one may not know of it.
    server.stop();
    let error = timeout(LIMIT, source.receive(1)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unreachable, "{error}");
    server.restart();
    assert_eq!(source.lag().await.unwrap().messages, 1);
    hand.settle.ack().await.unwrap();
    assert_eq!(source.lag().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_message_that_the_client_cannot_read_does_not_keep_others_away() {
    let place = Place::shared().await;
    // Headers are text to the client library, and bytes to the server.
    let headers = b"NATS/1.0\r\nName: \xfe\r\n\r\n";
    let mut bytes = b"CONNECT {\"headers\":true,\"verbose\":false}\r\n".to_vec();
    let (head, subject) = (headers.len(), place.subject("in"));
    bytes.extend(format!("HPUB {subject} {head} {}\r\n", head + 2).bytes());
    bytes.extend([&headers[..], b"hi\r\nPING\r\n"].concat());
    let mut publisher = TcpStream::connect(Server::shared().address()).await.unwrap();
    publisher.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"PONG\r\n") {
        publisher.read_buf(&mut answer).await.unwrap();
    }
    for payload in ["a", "b", "c"] {
        place.publish("in", payload).await;
    }
    let mut source = place.source(NatsOptions {
        ack_wait: Duration::from_secs(1),
        ..place.options()
    });
    let (mut left, until) = (3, Instant::now() + LIMIT);
    while left > 0 {
        assert!(Instant::now() < until, "{left} did not come");
        if let Ok(Ok(hand)) = timeout(LIMIT, source.receive(10)).await {
            for delivery in hand {
                delivery.settle.ack().await.unwrap();
                left -= 1;
            }
        }
    }
}

#[test]
fn names_that_cannot_be_are_refused_at_once() {
    let nats = Nats::new("nats://127.0.0.1").unwrap();
    let source = |options| NatsSource::new(nats.clone(), options).unwrap_err().to_string();
    assert!(source(NatsOptions::new("a.b", "c")).contains("\"a.b\""));
    assert!(source(NatsOptions::new("a", "")).contains("\"\""));
    let dead_letters = Some("dead.*".to_owned());
    assert!(
        source(NatsOptions {
            dead_letters,
            ..NatsOptions::new("a", "b")
        })
        .contains("dead.*")
    );
    assert!(NatsSink::to(nats, "a b").unwrap_err().to_string().contains("\"a b\""));
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

async fn class(sink: &NatsSink, payload: impl Into<Bytes>) -> (FailureClass, String) {
    match timeout(LIMIT, sink.deliver(effect(payload))).await.unwrap() {
        Attempted::Failed(failure) => (failure.class, failure.last_error.as_str().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_effect_is_stored_once_however_often_it_is_sent() {
    let place = Place::shared().await;
    let stream = format!("{}_EFFECTS", place.stream);
    place.make(&stream, &["order-paid"]).await;
    let sink = NatsSink::below(Nats::new(&place.url).unwrap(), &place.stream).unwrap();
    for _ in 0..2 {
        let attempted = timeout(LIMIT, sink.deliver(effect("{}"))).await.unwrap();
        assert!(matches!(attempted, Attempted::Done(_)), "{attempted:?}");
    }
    let stored = place.stored(&stream).await;
    assert_eq!(stored.len(), 1);
    let headers = stored[0].headers.clone().unwrap();
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), "0123abcd");
    assert_eq!(headers.get("Content-Type").unwrap().as_str(), "application/json");
}

#[tokio::test]
async fn a_failed_effect_says_what_it_proves() {
    let mut server = Server::start_with_login("shop", "secret");
    let nats = Nats::new(&server.url()).unwrap();
    let sink = NatsSink::to(nats.clone(), "orders.paid").unwrap();
    let (unsent, why) = class(&sink, "{}").await;
    assert_eq!(unsent, FailureClass::Unsent);
    assert!(why.contains("nats stream add"), "{why}");

    let stranger = Nats::new(&server.url().replace("secret", "wrong")).unwrap();
    let (unsent, why) = class(&NatsSink::to(stranger, "orders.paid").unwrap(), "{}").await;
    assert_eq!(unsent, FailureClass::Unsent);
    assert!(why.contains("login") && !why.contains("wrong"), "{why}");

    let login = async_nats::ConnectOptions::with_user_and_password("shop".to_owned(), "secret".to_owned());
    let jetstream = async_nats::jetstream::new(login.connect(server.url()).await.unwrap());
    let config = stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        max_message_size: 100_000,
        max_messages: 1,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    };
    jetstream.create_stream(config).await.unwrap();
    assert_eq!(
        class(&sink, vec![0; 200_000]).await.0,
        FailureClass::Final,
        "larger than the stream takes"
    );
    assert_eq!(
        class(&sink, vec![0; 2_000_000]).await.0,
        FailureClass::Final,
        "larger than the server takes"
    );
    let attempted = sink.deliver(effect("{}")).await;
    assert!(matches!(attempted, Attempted::Done(_)), "{attempted:?}");
    let second = outbox::Delivery {
        key: "another".to_owned(),
        ..effect("{}")
    };
    let attempted = sink.deliver(second).await;
    let full = matches!(&attempted, Attempted::Failed(failure) if failure.class == FailureClass::Unsent);
    assert!(full, "the stream is full: {attempted:?}");

    server.pause();
    assert_eq!(
        class(&sink, "{}").await.0,
        FailureClass::Ambiguous,
        "sent, and no answer"
    );
    server.resume();
    server.kill();
    let port = FreePort::take();
    let nowhere = Nats::new(&format!("nats://127.0.0.1:{}", port.number())).unwrap();
    let (unsent, why) = class(&NatsSink::to(nowhere, "orders.paid").unwrap(), "{}").await;
    assert_eq!(unsent, FailureClass::Unsent);
    assert!(why.contains("cannot be reached"), "{why}");
}
