//! `hapax records resolve` and `hapax audit`: a person says what happened, once, and it is written down.

use std::time::Duration;

use hapax::core::{DeadReason, Finished, NotKept, Outcome, State};
use serde_json::{Value, json};

use crate::support::Ended;
use crate::support::shelf::{Shelf, dead, done, objects, unknown, waiting};

const WHY: [&str; 4] = ["--reason", "found it at the provider", "--actor", "ann"];

fn resolve(shelf: &Shelf, key: &str, more: &[&str]) -> Ended {
    shelf.hapax(&[&["records", "resolve", key], more, &WHY].concat())
}

#[track_caller]
fn refused(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
    for text in texts {
        assert!(ended.stderr.contains(text), "{text:?} is missing: {ended:?}");
    }
}

fn settles(shelf: &Shelf) {
    for key in ["done", "told", "not", "dead"] {
        shelf.ended(key, unknown());
    }
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), r#"{"id":81}"#).unwrap();
    let file = body.path().to_str().unwrap();
    let ended = resolve(shelf, "done", &["--done", "--status", "201", "--body-file", file]);
    assert_eq!(
        ended.stdout, "resolved: done is done; retries get the answer 201\n",
        "{ended:?}"
    );
    let State::Done(Outcome::Answer(answer)) = shelf.record("done").state else {
        panic!("{:?}", shelf.record("done"));
    };
    assert_eq!((answer.status, &*answer.body), (201, &br#"{"id":81}"#[..]));
    assert_eq!(answer.headers, [("content-type".into(), "application/json".into())]);

    let ended = resolve(shelf, "told", &["--done"]);
    assert_eq!(
        ended.stdout,
        "resolved: told is done; retries are told so, without an answer\n"
    );
    assert_eq!(
        shelf.record("told").state,
        State::Done(Outcome::NotKept(NotKept::Discarded))
    );
    let ended = resolve(shelf, "not", &["--not-done", "--settle", "0s", "--json"]);
    assert_eq!(
        (ended.code, &ended.json()["state"]),
        (0, &json!("waiting")),
        "{ended:?}"
    );
    let ended = resolve(shelf, "dead", &["--dead"]);
    assert_eq!(ended.stdout, "resolved: dead is dead; no automatic retry touches it\n");

    let audit = objects(&shelf.hapax(&["audit", "--json"]));
    let told: Vec<_> = audit
        .iter()
        .map(|entry| [&entry["key"], &entry["action"], &entry["before"], &entry["after"]])
        .collect();
    let expected = [
        ["done", "resolve-done", "unknown", "done"],
        ["told", "resolve-done", "unknown", "done"],
        ["not", "resolve-not-done", "unknown", "waiting"],
        ["dead", "resolve-dead", "unknown", "dead"],
    ];
    assert_eq!(told, expected);
    for entry in &audit {
        assert_eq!(
            (&entry["actor"], &entry["reason"]),
            (&json!("ann"), &json!("found it at the provider"))
        );
    }
}

#[test]
fn a_person_settles_what_nobody_knew() {
    settles(&Shelf::sqlite());
}

#[test]
fn a_person_settles_what_nobody_knew_on_postgresql() {
    settles(&Shelf::postgres());
}

#[test]
fn a_late_end_does_not_change_the_verdict() {
    let shelf = Shelf::sqlite();
    let fence = shelf.ended("k", unknown());
    assert_eq!(resolve(&shelf, "k", &["--done"]).code, 0);
    let before = shelf.record("k");
    let late = shelf.finish("k", fence, done("late"));
    assert!(matches!(late, Finished::Fenced { .. }), "{late:?}");
    assert_eq!(shelf.record("k"), before);
}

#[test]
fn only_what_is_unknown_is_resolved() {
    let shelf = Shelf::sqlite();
    let minute = Duration::from_secs(60);
    shelf.claim("running", minute);
    shelf.ended("waiting", waiting());
    shelf.ended("done", done("{}"));
    shelf.ended("dead", dead(DeadReason::Refused, "status 400"));
    let before: Vec<_> = ["running", "waiting", "done", "dead"]
        .map(|key| shelf.record(key))
        .into();
    for (key, verdict, texts) in [
        ("running", "--done", &["it is running", "its lease to end"][..]),
        (
            "waiting",
            "--done",
            &["it is waiting to be tried", "hapax records show waiting"],
        ),
        (
            "done",
            "--not-done",
            &["what is done never changes", "hapax records show done"],
        ),
        (
            "dead",
            "--not-done",
            &["hapax dead redrive dead", "hapax dead discard dead"],
        ),
        ("dead", "--dead", &["can only be said to be done"]),
    ] {
        refused(&resolve(&shelf, key, &[verdict, "--settle", "0s"]), 1, texts);
    }
    refused(
        &resolve(&shelf, "absent", &["--done"]),
        1,
        &["no record with the key absent", "hapax audit absent"],
    );
    let after: Vec<_> = ["running", "waiting", "done", "dead"]
        .map(|key| shelf.record(key))
        .into();
    assert_eq!(before, after);
    assert_eq!(
        shelf.hapax(&["audit"]).stdout,
        "",
        "what was refused is not in the audit"
    );
    assert_eq!(resolve(&shelf, "dead", &["--done"]).code, 0);
    assert!(matches!(shelf.record("dead").state, State::Done(_)));
}

#[test]
fn a_lapsed_claim_is_unknown_and_not_done_counts_once_it_has_settled() {
    let shelf = Shelf::sqlite();
    shelf.claim("k", Duration::ZERO);
    let early = resolve(&shelf, "k", &["--not-done", "--settle", "1h"]);
    refused(&early, 1, &["too early", "counts only from 20", "(it is 1h)"]);
    assert!(!early.stderr.contains("ms. Look"), "in whole seconds: {early:?}");
    let ended = resolve(&shelf, "k", &["--not-done", "--settle", "0s"]);
    assert_eq!(
        ended.stdout, "resolved: k is waiting; its next arrival runs it (no input is stored)\n",
        "{ended:?}"
    );
    shelf.claim("k", Duration::from_secs(60));
}

#[test]
fn what_is_typed_wrongly_is_told_before_the_store_is_looked_at() {
    let shelf = Shelf::sqlite();
    shelf.ended("k", unknown());
    let directory = tempfile::tempdir().unwrap();
    let (missing, folder) = (directory.path().join("missing"), directory.path().to_str().unwrap());
    let (big, empty) = (directory.path().join("big"), directory.path().join("some"));
    std::fs::File::create(&big).unwrap().set_len((256 << 20) + 1).unwrap();
    std::fs::write(&empty, "x").unwrap();
    let [missing, big, some] = [&missing, &big, &empty].map(|path| path.to_str().unwrap());
    for (arguments, text) in [
        (&[][..], "no verdict: give exactly one of --done"),
        (&["--done", "--dead"], "more than one verdict: give exactly one"),
        (&["--done", "--not-done", "--dead"], "more than one verdict"),
        (&["--not-done", "--status", "201"], "with --done only"),
        (&["--done", "--status", "99"], "--status 99 is no status"),
        (&["--done", "--status", "100"], "a number from 200 to 599"),
        (&["--done", "--status", "600"], "--status 600"),
        (&["--done", "--status", "ok"], "--status ok"),
        (&["--done", "--body-file", some], "add --status, such as --status 201"),
        (
            &["--done", "--status", "201", "--content-type", "a/b"],
            "give the body with --body-file",
        ),
        (&["--done", "--status", "201", "--body-file", missing], "No such file"),
        (&["--done", "--status", "201", "--body-file", folder], "Is a directory"),
        (
            &["--done", "--status", "201", "--body-file", big],
            "larger than 256 MiB",
        ),
        (&["--done", "--status", "204", "--body-file", some], "has no body"),
        (
            &[
                "--done",
                "--status",
                "201",
                "--body-file",
                some,
                "--content-type",
                "a\nb",
            ],
            "cannot be a header",
        ),
        (&["--not-done", "--settle", "soon"], "is no duration"),
    ] {
        refused(&resolve(&shelf, "k", arguments), 2, &[text]);
    }
    for reason in [&[][..], &["--reason", ""], &["--reason", " \n "]] {
        let ended = shelf.hapax(&[&["records", "resolve", "k", "--done"], reason].concat());
        refused(&ended, 2, &["say why with --reason TEXT", "it stays in the audit"]);
    }
    let long = "x".repeat(1001);
    let ended = shelf.hapax(&["records", "resolve", "k", "--done", "--reason", &long]);
    refused(&ended, 2, &["--reason has 1001 bytes", "name a ticket"]);
    assert_eq!(shelf.states(), [("k".to_owned(), "unknown".to_owned())]);
}

#[test]
fn who_does_it_is_the_user_unless_said_otherwise() {
    let shelf = Shelf::sqlite();
    for (key, user, actor) in [
        ("k-1", Some("ben"), "ben"),
        ("k-2", Some(""), "unknown"),
        ("k-3", None, "unknown"),
    ] {
        shelf.ended(key, unknown());
        let mut command = crate::support::program();
        command.args([
            "records", "resolve", key, "--dead", "--reason", "a\nb", "--store", &shelf.url,
        ]);
        match user {
            Some(user) => command.env("USER", user),
            None => command.env_remove("USER"),
        };
        let ended = Ended::from(command.output().unwrap());
        assert_eq!(ended.code, 0, "{ended:?}");
        let entry = &objects(&shelf.hapax(&["audit", key, "--json"]))[0];
        assert_eq!((&entry["actor"], &entry["reason"]), (&json!(actor), &json!("a b")));
    }
}

#[test]
fn the_audit_outlives_its_records() {
    let shelf = Shelf::sqlite();
    let nothing = shelf.hapax(&["audit"]);
    assert_eq!(
        (nothing.code, nothing.stdout.as_str(), nothing.stderr.as_str()),
        (0, "", "nobody has changed a record by hand, nor has a resolver\n")
    );
    for key in ["k-1", "k-2"] {
        shelf.ended(key, done("{}"));
        let ended = shelf.hapax(&[&["records", "forget", key], &WHY[..]].concat());
        assert_eq!(ended.stdout, format!("forgotten: north pay {key}\n"), "{ended:?}");
    }
    assert_eq!(shelf.states(), []);
    let all = shelf.hapax(&["audit"]).stdout;
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 3, "{all}");
    assert!(lines[0].starts_with("AT "), "{all}");
    assert!(
        lines[1].ends_with("ann          forget           done -> forgotten    k-1  found it at the provider"),
        "{all}"
    );
    let one = objects(&shelf.hapax(&["audit", "k-2", "--json"]));
    assert_eq!((one.len(), &one[0]["after"]), (1, &Value::Null), "{one:?}");
    let last = shelf.hapax(&["audit", "--limit", "1"]);
    assert!(last.stdout.contains("k-2") && !last.stdout.contains("k-1"), "{last:?}");
    assert_eq!(last.stderr, "these are the last; raise --limit to see earlier ones\n");
    let none = shelf.hapax(&["audit", "k-3"]);
    assert_eq!(
        none.stderr, "nobody has changed it by hand, nor has a resolver\n",
        "{none:?}"
    );
}

