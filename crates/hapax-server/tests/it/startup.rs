//! Mistakes: each is found before anything starts, and says what to write instead.

mod mistakes;

use std::net::TcpListener;
use std::process::Stdio;

use crate::support::{hapax, program};
use mistakes::FILES;

#[test]
fn every_mistake_in_a_file_is_shown_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hapax.toml");
    for (what, text, expected) in FILES {
        // What is right comes after, so that the place of the mistake is known.
        let mut whole = format!("{text}\n");
        let good = "upstream = \"http://127.0.0.1:9\"\nscope = \"none\"\n";
        for line in good.lines().filter(|line| !text.contains(&line[..5])) {
            match text.starts_with('[') || text.contains("\n[") {
                true => whole = format!("{whole}# {line}\n"),
                false => whole = format!("{whole}{line}\n"),
            }
        }
        std::fs::write(&file, &whole).unwrap();
        let ended = hapax(&["config", "check", file.to_str().unwrap()]);
        assert_eq!(ended.code, 2, "{what}: {ended:?}");
        for part in *expected {
            assert!(ended.stderr.contains(part), "{what}: no {part:?} in:\n{}", ended.stderr);
        }
        assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
    }
}

#[test]
fn a_good_file_passes_and_can_be_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hapax.toml");
    std::fs::write(
        &file,
        "upstream = \"http://127.0.0.1:9\"\nscope = \"none\"\nreplay_for = \"36h\"\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let checked = hapax(&["config", "check", path]);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{checked:?}");
    let way = "route default: remembered for 30d; longest way back 1d12h (a client that asks again: client_retries_for, by \
               default replay_for)";
    assert!(checked.stdout.contains(way), "{checked:?}");
    let shown = hapax(&[
        "config",
        "show",
        "--config",
        path,
        "--wait",
        "7s",
        "--store",
        "postgres://u:s3cret@h/d",
    ]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for line in [
        "replay_for = \"1d12h\"",
        "wait = \"7s\"",
        "lease = \"30s\"",
        "store = \"postgres://u:***@h/d\"",
        "classes = [",
        "breaker_open_at_most = \"10s\"",
        "concurrency = 16",
        "respond_async = false",
    ] {
        assert!(shown.stdout.contains(line), "no {line}: {}", shown.stdout);
    }
    std::fs::write(&file, shown.stdout.replace("u:***@", "u@")).unwrap();
    assert_eq!(
        hapax(&["config", "check", path]).code,
        0,
        "what is shown can be read again"
    );
    let schema = hapax(&["config", "schema"]).json();
    for key in [
        "when_store_is_down",
        "retry",
        "probe",
        "quota",
        "runner",
        "input",
        "respond_async",
    ] {
        assert!(schema["properties"][key].is_object(), "no {key}: {schema}");
    }
}

#[test]
fn without_a_scope_it_says_exactly_what_to_write() {
    let ended = hapax(&["serve", "--upstream", "http://127.0.0.1:9"]);
    assert_eq!(ended.code, 2);
    for line in [
        r#"scope = "header:Authorization""#,
        r#"scope = "jwt:sub""#,
        r#"scope = "none""#,
        "--scope",
    ] {
        assert!(ended.stderr.contains(line), "no {line}: {}", ended.stderr);
    }
}

#[test]
fn mistakes_on_the_command_line_name_their_flag() {
    for (arguments, expected) in [
        (&["--wait", "-5s"][..], "negative"),
        (&["--lease", "1h"], "--> --lease 1h on the command line"),
        (&["--scope", "nobody"], "header:NAME"),
        (&["--no-effect", "401,9"], "200 to 599"),
        (&["--profile", "strip"], "stripe"),
        (
            &["--config", "/no/such/file"],
            "cannot read the configuration /no/such/file",
        ),
        (&["--jwt-secret-file", "Cargo.toml"], "no scope uses them"),
        (&["--upstraem", "x"], "--upstream"),
    ] {
        let base = ["serve", "--upstream", "http://127.0.0.1:9", "--scope", "none"];
        let base = if arguments[0] == "--scope" {
            &base[..3]
        } else {
            &base[..]
        };
        let ended = hapax(&[base, arguments].concat());
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn what_cannot_be_had_is_no_mistake_of_usage() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, store) = (
        taken.local_addr().unwrap().to_string(),
        crate::support::sqlite(directory.path()),
    );
    let serve = |more: &[&str]| {
        let base = ["serve", "--upstream", "http://127.0.0.1:9", "--scope", "none"];
        hapax(&[&base[..], more].concat())
    };
    for arguments in [["--listen", &address], ["--admin", &address]] {
        let ended = serve(
            &[
                &arguments[..],
                &["--store", &store],
                if arguments[0] == "--admin" {
                    &["--listen", "127.0.0.1:0"]
                } else {
                    &[]
                },
            ]
            .concat(),
        );
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(
            ended.stderr.contains(&address) && ended.stderr.contains("another program listens there"),
            "{ended:?}"
        );
        assert_eq!(ended.stdout, "", "it never said that it listens");
    }
    let database = format!("postgres://u:s3cret@{address}/d?connect_timeout=1");
    drop(taken);
    let ended = serve(&["--store", &database, "--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
    let broken = directory.path().join("broken.db");
    std::fs::write(&broken, "this is no database, however long it is. ".repeat(100)).unwrap();
    let ended = serve(&[
        "--store",
        &format!("sqlite:{}", broken.display()),
        "--listen",
        "127.0.0.1:0",
    ]);
    assert_eq!(ended.code, 4, "{ended:?}");
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = crate::support::sqlite(directory.path());
    assert_eq!(hapax(&["migrate", "--store", &store]).code, 0);
    let database = rusqlite::Connection::open(directory.path().join("hapax.db")).unwrap();
    database
        .execute(
            "INSERT INTO hapax_migration (version, name, checksum, applied_at) VALUES (99, 'later', 'x', 0)",
            [],
        )
        .unwrap();
    drop(database);
    let ended = hapax(&[
        "serve",
        "--upstream",
        "http://127.0.0.1:9",
        "--scope",
        "none",
        "--store",
        &store,
    ]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("schema version 99"), "{ended:?}");
}

#[test]
fn help_teaches() {
    let ended = hapax(&["serve", "--help"]);
    assert_eq!(ended.code, 0);
    for part in ["--scope", "hapax serve --upstream", "SIGTERM", "503 with Retry-After"] {
        assert!(ended.stdout.contains(part), "no {part}: {}", ended.stdout);
    }
    assert_eq!(hapax(&["--version"]).code, 0);
    assert_eq!(hapax(&[]).code, 2, "a command is missing");
}

#[test]
fn a_closed_pipe_is_no_panic() {
    for arguments in [&["config", "schema"][..], &["serve", "--help"]] {
        let mut child = program()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
    }
}
