//! Cases: odd and extreme values.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    Answer, Claim, DeadReason, Enqueue, Filter, Finish, Input, LastError, Outcome, Refusal, Renewed, Retention, State,
    Timestamp,
};

use super::Failure;
use super::exam::*;

/// Finishes `key` with the answer, which must come back in a replay, another handle's read included.
async fn comes_back(exam: &Exam, key: &str, answer: Answer) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let outcome = Outcome::Answer(answer);
    exam.run(&store, key, Finish::Done(outcome.clone())).await?;
    for store in [store, other] {
        // Compared without being shown: some of them are large.
        let same = must_read(&store, id(key)).await?.state == State::Done(outcome.clone());
        ensure!(same, "the answer of {key} was read otherwise than it was given");
        let told = refused(store.claim(exam.ask(key)).await?)?;
        let same = told
            == Refusal::Done {
                at: exam.now(),
                outcome: outcome.clone(),
            };
        ensure!(same, "the answer of {key} was replayed otherwise than it was given");
    }
    Ok(())
}

pub(super) async fn large_and_empty_answers_come_back_byte_for_byte(exam: Exam) -> Checked {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..1 << 20)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let empty = Answer {
        status: 204,
        headers: vec![],
        body: Bytes::new(),
    };
    comes_back(&exam, "empty", empty).await?;
    comes_back(&exam, "every-byte", answer(200, &every_byte)).await?;
    comes_back(&exam, "one-mebibyte", answer(200, &large)).await
}

pub(super) async fn large_and_empty_inputs_come_back_byte_for_byte(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let large: Vec<u8> = (0..8 << 20)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for (key, bytes) in [("empty", vec![]), ("nul", vec![0; 3]), ("eight-mebibytes", large)] {
        let input = Input(bytes.into());
        let enqueue = Enqueue {
            input: input.clone(),
            ..exam.lay(key)
        };
        accepted(store.enqueue(enqueue).await?)?;
        ensure_eq!(
            must_read(&other, id(key)).await?.input.as_ref(),
            Some(&input),
            "the input of {key}"
        );
        let page = other.list(Filter::default(), None, 10).await?;
        ensure!(
            page.records.iter().all(|summary| summary.has_input),
            "the listing of {key}"
        );
        let taken = other.take(exam.take()).await?;
        let [(record, lease)] = to_run(&taken)[..] else {
            return Err(Failure(format!("{key} should be run, but: {taken:?}")));
        };
        ensure_eq!(record.input.as_ref(), Some(&input), "what {key} is run with");
        applied(store.finish(id(key), lease.fence, release_for(LEASE)).await?)?;
        ensure_eq!(
            must_read(&store, id(key)).await?.input.as_ref(),
            Some(&input),
            "what {key} waits with"
        );
    }
    Ok(())
}

pub(super) async fn last_errors_come_back_up_to_their_limit(exam: Exam) -> Checked {
    let (store, other) = (exam.open().await?, exam.open().await?);
    let long = "\u{1F600}ü".repeat(LastError::MAX_BYTES);
    for (number, text) in ["", " ", "'\\\"%", "a\0b\nc", "status 502", long.as_str()]
        .iter()
        .enumerate()
    {
        let key = format!("k{number}");
        let error = LastError::new(text);
        let finish = Finish::Dead {
            reason: DeadReason::Refused,
            answer: None,
            last_error: Some(error.clone()),
        };
        exam.run(&store, &key, finish).await?;
        let record = must_read(&other, id(&key)).await?;
        ensure_eq!(record.last_error, Some(error.clone()), "what went wrong");
        let filter = Filter {
            key: Some(key),
            ..Filter::default()
        };
        let page = other.list(filter, None, 10).await?;
        let listed: Vec<_> = page.records.into_iter().map(|summary| summary.last_error).collect();
        ensure_eq!(listed, [Some(error)], "what went wrong, as listed");
    }
    Ok(())
}

pub(super) async fn headers_come_back_in_order(exam: Exam) -> Checked {
    let value = |bytes: &'static [u8]| Bytes::from_static(bytes);
    let mut headers = vec![
        ("link".into(), value(b"b")),
        ("link".into(), value(b"a")),
        ("etag".into(), value(b"")),
        ("content-disposition".into(), value(b"\xff\x80 \"x\"")),
    ];
    comes_back(
        &exam,
        "few",
        Answer {
            status: 200,
            headers: headers.clone(),
            body: Bytes::new(),
        },
    )
    .await?;
    let long = Bytes::from(vec![b'v'; 70_000]);
    headers.extend((0..100).map(|number| (format!("x-{number}").into(), value(b"v"))));
    headers.push(("x-long".into(), long));
    comes_back(
        &exam,
        "many",
        Answer {
            status: 200,
            headers,
            body: Bytes::new(),
        },
    )
    .await
}

