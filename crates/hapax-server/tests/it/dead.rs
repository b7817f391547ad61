//! `hapax dead`: dead letters listed, shown, run again, closed.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use hapax::core::{DeadReason, Finished, NotKept, Outcome, State};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::shelf::{Shelf, dead, done, objects, unknown, waiting};
use crate::support::{Ended, PATIENCE, Process, program};

const WHY: [&str; 4] = ["--reason", "bank is back", "--actor", "ann"];

fn redrive(shelf: &Shelf, more: &[&str]) -> Ended {
    shelf.hapax(&[&["dead", "redrive"], more, &WHY].concat())
}

#[track_caller]
fn refused(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
    for text in texts {
        assert!(ended.stderr.contains(text), "{text:?} is missing: {ended:?}");
    }
}

fn keys(ended: &Ended) -> Vec<String> {
    assert_eq!(ended.code, 0, "{ended:?}");
    let key = |object: &Value| object["key"].as_str().unwrap().to_owned();
    objects(ended).iter().map(key).collect()
}

fn count(shelf: &Shelf, state: &str) -> usize {
    shelf.states().iter().filter(|(_, of)| of == state).count()
}

/// Three that a bank refused, with their inputs; one poison; one that was never dead.
fn incident(shelf: &Shelf) {
    shelf.dead_with_input(&["pay-1", "pay-2", "pay-3"], "status 503 from bank for order ord_81f3");
    shelf.ended("bad", dead(DeadReason::Poison, "it crashed its process 3 times"));
    shelf.ended("well", done("{}"));
}

fn lists(shelf: &Shelf) {
    incident(shelf);
    let ls = |more: &[&str]| shelf.hapax(&[&["dead", "ls", "--json"], more].concat());
    assert_eq!(keys(&ls(&[])), ["pay-1", "pay-2", "pay-3", "bad"]);
    assert_eq!(keys(&ls(&["--reason", "poison"])), ["bad"]);
    assert_eq!(keys(&ls(&["--dead-reason", "exhausted", "--route", "pay"])).len(), 3);
    assert_eq!(keys(&ls(&["--route", "other"])).len(), 0);
    assert_eq!(keys(&ls(&["--scope", "south"])).len(), 0);
    assert_eq!(keys(&ls(&["--older-than", "2h"])).len(), 0);
    assert_eq!(keys(&ls(&["--newer-than", "2h"])).len(), 4);
    let signature = "status 503 from bank for order ord_#";
    assert_eq!(keys(&ls(&["--signature", signature])).len(), 3);
    let cut = ls(&["--limit", "2"]);
    assert_eq!(
        (keys(&cut).len(), cut.stderr.contains("there are more")),
        (2, true),
        "{cut:?}"
    );
    assert_eq!(ls(&["--limit", "4"]).stderr, "");
    assert!(ls(&["--older-than", "2h"]).stderr.contains("no dead letter fits"));

    let groups = objects(&ls(&["--group"]));
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert_eq!(
        (&groups[0]["count"], &groups[0]["reason"], &groups[0]["signature"]),
        (&json!(3), &json!("exhausted"), &json!(signature))
    );
    assert_eq!(groups[0]["example"]["key"], "pay-1");
    assert!(groups[0]["oldest"].as_str() <= groups[0]["newest"].as_str());
    let table = shelf.hapax(&["dead", "ls", "--group"]).stdout;
    assert!(
        table.starts_with("  COUNT REASON") && table.contains("\n      1 poison"),
        "{table}"
    );
    let table = shelf.hapax(&["dead", "ls"]).stdout;
    assert_eq!(
        (table.lines().count(), table.starts_with("REASON")),
        (5, true),
        "{table}"
    );
    assert!(
        table.contains("stored pay-1  status 503 from bank for order ord_81f3\n"),
        "{table}"
    );
}

#[test]
fn dead_letters_are_listed_and_grouped() {
    lists(&Shelf::sqlite());
}

#[test]
fn dead_letters_are_listed_and_grouped_on_postgresql() {
    lists(&Shelf::postgres());
}

