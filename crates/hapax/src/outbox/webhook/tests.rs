use std::sync::{Arc, Mutex};

use hapax_core::{Name, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a receiver does with a request.
#[derive(Clone, Copy)]
enum Act {
    Answer(&'static str),
    /// Answers, then closes the connection.
    Last(&'static str),
    Close,
    Silence,
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A receiver that plays one act a request, and keeps what it was sent.
struct Receiver {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<u32>>,
}

impl Receiver {
    async fn start(acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks?a=b", listener.local_addr().unwrap());
        let receiver = Self {
            url,
            heard: Arc::default(),
            connections: Arc::default(),
        };
        let (heard, connections) = (Arc::clone(&receiver.heard), Arc::clone(&receiver.connections));
        let acts = Arc::new(Mutex::new(acts.iter().rev().copied().collect::<Vec<_>>()));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *connections.lock().unwrap() += 1;
                tokio::spawn(play(stream, Arc::clone(&acts), Arc::clone(&heard)));
            }
        });
        receiver
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn webhook(&self) -> Webhook {
        Webhook::new(&self.url).unwrap()
    }
}

async fn play(mut stream: TcpStream, acts: Arc<Mutex<Vec<Act>>>, heard: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = read(&mut stream).await {
        heard.lock().unwrap().push(request);
        let act = acts.lock().unwrap().pop().unwrap_or(Act::Close);
        match act {
            Act::Answer(bytes) => stream.write_all(bytes.as_bytes()).await.unwrap(),
            Act::Last(bytes) => return stream.write_all(bytes.as_bytes()).await.unwrap(),
            Act::Close => return,
            Act::Silence => std::future::pending().await,
        }
    }
}

/// Head and body of the next request; `None` once the connection is closed.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if bytes.len() >= end + 4 + length.unwrap().parse::<usize>().unwrap() {
                return Some(String::from_utf8(bytes).unwrap());
            }
        }
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
}

fn delivery() -> Delivery {
    Delivery {
        name: Name::new("order-paid").unwrap(),
        key: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
        content_type: "application/json".into(),
        payload: Bytes::from_static(br#"{"test": 2432232314}"#),
        now: Timestamp::from_millis(1_614_265_330_999),
        tries: 1,
    }
}

async fn deliver(webhook: &Webhook) -> Attempted {
    webhook.deliver(delivery()).await
}

fn failure(attempted: Attempted) -> Failure {
    match attempted {
        Attempted::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_carries_key_signatures_and_payload() {
    let receiver = Receiver::start(&[Act::Answer(OK)]).await;
    let first = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let second = WebhookSecret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
    let token = (HeaderName::from_static("x-token"), HeaderValue::from_static("t"));
    let fake = (IDEMPOTENCY_KEY, HeaderValue::from_static("mine"));
    let webhook = receiver
        .webhook()
        .secret(first)
        .secret(second.clone())
        .header(token.0, token.1)
        .header(fake.0, fake.1);
    let Attempted::Done(Outcome::Answer(answer)) = deliver(&webhook).await else {
        panic!()
    };
    assert_eq!((answer.status, answer.size()), (200, 0));
    let heard = receiver.heard().pop().unwrap();
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, r#"{"test": 2432232314}"#);
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /hooks?a=b HTTP/1.1"));
    let lines: Vec<_> = lines.collect();
    let second = second.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body.as_bytes());
    for line in [
        "idempotency-key: msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
        "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
        "webhook-timestamp: 1614265330".to_owned(),
        format!("webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= {second}"),
        "content-type: application/json".to_owned(),
        "x-token: t".to_owned(),
    ] {
        assert!(lines.contains(&line.as_str()), "{line} is missing in {head}");
    }
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("idempotency-key")).count(),
        1
    );
}

#[tokio::test]
async fn connections_are_used_again_unless_their_answer_does_not_end() {
    let long = Box::leak(format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000)).into());
    let receiver = Receiver::start(&[Act::Answer(OK), Act::Answer(OK), Act::Answer(long), Act::Answer(OK)]).await;
    let webhook = receiver.webhook();
    for (delivery, connections) in [(1, 1), (2, 1), (3, 1), (4, 2)] {
        assert!(matches!(deliver(&webhook).await, Attempted::Done(_)), "{delivery}");
        assert_eq!(*receiver.connections.lock().unwrap(), connections, "{delivery}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_no_delivery() {
    let receiver = Receiver::start(&[Act::Last(OK), Act::Answer(OK)]).await;
    let webhook = receiver.webhook();
    assert!(matches!(deliver(&webhook).await, Attempted::Done(_)));
    // Until the closing has arrived.
    while webhook.client.has_ready() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(deliver(&webhook).await, Attempted::Done(_)));
    assert_eq!(receiver.heard().len(), 2);
}

