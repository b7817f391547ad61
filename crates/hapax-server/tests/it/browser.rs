//! The module for browsers and its example, in a real browser: `clients/browser`, `examples/browser`.
//!
//! One start of the browser for all. Its page, `clients/browser/tests/harness.html`, does the work and reports.

mod front;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;

use self::front::Front;
use crate::support::{Gateway, Process, ShopServer};

/// How long all checks together may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What must have been checked: a check that did not run is missed here.
const CHECKS: &[&str] = &[
    // units.js, form-units.js
    "a key lives until its intent is finished or renewed",
    "a key is made without randomUUID",
    "a full storage leaves the key in memory",
    "a new key is refused while the outcome is not known",
    "what is kept has no headers, and goes with a refusal",
    "a reload sends the same bytes under the same key",
    "back-off doubles up to its cap, with full jitter",
    "the advice of the server is followed",
    "nothing is asked after the deadline",
    "a request that takes too long is cut off and sent again",
    "each answer has its state",
    "times are the server’s where it names them",
    "a refusal after a lost answer does not say that nothing happened",
    "a key used for another request is an error of the page",
    "an accepted operation is polled, and its answer fetched",
    "an accepted operation that died needs help",
    "a 202 without a status of hapax is an answer",
    "a second send joins the first",
    "an abort stops the retries, a joined one only itself",
    "headers can be fresh for each request",
    "a listener that throws stops nothing",
    "what cannot be sent again is refused",
    "a form is locked while it is under way",
    "the fields stay locked until the outcome is known",
    "starting over stops what is under way",
    // harness.js
    "a double click orders once",
    "without a key a double click orders twice",
    "a reload in mid-flight goes on with the same key",
    "the back button finds the same order",
    "an acknowledged order is over",
    "an edit after the answer is a new intent",
    "a lost answer needs help, and no new key",
    "a busy shop is asked again",
    "the gateway refuses another request under the same key",
    "an answer that was too large to keep is done",
    "the status of an operation can be read",
    "the gateway runs an accepted order later, and its answer is fetched",
    // stub.js
    "a dropped connection is tried again with the same key",
    "an answer cut half-way is no answer",
    "a 202 is polled until it is done",
];

/// What the page without keys did twice.
const WITHOUT_KEY: u64 = 2;

#[derive(Deserialize)]
struct Report {
    checks: Vec<Check>,
    /// The key of each intent that ordered something.
    keys: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    /// Why it failed, if it did.
    error: Option<String>,
}

#[test]
fn a_browser_orders_once_whatever_its_user_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shop = ShopServer::with_pages(&[&root.join("examples/browser"), &root.join("clients/browser")]);
    let front = Front::start(shop.addr);
    let store = tempfile::tempdir().unwrap();
    let gateway = Gateway::before(front.addr, store.path(), &["--wait", "300ms", "--respond-async"]);
    let profile = tempfile::tempdir().unwrap();
    let page = format!("http://{}/tests/harness.html?stub=http://{}", gateway.addr, front.addr);

    let mut browser = start(profile.path(), &page);
    let report = front.report(LIMIT);
    let log = browser.log();
    browser.signal(Signal::TERM);
    browser.wait();

    let report = report.unwrap_or_else(|| panic!("the page did not report; the browser said: {log}"));
    let report: Report = serde_json::from_str(&report).unwrap();
    let failed = report.checks.iter().filter_map(|check| {
        let error = check.error.as_ref()?;
        Some(format!("{}: {error}", check.name))
    });
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let ran: BTreeSet<_> = report.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(ran, CHECKS.iter().copied().collect());

    let effects = shop.ledger().effects_by_key().unwrap();
    for (intent, key) in &report.keys {
        assert_eq!(effects.get(key), Some(&1), "effects of {intent:?}: {effects:?}");
    }
    assert_eq!(
        report.keys.len(),
        effects.len(),
        "every key in the ledger is an intent's"
    );
    assert_eq!(shop.effects(), effects.len() as u64 + WITHOUT_KEY);
}

/// Starts the browser, its files in `profile`.
#[track_caller]
fn start(profile: &Path, page: &str) -> Process {
    let found = Command::new("chromium").arg("--version").output();
    assert!(
        found.is_ok(),
        "Chromium is not installed. Next: `cargo xtask setup`, or \
         `apt-get install -y --no-install-recommends chromium`"
    );
    let mut command = Command::new("chromium");
    command
        .env("HOME", profile)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args(["--no-first-run", "--disable-extensions", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(page);
    Process::spawn(&mut command)
}