#[test]
fn a_dead_letter_is_shown_with_what_can_be_done() {
    let shelf = Shelf::sqlite();
    incident(&shelf);
    redrive(&shelf, &["pay-1"]);
    let (_, fence) = shelf.take().remove(0);
    shelf.finish("pay-1", fence, dead(DeadReason::Exhausted, "status 503 again"));
    let shown = shelf.hapax(&["dead", "show", "pay-1"]);
    for text in [
        "reason             exhausted",
        "last_error         status 503 again",
        "redriven           20",
        "By hand:\n  20",
        "dead -> waiting",
        "bank is back",
        "hapax dead redrive pay-1",
        "a gateway on this store runs it",
        "hapax records resolve pay-1 --done",
        "hapax dead discard pay-1",
    ] {
        assert!(shown.stdout.contains(text), "{text:?} is missing: {shown:?}");
    }
    let json = shelf.hapax(&["dead", "show", "pay-1", "--json"]);
    assert_eq!(json.stdout.lines().count(), 1);
    assert_eq!(json.json()["audit"][0]["action"], "redrive");
    let bad = shelf.hapax(&["dead", "show", "bad"]).stdout;
    assert!(
        !bad.contains("By hand") && bad.contains("its next arrival runs it"),
        "{bad}"
    );
    refused(
        &shelf.hapax(&["dead", "show", "well"]),
        1,
        &["well is done, not dead", "hapax records show well"],
    );
    refused(
        &shelf.hapax(&["dead", "show", "none"]),
        1,
        &["no record with the key none"],
    );
}

