//! `hapax records` and `hapax migrate` on the store of a gateway.

use serde_json::{Value, json};

use crate::support::{Ask, Ended, Gateway, ShopServer, hapax, sqlite};

fn lines(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, 0, "{ended:?}");
    ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn records_are_listed_shown_and_forgotten() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let store = sqlite(directory.path());
    let gateway = Gateway::before(shop.addr, directory.path(), &["--scope", "header:X-Shop"]);
    let order = |key: &str, who: &str| gateway.send(&Ask::order(key, 1).header("X-Shop", who));
    let first = order("k-1", "north");
    order("k-1", "south");
    gateway.send(
        &Ask::order("k-2", 1)
            .header("X-Shop", "north")
            .header("X-Shop-Fail", "reset-after"),
    );
    let records = |arguments: &[&str]| hapax(&[&["records"], arguments, &["--store", &store]].concat());

    // Beside the running gateway.
    let all = lines(&records(&["ls", "--json"]));
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(
        (&all[0]["key"], &all[0]["state"], &all[0]["status"]),
        (&json!("k-1"), &json!("done"), &json!(201))
    );
    assert!(
        all.iter().all(|record| !record.to_string().contains("north")),
        "scopes are digests: {all:?}"
    );
    assert_eq!(
        lines(&records(&["ls", "--json", "--state", "unknown"]))[0]["key"],
        "k-2"
    );
    let scope = all[0]["scope"].as_str().unwrap();
    assert_eq!(lines(&records(&["ls", "--json", "--scope", scope])).len(), 2);
    assert_eq!(lines(&records(&["ls", "--json", "--name", "nothing"])).len(), 0);
    let cut = records(&["ls", "--json", "--limit", "2"]);
    assert_eq!(lines(&cut).len(), 2);
    assert!(cut.stderr.contains("there are more"), "{cut:?}");
    let table = records(&["ls"]).stdout;
    assert!(table.starts_with("STATE") && table.contains("unknown"), "{table}");

    let which = records(&["show", "k-1"]);
    assert_eq!(which.code, 2, "{which:?}");
    assert!(which.stderr.contains(&format!("--scope {scope}")), "{which:?}");
    let shown = records(&["show", "k-1", "--scope", scope, "--json"]).json();
    assert_eq!(
        (&shown["state"], &shown["answer"]["status"]),
        (&json!("done"), &json!(201))
    );
    assert_eq!(shown["answer"]["body"], Value::Null, "only when asked for");
    let shown = records(&["show", "k-1", "--scope", scope, "--json", "--body"]).json();
    assert_eq!(shown["answer"]["body"], first.body.as_str());
    let plain = records(&["show", "k-1", "--scope", scope, "--body"]).stdout;
    assert!(plain.ends_with(&format!("\n\n{}\n", first.body)), "{plain}");
    let absent = records(&["show", "k-9"]);
    assert_eq!(
        (absent.code, absent.stderr.contains("no record")),
        (1, true),
        "{absent:?}"
    );

    drop(gateway);
    let unexplained = records(&["forget", "k-2"]);
    assert_eq!(
        (unexplained.code, unexplained.stderr.contains("--reason")),
        (2, true),
        "{unexplained:?}"
    );
    let refused = records(&["forget", "k-2", "--reason", "test"]);
    assert_eq!(
        (refused.code, refused.stderr.contains("--even-unknown")),
        (1, true),
        "{refused:?}"
    );
    let forgotten = records(&["forget", "k-2", "--even-unknown", "--json", "--reason", "test"]).json();
    assert_eq!(
        (&forgotten["forgotten"], &forgotten["key"]),
        (&json!(true), &json!("k-2"))
    );
    assert_eq!(
        records(&["forget", "k-1", "--scope", scope, "--reason", "test"]).code,
        0
    );
    let gateway = Gateway::before(shop.addr, directory.path(), &["--scope", "header:X-Shop"]);
    let again = gateway.send(&Ask::order("k-1", 1).header("X-Shop", "north"));
    assert!(!again.is_replay(), "it runs again");
    assert!(
        gateway
            .send(&Ask::order("k-1", 1).header("X-Shop", "south"))
            .is_replay()
    );
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(directory.path());
    for arguments in [
        &["records", "ls"][..],
        &["records", "show", "k"],
        &["migrate", "status"],
    ] {
        let ended = hapax(&[arguments, &["--store", &store]].concat());
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(ended.stderr.contains("there is no store"), "{ended:?}");
    }
    let ended = hapax(&["records", "ls", "--state", "happy", "--store", &store]);
    assert_eq!(
        (
            ended.code,
            ended.stderr.contains("running, waiting, unknown, done, dead")
        ),
        (2, true),
        "{ended:?}"
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn migrations_go_up_and_down() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(directory.path());
    let migrate = |arguments: &[&str]| hapax(&[&["migrate", "--store", &store], arguments].concat());
    assert!(migrate(&["--dry-run"]).stdout.contains("would be made"));
    let up = migrate(&[]);
    assert_eq!(
        (up.code, up.stdout.as_str()),
        (
            0,
            "applied migration 1 (records)\napplied migration 2 (queue)\napplied migration 3 (groups)\n"
        ),
        "{up:?}"
    );
    assert_eq!(migrate(&[]).stdout, "nothing to do\n");
    let empty = hapax(&["records", "ls", "--store", &store]);
    assert_eq!(
        (empty.code, empty.stdout.as_str(), empty.stderr.as_str()),
        (0, "", "no records\n")
    );
    let narrowed = hapax(&["records", "ls", "--key", "k", "--store", &store]);
    assert_eq!(
        narrowed.stderr,
        "no record fits; ask for less with --state, --scope, --name or --key\n"
    );
    assert_eq!(
        migrate(&["--dry-run", "--to", "0"]).stdout,
        "would revert migration 3 (groups)\nwould revert migration 2 (queue)\nwould revert migration 1 (records)\n"
    );
    let status = hapax(&["migrate", "status", "--store", &store]);
    assert!(
        status.stdout.contains("records") && status.stdout.contains("applied 20"),
        "{status:?}"
    );
    assert_eq!(migrate(&["--to", "7"]).code, 2);
    assert_eq!(
        migrate(&["--to", "0"]).stdout,
        "reverted migration 1 (records)\nreverted migration 2 (queue)\nreverted migration 3 (groups)\n"
    );
    let unusable = hapax(&["records", "ls", "--store", &store]);
    assert_eq!(unusable.code, 3, "{unusable:?}");
    assert!(unusable.stderr.contains("hapax migrate --store"), "{unusable:?}");
}
