//! Members that come and go.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use hapax::consume::{Delivery, KafkaOptions, Source, SourceErrorKind};

use super::{Topic, hold, number};

const CHILD: &str = "HAPAX_TEST_KAFKA_CHILD";
const NOTE: &str = "HAPAX_TEST_KAFKA_NOTE";

/// A member that holds what it was given until it is killed.
#[tokio::test]
async fn child() {
    // By itself it is no test.
    let Ok(topic) = std::env::var(CHILD) else { return };
    let (brokers, name) = topic.split_once('/').unwrap();
    let topic = Topic {
        brokers: brokers.to_owned(),
        name: name.to_owned(),
    };
    let mut source = topic.source(KafkaOptions::default());
    let held = hold(&mut source, 10).await;
    std::fs::write(std::env::var(NOTE).unwrap(), "held").unwrap();
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
    let mut child = child.env(NOTE, &note).spawn().unwrap();
    while !note.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut source = topic.source(KafkaOptions::default());
    let held = hold(&mut source, 10).await;
    let numbers: BTreeSet<usize> = held.iter().map(number).collect();
    assert_eq!(numbers, (0..10).collect());
    assert!(held.iter().all(|delivery| delivery.redelivered));
    source.close().await;
}

/// The one gives up some of its partitions while it has their messages in hand.
#[tokio::test]
async fn members_share_partitions_and_forget_what_was_taken_from_them() {
    const ALL: usize = 40;
    let topic = Topic::new(4);
    topic.publish(0..ALL).await;
    let mut one = topic.source(KafkaOptions::default());
    let old = hold(&mut one, ALL).await;
    let mut other = topic.source(KafkaOptions::default());
    let receive = async {
        let received = hold(&mut other, 1).await;
        let first = received[0].message.position.clone().unwrap();
        (received, first.rsplit_once('/').unwrap().0.to_owned())
    };
    // The one has nothing to give meanwhile: its thread goes along with the rebalance by itself.
    let (mut came, moved) = receive.await;
    let of_the_other: usize = old.iter().filter(|delivery| partition(delivery) == moved).count();
    assert!(of_the_other > 0);

    // What it says of them is refused, and moves nothing; the rest is its own.
    let mut refused = 0;
    for delivery in old {
        let is_moved = partition(&delivery) == moved;
        let settled = delivery.settle.ack().await;
        if is_moved {
            let error = settled.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Unreachable);
            assert!(error.to_string().contains("went to another member"), "{error}");
        }
        refused += usize::from(is_moved);
    }
    assert_eq!(refused, of_the_other);
    while came.iter().filter(|delivery| partition(delivery) == moved).count() < of_the_other {
        came.extend(hold(&mut other, 1).await);
    }
    assert!(came.iter().all(|delivery| delivery.redelivered));
    for delivery in came {
        delivery.settle.ack().await.unwrap();
    }
    one.close().await;
    other.close().await;
}

fn partition(delivery: &Delivery) -> String {
    let position = delivery.message.position.as_deref().unwrap();
    position.rsplit_once('/').unwrap().0.to_owned()
}