pub(super) async fn odd_words_name_their_own_operations(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let longest = "ü".repeat(127) + "x";
    let odd = [
        "'",
        "\"",
        "\\",
        "''; DROP TABLE records; --",
        "%",
        "_",
        "a:b/c?d=e&f",
        " ",
        "  ",
        "k ",
        " k",
        "k",
        "K",
        "é",
        "e\u{301}",
        "\u{1F600}",
        "\u{FEFF}",
        "NULL",
        "0",
        "00",
        "-1",
        "$1",
        "?1",
        "{}",
        longest.as_str(),
    ];
    let mut made = Vec::new();
    for (number, word) in odd.iter().enumerate() {
        for (scope, name, key) in [(*word, "n", "k"), ("s", *word, "k"), ("s", "n", *word)] {
            let operation = operation(scope, name, key).map_err(|error| Failure(error.to_string()))?;
            if made.iter().any(|(known, _)| *known == operation) {
                continue;
            }
            let lease = won(store.claim(exam.ask_for(operation.clone())).await?)?;
            applied(store.finish(operation.id(), lease.fence, done(&[number as u8])).await?)?;
            made.push((operation, number as u8));
        }
    }
    for (operation, number) in &made {
        let record = must_read(&store, operation.id()).await?;
        ensure_eq!(&record.operation, operation, "the record's words");
        ensure_eq!(
            record.state,
            done(&[*number]).state(exam.now()),
            "the answer of {operation:?}"
        );
        let filter = Filter {
            scope: Some(operation.scope().to_string()),
            name: Some(operation.name().to_string()),
            key: Some(operation.key().to_string()),
            ..Filter::default()
        };
        let listed = store.list(filter, None, 10).await?.records;
        let listed: Vec<_> = listed.into_iter().map(|summary| summary.operation).collect();
        ensure_eq!(listed, std::slice::from_ref(operation), "listed by its words");
    }
    Ok(())
}

pub(super) async fn every_status_comes_back(exam: Exam) -> Checked {
    for status in [0, 100, 200, 599, 999] {
        comes_back(&exam, &format!("k{status}"), answer(status, b"body")).await?;
    }
    Ok(())
}

pub(super) async fn extreme_durations_saturate(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let for_ever = Retention {
        replay_for: Duration::MAX,
        remember_for: Duration::MAX,
    };
    let claim = Claim {
        lease: Duration::MAX,
        max_run: Duration::MAX,
        retention: for_ever,
        ..exam.ask("for-ever")
    };
    let lease = won(store.claim(claim).await?)?;
    let end = Timestamp::from_millis(i64::MAX);
    ensure_eq!(
        (lease.deadline, lease.run_until),
        (end, end),
        "the ends of an endless lease"
    );
    let renewed = store.renew(id("for-ever"), lease.fence, Duration::MAX).await?;
    ensure_eq!(renewed, Renewed::Until(end), "an endless renewal");
    let release = release_for(Duration::MAX);
    applied(store.finish(id("for-ever"), lease.fence, release).await?)?;
    let told = refused(store.claim(exam.ask("for-ever")).await?)?;
    ensure_eq!(told, Refusal::Later { due: end }, "released for ever");
    store.sweep(100).await?;

    let nothing = Retention {
        replay_for: Duration::ZERO,
        remember_for: Duration::ZERO,
    };
    let claim = Claim {
        lease: Duration::ZERO,
        max_run: Duration::ZERO,
        retention: nothing,
        ..exam.ask("no-time")
    };
    let lease = won(store.claim(claim.clone()).await?)?;
    ensure_eq!(
        (lease.deadline, lease.run_until),
        (exam.now(), exam.now()),
        "the ends of an empty lease"
    );
    let told = refused(store.claim(claim).await?)?;
    ensure!(
        matches!(told, Refusal::Unknown { .. }),
        "an empty lease lapses at once, but: {told:?}"
    );
    applied(store.finish(id("no-time"), lease.fence, done(b"made")).await?)?;
    exam.time.pass(Duration::from_secs(2));
    ensure_eq!(store.sweep(100).await?.forgotten, 1, "forgotten at once");
    must_read(&store, id("for-ever")).await?;
    Ok(())
}

pub(super) async fn far_times_work(exam: Exam) -> Checked {
    exam.time.jump(1 - exam.now().as_millis());
    let store = exam.open().await?;
    // 1970, and the last second that RFC 3339 can write.
    for (key, at) in [("first", 1), ("last", 253_402_300_799_000)] {
        exam.time.pass_until(Timestamp::from_millis(at));
        let lease = exam.win(&store, key).await?;
        ensure_eq!(
            lease.deadline,
            exam.now().after(LEASE),
            "the deadline at {}",
            exam.now()
        );
        applied(store.finish(id(key), lease.fence, done(b"made")).await?)?;
        ensure_eq!(must_read(&store, id(key)).await?.since, exam.now(), "since when");
    }
    Ok(())
}