fn redrives(shelf: &Shelf) {
    incident(shelf);
    let plan = redrive(shelf, &["--all", "--dry-run"]).stdout;
    assert_eq!(
        plan,
        "3 would run now (input stored), 1 at their next arrival (no input stored); would be skipped: 0\n"
    );
    let plan = redrive(shelf, &["pay-1", "well", "--dry-run", "--json"]).json();
    assert_eq!(
        (&plan["run"], &plan["skip"], &plan["dry_run"]),
        (&json!(1), &json!({"done": 1}), &json!(true))
    );
    assert_eq!(count(shelf, "dead"), 4, "a dry run changes nothing");
    assert_eq!(shelf.hapax(&["audit"]).stdout, "");

    let ended = redrive(shelf, &["pay-2", "well", "pay-2"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (
            0,
            "redriven 1: 1 to run now (input stored), 0 at their next arrival (no input stored); skipped: 1 done\n"
        ),
        "{ended:?}"
    );
    let record = shelf.record("pay-2");
    assert_eq!((record.tries, record.redriven.is_some()), (0, true));
    let rest = objects(&redrive(shelf, &["--all", "--json", "--rate", "1000/s"]));
    let events: Vec<_> = rest.iter().map(|object| [&object["event"], &object["key"]]).collect();
    assert_eq!(
        events,
        [
            [&json!("run"), &json!("pay-1")],
            [&json!("run"), &json!("pay-3")],
            [&json!("release"), &json!("bad")],
            [&json!("summary"), &Value::Null]
        ]
    );
    assert_eq!(
        (&rest[3]["run"], &rest[3]["release"], &rest[3]["cut_short_by"]),
        (&json!(2), &json!(1), &Value::Null)
    );
    assert_eq!(
        (count(shelf, "dead"), count(shelf, "waiting"), count(shelf, "done")),
        (0, 4, 1)
    );
    let mut taken: Vec<_> = shelf.take().into_iter().map(|(key, _)| key).collect();
    taken.sort();
    assert_eq!(taken, ["pay-1", "pay-2", "pay-3"], "what has its input runs by itself");
    let audit = objects(&shelf.hapax(&["audit", "--json"]));
    assert_eq!(audit.len(), 4);
    assert!(
        audit
            .iter()
            .all(|entry| entry["action"] == "redrive" && entry["actor"] == "ann" && entry["reason"] == "bank is back")
    );
}

#[test]
fn dead_letters_are_sent_back() {
    redrives(&Shelf::sqlite());
}

#[test]
fn dead_letters_are_sent_back_on_postgresql() {
    redrives(&Shelf::postgres());
}

fn stale(shelf: &Shelf) {
    shelf.enqueue("k");
    let (_, stale) = shelf.take().remove(0);
    shelf.finish("k", stale, dead(DeadReason::Exhausted, "status 503"));
    assert_eq!(redrive(shelf, &["k"]).code, 0);
    let late = shelf.finish("k", stale, done("late"));
    assert!(matches!(late, Finished::Fenced { .. }), "{late:?}");
    let (_, fence) = shelf.take().remove(0);
    let late = shelf.finish("k", stale, done("late"));
    assert!(matches!(late, Finished::Fenced { .. }), "{late:?}");
    shelf.finish("k", fence, done("right"));
    let late = shelf.finish("k", stale, done("late"));
    assert!(matches!(late, Finished::Fenced { .. }), "{late:?}");
    let State::Done(Outcome::Answer(answer)) = shelf.record("k").state else {
        panic!("{:?}", shelf.record("k"));
    };
    assert_eq!(&*answer.body, b"right");
}

#[test]
fn a_stale_attempt_cannot_finish_after_a_redrive() {
    stale(&Shelf::sqlite());
}

#[test]
fn a_stale_attempt_cannot_finish_after_a_redrive_on_postgresql() {
    stale(&Shelf::postgres());
}

fn interrupted(shelf: &Shelf) {
    let names: Vec<String> = (0..40).map(|n| format!("k-{n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    shelf.dead_with_input(&all, "status 503");
    let mut command = program();
    command
        .args(["dead", "redrive", "--all", "--rate", "20/s", "--store", &shelf.url])
        .args(WHY);
    let mut process = Process::spawn(&mut command);
    let until = Instant::now() + PATIENCE;
    let mut runs: Vec<String> = Vec::new();
    while runs.len() < 3 {
        assert!(Instant::now() < until, "nothing is redriven: {}", process.log());
        runs.extend(run(shelf));
    }
    process.signal(Signal::INT);
    assert_eq!(process.wait().code(), Some(1), "{}", process.log());
    let log = process.log();
    assert!(
        log.contains("stopped between two records; to go on, give the same command again"),
        "{log}"
    );
    let before = log
        .split("--before ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    let left = count(shelf, "dead");
    assert!((1..=37).contains(&left), "{left} are left");
    // What dies again meanwhile is not in the set any more.
    runs.extend(run(shelf));
    shelf.ended("later", dead(DeadReason::Refused, "status 400"));

    let again = redrive(shelf, &["--all", "--rate", "10000/s", "--before", before]);
    let expected = format!("redriven {left}: {left} to run now");
    assert!(again.stdout.starts_with(&expected), "{again:?}");
    runs.extend(run(shelf));
    runs.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(runs, expected, "each ran once");
    assert_eq!((count(shelf, "done"), count(shelf, "dead")), (40, 1));
    assert_eq!(objects(&shelf.hapax(&["audit", "--json", "--limit", "1000"])).len(), 40);
}

/// Runs what a runner can take, to its good end.
fn run(shelf: &Shelf) -> Vec<String> {
    let taken = shelf.take();
    for (key, fence) in &taken {
        let finished = shelf.finish(key, *fence, done("{}"));
        assert!(matches!(finished, Finished::Applied { .. }), "{finished:?}");
    }
    taken.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn an_interrupted_redrive_goes_on_and_runs_nothing_twice() {
    interrupted(&Shelf::sqlite());
}

#[test]
fn an_interrupted_redrive_goes_on_and_runs_nothing_twice_on_postgresql() {
    interrupted(&Shelf::postgres());
}

/// Runs `dead redrive --all --canary 2` while a runner ends what it takes as `end` says.
fn with_canaries(shelf: &Shelf, more: &[&str], end: impl Fn(&Shelf, &str, hapax::core::Fence)) -> Ended {
    let mut command = program();
    command.args([
        "dead", "redrive", "--all", "--canary", "2", "--rate", "1000", "--store", &shelf.url,
    ]);
    let mut child = command
        .args(more)
        .args(WHY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it does not end");
        for (key, fence) in shelf.take() {
            end(shelf, &key, fence);
        }
        thread::yield_now();
    }
    Ended::from(child.wait_with_output().unwrap())
}

#[test]
fn canaries_go_first_and_the_others_follow() {
    let shelf = Shelf::sqlite();
    incident(&shelf);
    let ended = with_canaries(&shelf, &["--json"], |shelf, key, fence| {
        shelf.finish(key, fence, done("{}"));
    });
    assert_eq!(ended.code, 0, "{ended:?}");
    let events: Vec<_> = objects(&ended)
        .iter()
        .map(|object| format!("{} {} {}", object["event"], object["key"], object["state"]).replace('"', ""))
        .collect();
    assert_eq!(
        events,
        [
            "run pay-1 null",
            "run pay-2 null",
            "canary pay-1 done",
            "canary pay-2 done",
            "run pay-3 null",
            "release bad null",
            "summary null null"
        ]
    );
}

#[test]
fn a_canary_that_fails_keeps_the_others_back() {
    let shelf = Shelf::sqlite();
    incident(&shelf);
    let ended = with_canaries(&shelf, &[], |shelf, key, fence| {
        shelf.finish(key, fence, dead(DeadReason::Exhausted, "status 503 still"));
    });
    assert_eq!(
        (ended.code, ended.stdout.starts_with("redriven 2: 2 to run now")),
        (1, true),
        "{ended:?}"
    );
    for text in [
        "of 2 canaries ended badly, so the others were left alone",
        "dead, status 503 still",
    ] {
        assert!(ended.stderr.contains(text), "{text:?}: {ended:?}");
    }
    assert_eq!(shelf.record("pay-3").redriven, None);
    assert_eq!(shelf.record("bad").redriven, None);

    shelf.ended("unsure", unknown());
    let ended = with_canaries(&shelf, &[], |shelf, key, fence| {
        shelf.finish(key, fence, unknown());
    });
    assert!(
        ended.code == 1 && ended.stderr.contains(": unknown, timed out after 30s"),
        "{ended:?}"
    );
}

#[test]
fn a_canary_that_nobody_runs_is_told_of() {
    let shelf = Shelf::sqlite();
    incident(&shelf);
    let ended = redrive(&shelf, &["--all", "--canary", "2", "--canary-wait", "200ms"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    for text in [
        "2 of 2 canaries have not ended within 200ms",
        "see that a gateway runs",
        "pay-1: waiting\n",
    ] {
        assert!(ended.stderr.contains(text), "{text:?}: {ended:?}");
    }
    assert_eq!((count(&shelf, "dead"), count(&shelf, "waiting")), (2, 2));
    refused_partly(
        &redrive(&shelf, &["bad", "--canary", "1"]),
        &["none of these has its input stored", "leave out --canary"],
    );
    assert_eq!(shelf.record("bad").redriven, None);
}

#[track_caller]
fn refused_partly(ended: &Ended, texts: &[&str]) {
    assert_eq!(ended.code, 1, "{ended:?}");
    for text in texts {
        assert!(ended.stderr.contains(text), "{text:?} is missing: {ended:?}");
    }
}

fn discards(shelf: &Shelf) {
    incident(shelf);
    let discard = |more: &[&str]| shelf.hapax(&[&["dead", "discard"], more].concat());
    refused(&discard(&["pay-1"]), 2, &["say why with --reason"]);
    assert_eq!(
        discard(&["--all", "--dry-run"]).stdout,
        "4 would be closed; would be skipped: 0\n"
    );
    assert_eq!(count(shelf, "dead"), 4);
    let ended = discard(&[&["pay-1"], &WHY[..]].concat());
    assert_eq!(ended.stdout, "closed 1; skipped: 0\n", "{ended:?}");
    let record = shelf.record("pay-1");
    assert_eq!(record.state, State::Done(Outcome::NotKept(NotKept::Discarded)));
    assert_eq!(record.input, None);
    let ended = discard(&[&["--all", "--dead-reason", "exhausted"], &WHY[..]].concat());
    assert_eq!(ended.stdout, "closed 2; skipped: 0\n", "{ended:?}");
    assert_eq!(count(shelf, "dead"), 1, "the poison is left");
    refused(
        &discard(&[&["pay-1"], &WHY[..]].concat()),
        1,
        &["pay-1 is done, not dead"],
    );
    assert_eq!(shelf.take(), [], "nothing runs");
}

#[test]
fn dead_letters_are_closed() {
    discards(&Shelf::sqlite());
}

#[test]
fn dead_letters_are_closed_on_postgresql() {
    discards(&Shelf::postgres());
}

#[test]
fn what_cannot_be_redriven_is_told_why() {
    let shelf = Shelf::sqlite();
    refused(
        &redrive(&shelf, &["--all"]),
        1,
        &["no dead letter fits", "hapax dead ls"],
    );
    incident(&shelf);
    shelf.claim("running", Duration::from_secs(60));
    shelf.ended("waiting", waiting());
    shelf.ended("unsure", unknown());
    for (key, texts) in [
        ("well", &["well is done, not dead", "never runs again"][..]),
        (
            "running",
            &["running is running, not dead", "its end tells what became of it"],
        ),
        ("waiting", &["waiting is waiting, not dead", "says when it is due"]),
        (
            "unsure",
            &["unsure is unknown, not dead", "hapax records resolve unsure"],
        ),
        ("absent", &["no record with the key absent"]),
    ] {
        refused(&redrive(&shelf, &[key]), 1, texts);
    }
    for (arguments, texts) in [
        (&[][..], &["say which: give keys, or --all"][..]),
        (&["--route", "pay"], &["say which"]),
        (&["pay-1", "--all"], &["either keys or --all"]),
        (&["pay-1", "--older-than", "1h"], &["choose among all"]),
        (&["--all", "--rate", "0"], &["is no rate", "such as 50/s"]),
        (&["--all", "--canary", "0"], &["0 is not in 1..=10000"]),
        (&["--all", "--older-than", "yesterday"], &["is no duration"]),
        (&["--all", "--before", "noon"], &["is no time", "2026-01-31T08:00:00Z"]),
        (
            &["--all", "--dead-reason", "tired"],
            &["exhausted, poison, mismatch, refused, undone"],
        ),
    ] {
        refused(&redrive(&shelf, arguments), 2, texts);
    }
    shelf.undo("pay-2");
    let begun = redrive(&shelf, &["pay-2"]);
    refused(&begun, 1, &["compensation has begun", "hapax dead discard"]);
    let dry = redrive(&shelf, &["--all", "--dry-run"]);
    let skipped = "would be skipped: 1 undone (compensation has begun)";
    assert!(dry.stdout.contains(skipped), "{dry:?}");
    let shown = shelf.hapax(&["dead", "show", "pay-2"]).stdout;
    assert!(shown.contains("refused: its compensation has begun"), "{shown}");
    let unexplained = shelf.hapax(&["dead", "redrive", "--all"]);
    refused(&unexplained, 2, &["say why with --reason TEXT"]);
    let nothing = redrive(&shelf, &["--all", "--route", "other"]);
    refused(&nothing, 1, &["no dead letter fits"]);
    assert_eq!(count(&shelf, "dead"), 4);
    let audit = shelf.hapax(&["audit"]).stdout;
    assert_eq!(
        (audit.matches(" -> ").count(), audit.contains("undo")),
        (1, true),
        "{audit}"
    );
}

#[test]
fn a_redrive_keeps_to_its_rate() {
    let shelf = Shelf::sqlite();
    shelf.dead_with_input(&["a", "b", "c", "d", "e", "f"], "status 503");
    let begun = Instant::now();
    assert_eq!(redrive(&shelf, &["--all", "--rate", "10/s"]).code, 0);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(500), "six at ten a second took {took:?}");
}