#[test]
fn records_tell_when_and_why() {
    let shelf = Shelf::sqlite();
    shelf.ended("waits", waiting());
    shelf.dead_with_input(&["died"], "status 503");
    let listed = objects(&shelf.hapax(&["records", "ls", "--json"]));
    assert_eq!(listed[0]["due"], listed[0]["until"]);
    assert!(listed[0]["due"].as_str().unwrap().starts_with("20"), "{listed:?}");
    assert_eq!(
        (&listed[0]["last_error"], &listed[0]["input_stored"]),
        (&json!("connection refused"), &json!(false))
    );
    assert_eq!(
        (
            &listed[1]["reason"],
            &listed[1]["last_error"],
            &listed[1]["input_stored"],
            &listed[1]["due"]
        ),
        (&json!("exhausted"), &json!("status 503"), &json!(true), &Value::Null)
    );
    let table = shelf.hapax(&["records", "ls"]).stdout;
    assert!(
        table.contains("waits  due 20") && table.contains(": connection refused\n"),
        "{table}"
    );
    assert!(table.contains("died  exhausted: status 503\n"), "{table}");
    let shown = shelf.hapax(&["records", "show", "died", "--json"]).json();
    assert_eq!(
        (
            &shown["input_bytes"],
            &shown["crashes"],
            &shown["last_error"],
            &shown["redriven"]
        ),
        (&json!(9), &json!(0), &json!("status 503"), &Value::Null)
    );
    assert!(
        shelf
            .hapax(&["records", "show", "waits"])
            .stdout
            .contains("\ndue                20")
    );
}
