//! Members that come and go.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use hapax::consume::{KafkaOptions, Source};

use super::{Topic, hold, number};

const CHILD: &str = "HAPAX_TEST_KAFKA_CHILD";

/// A member that holds what it was given until it is killed.
#[tokio::test]
async fn child() {
    let Ok(topic) = std::env::var(CHILD) else { return };
    let (brokers, name) = topic.split_once('/').unwrap();
    let topic = Topic {
        brokers: brokers.to_owned(),
        name: name.to_owned(),
    };
    let mut source = topic.source(KafkaOptions::default());
    let held = hold(&mut source, 10).await;
    std::fs::write(std::env::var("HAPAX_TEST_KAFKA_NOTE").unwrap(), "held").unwrap();
    std::future::pending::<()>().await;
    drop(held);
}

#[tokio::test]
async fn what_a_killed_member_held_comes_again() {
    let topic = Topic::new(2);
    topic.publish(0..10).await;
    let directory = tempfile::tempdir().unwrap();
    let note = directory.path().join("note");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["group::child", "--exact"]);
    child.env(CHILD, format!("{}/{}", topic.brokers, topic.name));
    let mut child = child.env("HAPAX_TEST_KAFKA_NOTE", &note).spawn().unwrap();
    while !note.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    let mut source = topic.source(KafkaOptions::default());
    let held = hold(&mut source, 10).await;
    eprintln!("again after {:?}", killed.elapsed());
    let numbers: BTreeSet<usize> = held.iter().map(number).collect();
    assert_eq!(numbers, (0..10).collect());
    assert!(held.iter().all(|delivery| delivery.redelivered));
    drop(held);
    source.close().await;
}

#[tokio::test]
async fn members_come_and_go() {
    let topic = Topic::new(4);
    topic.publish(0..40).await;
    let began = Instant::now();
    let mut one = topic.source(KafkaOptions::default());
    let held = hold(&mut one, 40).await;
    eprintln!("joined after {:?}", began.elapsed());
    for delivery in held {
        delivery.settle.ack().await.unwrap();
    }
    let mut other = topic.source(KafkaOptions::default());
    let began = Instant::now();
    let (mut first, mut second) = (0, 0);
    let mut round = 0;
    while second == 0 {
        topic.publish(0..8).await;
        round += 1;
        let step = Duration::from_millis(100);
        let (a, b) = tokio::join!(
            tokio::time::timeout(step, one.receive(100)),
            tokio::time::timeout(step, other.receive(100))
        );
        for d in a.into_iter().flatten().flatten() {
            first += 1;
            let _ = d.settle.ack().await;
        }
        for d in b.into_iter().flatten().flatten() {
            second += 1;
            let _ = d.settle.ack().await;
        }
        if began.elapsed() > Duration::from_secs(50) {
            panic!("{first} {second} {round}");
        }
    }
    eprintln!("rebalanced after {:?}: {first} {second} {round}", began.elapsed());
    one.close().await;
    let began = Instant::now();
    topic.publish(0..40).await;
    let mut got = 0;
    while got < 40 {
        got += hold(&mut other, 1).await.len();
    }
    eprintln!("leader gone: {:?}", began.elapsed());
}

#[tokio::test]
async fn experiment() {
    let topic = Topic::new(1);
    topic.publish(0..10).await;
    let mut one = topic.source(KafkaOptions::default());
    drop(hold(&mut one, 10).await);
    drop(one);
    for round in 0..5 {
        let began = Instant::now();
        let mut two = topic.source(KafkaOptions::default());
        let got = tokio::time::timeout(Duration::from_secs(20), two.receive(10)).await;
        eprintln!(
            "round {round}: {:?} {:?}",
            began.elapsed(),
            got.map(|got| got.map(|got| got.len()))
        );
        two.close().await;
    }
}
