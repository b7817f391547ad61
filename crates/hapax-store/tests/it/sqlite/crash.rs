//! `kill -9` in the middle of writing: what was acknowledged is there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use hapax_core::{Outcome, State, Store};

use super::{open, operation, run};

const FILE: &str = "HAPAX_TEST_CRASH_FILE";

/// The child's part: run by the test below in a process of its own, which it kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child's part of kill_9_loses_nothing_acknowledged"]
async fn crash_child() {
    let store = std::sync::Arc::new(open(Path::new(&std::env::var(FILE).unwrap())));
    let mut tasks = Vec::new();
    for task in 0..8 {
        let store = std::sync::Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            for n in 0.. {
                let key = format!("{}-{task}-{n}", std::process::id());
                run(&*store, &key, key.as_bytes()).await;
                // One write a line, not through the harness's capture.
                std::io::Write::write_all(&mut std::io::stderr(), format!("ack {key}\n").as_bytes()).unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let mut acknowledged = Vec::new();
    let mut last_fence = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::crash::crash_child", "--ignored", "--nocapture"])
            .env(FILE, &path)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let before = acknowledged.len();
        let mut killed = false;
        // What it still said before it died counts too.
        while let Some(Ok(line)) = lines.next() {
            acknowledged.extend(line.strip_prefix("ack ").map(str::to_owned));
            if !killed && acknowledged.len() - before >= 50 * round {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");

        let store = open(&path);
        for key in &acknowledged {
            let (_, record) = store.read(operation(key).id()).await.unwrap();
            let state = record.unwrap_or_else(|| panic!("{key} is lost")).state;
            assert!(
                matches!(&state, State::Done(Outcome::Answer(answer)) if answer.body == key.as_bytes()),
                "{key}: {state:?}"
            );
        }
        let fence = run(&store, &format!("round {round}"), b"").await.get();
        assert!(
            fence > last_fence + 50 * round as u64,
            "fences went on from {last_fence} to {fence}"
        );
        last_fence = fence;
        store.close();
        let connection = rusqlite::Connection::open(&path).unwrap();
        let whole: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(whole, "ok");
    }
}
