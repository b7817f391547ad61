use std::sync::{Arc, Mutex};

use hapax_core::{Name, Timestamp};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A mail server that answers the command which begins like this otherwise than usual; `None` hangs up.
type Whim = Option<(&'static str, Option<&'static str>)>;

async fn server(whim: Whim) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let theirs = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(stream, whim, Arc::clone(&theirs)));
        }
    });
    (url, heard)
}

async fn speak(stream: TcpStream, whim: Whim, heard: Arc<Mutex<Vec<String>>>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 test\r\n").await.unwrap();
    let mut in_text = false;
    while let Ok(Some(line)) = lines.next_line().await {
        heard.lock().unwrap().push(line.clone());
        let command = if in_text {
            ""
        } else {
            line.split([' ', ':']).next().unwrap_or("")
        };
        let said = match (command, in_text, line.as_str()) {
            (_, true, ".") => {
                in_text = false;
                ".".to_owned()
            }
            (_, true, _) => continue,
            (command, ..) => command.to_owned(),
        };
        let usual = match said.as_str() {
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        let answer = match whim {
            Some((begin, answer)) if begin == said => answer,
            _ => Some(usual),
        };
        in_text = said == "DATA" && answer == Some("354 go on");
        let Some(answer) = answer else { return };
        if writer.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn send(url: &str, payload: &'static str) -> Attempted {
    let email = Email::new(url, "Shop <shop@example.org>").unwrap();
    email.deliver(delivery(payload)).await
}

fn delivery(payload: &'static str) -> Delivery {
    Delivery {
        name: Name::new("mail").unwrap(),
        key: "00ff".to_owned(),
        content_type: "application/json".into(),
        payload: Bytes::from_static(payload.as_bytes()),
        now: Timestamp::from_millis(1_614_265_330_999),
        tries: 1,
    }
}

const PAYLOAD: &str = r#"{"to":"ada@example.org","bcc":["b@example.org"],"subject":"Hi","text":".dot\nend"}"#;

#[tokio::test]
async fn a_message_is_sent_with_the_derived_key_as_its_id() {
    let (url, heard) = server(None).await;
    let email = Email::new(&url, "Shop <shop@example.org>").unwrap();
    for _ in 0..2 {
        assert!(matches!(email.deliver(delivery(PAYLOAD)).await, Attempted::Done(_)));
    }
    let heard = heard.lock().unwrap().clone();
    let count = |line: &str| heard.iter().filter(|heard| *heard == line).count();
    assert_eq!(count("Message-ID: <00ff@example.org>"), 2, "{heard:?}");
    assert_eq!(count("RCPT TO:<ada@example.org>"), 2, "{heard:?}");
    assert_eq!(count("RCPT TO:<b@example.org>"), 2, "{heard:?}");
    assert_eq!(count("..dot"), 2, "{heard:?}");
    assert!(!heard.iter().any(|line| line.starts_with("Bcc")), "{heard:?}");
    let greetings = heard.iter().filter(|line| line.starts_with("EHLO")).count();
    assert_eq!(greetings, 1, "one connection: {heard:?}");
}

#[tokio::test]
async fn a_failure_proves_what_the_table_says() {
    use FailureClass::{Ambiguous, Final, Throttled, Unsent};
    for (begin, answer, class) in [
        ("EHLO", Some("421 busy"), Unsent),
        ("MAIL", None, Unsent),
        ("MAIL", Some("451 later"), Throttled),
        ("RCPT", Some("550 nobody"), Final),
        ("RCPT", Some("450 greylisted"), Throttled),
        ("DATA", None, Unsent),
        (".", Some("554 spam"), Final),
        (".", Some("452 full"), Throttled),
        (".", None, Ambiguous),
    ] {
        let (url, _) = server(Some((begin, answer))).await;
        match send(&url, PAYLOAD).await {
            Attempted::Failed(failure) => assert_eq!(failure.class, class, "{begin} {answer:?}: {failure:?}"),
            other => panic!("{begin} {answer:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_payload_that_is_no_email_is_refused_for_good() {
    let (url, heard) = server(None).await;
    for payload in [
        "no json",
        r#"{"to":"ada@example.org","subject":"Hi"}"#,
        r#"{"to":"nobody","subject":"Hi","text":"t"}"#,
        r#"{"to":[],"subject":"Hi","text":"t"}"#,
        r#"{"to":"ada@example.org","subject":"a\r\nBcc: eve@example.org","text":"t"}"#,
        r#"{"to":"ada@example.org","subject":"Hi","text":"t","unknown":1}"#,
    ] {
        match send(&url, payload).await {
            Attempted::Failed(failure) => assert_eq!(failure.class, FailureClass::Final, "{payload}: {failure:?}"),
            other => panic!("{payload}: {other:?}"),
        }
    }
    assert!(heard.lock().unwrap().is_empty());
}