#[tokio::test]
async fn an_answer_proves_what_the_table_says() {
    for (answer, class, after) in [
        (
            "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
            FailureClass::Final,
            None,
        ),
        (
            "HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno",
            FailureClass::Final,
            None,
        ),
        (
            "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
            FailureClass::Final,
            None,
        ),
        (
            "HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n",
            FailureClass::Unsent,
            None,
        ),
        (
            "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
            FailureClass::Throttled,
            Some(7),
        ),
        (
            "HTTP/1.1 503 Off\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n",
            FailureClass::Throttled,
            Some(9),
        ),
        (
            "HTTP/1.1 503 Off\r\nContent-Length: 0\r\n\r\n",
            FailureClass::Ambiguous,
            None,
        ),
        (
            "HTTP/1.1 500 Bug\r\nContent-Length: 3\r\n\r\nbug",
            FailureClass::Ambiguous,
            None,
        ),
        ("nonsense\r\n\r\n", FailureClass::Ambiguous, None),
    ] {
        let receiver = Receiver::start(&[Act::Answer(answer)]).await;
        let failure = failure(deliver(&receiver.webhook()).await);
        assert_eq!(failure.class, class, "{answer}");
        assert_eq!(failure.retry_after, after.map(Duration::from_secs), "{answer}");
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        assert_eq!(failure.answer.map(|answer| answer.status), status, "{answer}");
    }
}

#[tokio::test]
async fn the_answer_to_a_failure_is_kept_as_far_as_it_is_short() {
    let long = format!(
        "HTTP/1.1 422 No\r\nContent-Type: text/plain\r\nContent-Length: 9000\r\n\r\n{}",
        "x".repeat(9000)
    );
    let receiver = Receiver::start(&[Act::Answer(Box::leak(long.into()))]).await;
    let failure = failure(deliver(&receiver.webhook()).await);
    let answer = failure.answer.unwrap();
    assert_eq!((answer.status, answer.body.len()), (422, KEPT_BYTES));
    assert_eq!(answer.headers, [("content-type".into(), Bytes::from("text/plain"))]);
    assert_eq!(failure.last_error.as_str(), "status 422");
}

#[tokio::test]
async fn without_an_answer_it_may_have_happened() {
    let receiver = Receiver::start(&[Act::Close, Act::Silence]).await;
    let webhook = receiver
        .webhook()
        .timeouts(Duration::from_secs(9), Duration::from_millis(50));
    let reset = failure(deliver(&webhook).await);
    assert_eq!(reset.class, FailureClass::Ambiguous, "{reset:?}");
    let late = failure(deliver(&webhook).await);
    assert_eq!(late.class, FailureClass::Ambiguous, "{late:?}");
    assert_eq!(late.last_error.as_str(), "timed out after 50 ms");
    assert_eq!(receiver.heard().len(), 2);
}

#[tokio::test]
async fn a_receiver_that_cannot_be_reached_was_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for url in [format!("http://{address}/"), "http://no-such-host.invalid/".to_owned()] {
        let failure = failure(deliver(&Webhook::new(&url).unwrap()).await);
        assert_eq!(failure.class, FailureClass::Unsent, "{failure:?}");
    }
    // Speaks no TLS.
    let receiver = Receiver::start(&[]).await;
    let url = receiver.url.replace("http:", "https:");
    let webhook = Webhook::new(&url)
        .unwrap()
        .timeouts(Duration::from_millis(200), Duration::from_secs(9));
    let failure = failure(deliver(&webhook).await);
    assert_eq!(failure.class, FailureClass::Unsent, "{failure:?}");
}

#[test]
fn what_is_no_address_says_why() {
    for (url, why) in [
        ("hooks.example", "neither http nor https"),
        ("ftp://a/", "neither http nor https"),
        ("/hooks", "neither http nor https"),
        ("http://", "no URL"),
    ] {
        let error = Webhook::new(url).unwrap_err().to_string();
        assert!(
            error.contains(why) && error.contains("write https://"),
            "{url}: {error}"
        );
    }
    assert_eq!(Webhook::new("https://me:secret@a/").unwrap_err(), WebhookError::User);
    let error = Webhook::new("ftp://a/?token=hush").unwrap_err().to_string();
    assert!(!error.contains("hush"), "{error}");
    assert!(!format!("{:?}", Webhook::new("https://a/?token=hush").unwrap()).contains("hush"));
}
